"""From the recipes, fixed, to masks of the test scans, whose labels nobody here has.

    SEMIVOX_DATA=... python benchmarks/seal.py RUNS [--only acdc ...] [--seeds 0 1 2] [--precision bf16]

Trains every row of benchmarks/predictions/recipes.toml on `imagesTr` (the first scans or patients of the row's `order`
labelled, all others unlabelled, nothing held out) and predicts `imagesTs` once. Masks go to
benchmarks/predictions/DATASET/METHOD-LABELLED-seedS.npz: for each case the label array as its file would hold it,
uint8. What exists is skipped, and a run that was cut is gone on with.
"""

import argparse
import tomllib
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from PIL import Image

from semivox.benchmarking.bench import find_data
from semivox.data.dataset import read_dataset
from semivox.data.formats import bare_name
from semivox.data.patients import patient_of
from semivox.data.splitting import Split, make_split
from semivox.prediction.files import predict
from semivox.training.start import train

HERE = Path(__file__).parent


def split_of(data: Path, row: dict[str, Any], labelled: int) -> Split:
    """Return the split in which the first `labelled` names of the row's order, or else of all, have their labels."""
    dataset, patients = read_dataset(data), row.get("patients")
    cases = dataset.labelled
    order = list(dict.fromkeys([*row.get("order", ()), *(patient_of(case, patients) for case in cases)]))
    return make_split(
        dataset,
        labelled=[case for case in cases if patient_of(case, patients) in order[:labelled]],
        held_out=0,
        patients=patients,
    )


def seal(
    name: str, row: dict[str, Any], method: str, labelled: int, seed: int, runs: Path, *, precision: str = "auto"
) -> None:
    """Train, predict and pack one run, unless its masks are there."""
    packed = HERE / "predictions" / name / f"{method}-{labelled}-seed{seed}.npz"
    if packed.exists():
        return
    data, folder = find_data(row["data"]), runs / name / packed.stem
    split = split_of(data, row, labelled)
    outcome = train(
        data,
        output=folder / "run",
        method=method,
        split=split,
        config=row["config"],
        settings={"seed": seed, "precision": precision, **row.get("set", {})},
        resume=True,
        on_row=lambda line, steps: print(f"{name} {packed.stem}: step {line['total_step']} of {steps}", flush=True),
    )
    masks = predict([outcome.run], [data / "imagesTs"], output=folder / "masks")
    packed.parent.mkdir(parents=True, exist_ok=True)
    np.savez_compressed(packed, **{bare_name(mask): values_of(mask) for mask in masks})


def values_of(mask: Path) -> np.ndarray:
    """Return a mask as its file holds it, in the file's order of axes, uint8."""
    array = np.asarray(Image.open(mask) if mask.suffix == ".png" else nib.load(mask).dataobj)
    if not np.array_equal(array, array.astype(np.uint8)):
        raise SystemExit(f"{mask}: expected class indices from 0 to 255")
    return array.astype(np.uint8)


def main() -> None:
    """Seal what the command line names, seed by seed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, help="folder of the runs; they are not committed")
    parser.add_argument("--only", nargs="+", help="data sets, by their names in recipes.toml; by default all")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--precision", default="auto", help='"bf16" halves the time on a CPU with AVX-512 BF16')
    words = parser.parse_args()
    rows = tomllib.loads((HERE / "predictions" / "recipes.toml").read_text())
    for seed in words.seeds:
        for name in words.only or rows:
            for method, budgets in rows[name]["labelled"].items():
                for labelled in budgets:
                    seal(name, rows[name], method, labelled, seed, words.runs, precision=words.precision)


if __name__ == "__main__":
    main()
