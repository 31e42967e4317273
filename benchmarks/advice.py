"""What `semivox advise` says of phantoms on which unlabelled scans can help, and of ones on which they cannot.

    python benchmarks/advice.py runs/advice --seeds 0 1 2 -o benchmarks/results/advice.csv

The target is a bright ball. On the first kind it comes in every contrast, with noise, shading and a paler ball beside
it, so that the few labelled scans do not show all there is, and 30 unlabelled ones do. On the second it is alone,
always equally bright and hardly noisy: four labels show everything, and nothing is left for the unlabelled scans.

A folder that holds a finished advice is not trained again; `cpu_seconds` are those of this call.
"""

import argparse
import json
import time
from pathlib import Path

import nibabel
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from semivox.advice.advise import advise
from semivox.files import write_table

KINDS = ("varied", "plain")
SHAPE = (24, 24, 6)
LABELLED, UNLABELLED = 8, 30
CONFIG = """
steps = 200
batch_labelled = 4
batch_unlabelled = 4
dims = 2
slice_axis = 2
patch = [24, 24]
checkpoint_every = 200
net = {name = "unet", filters = 8, levels = 3, dropout = 0.0, norm = "instance"}
predict = {batch = 16}

[method]
geometry = "affine"
intensity = "strong"
optimizer = "adamw"
lr = 0.003
weight_decay = 0.01
schedule = "poly"

[methods.averaged_match]
warm = 0.33
ema_decay = 0.99
"""


def write_scans(folder: Path, kind: str, seed: int) -> Path:
    """Write a data folder of one kind and return it; one that is there stays."""
    if (folder / "dataset.json").exists():
        return folder
    for part in ("imagesTr", "labelsTr", "imagesUn"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    for index in range(LABELLED + UNLABELLED):
        image, label = scan(generator, kind)
        where, name = ("imagesTr" if index < LABELLED else "imagesUn"), f"ball_{index:03d}"
        nibabel.save(nibabel.Nifti1Image(image, np.eye(4)), folder / where / f"{name}_0000.nii.gz")
        if index < LABELLED:
            nibabel.save(nibabel.Nifti1Image(label, np.eye(4)), folder / "labelsTr" / f"{name}.nii.gz")
    description = {
        "name": kind,
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "ball": 1},
        "numTraining": LABELLED,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


def scan(generator: np.random.Generator, kind: str) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Return an image and its label, (X, Y, Z)."""
    varied = kind == "varied"
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, side) for side in SHAPE), indexing="ij"))
    label = _ball(grid, generator.uniform(-0.4, 0.4, 3), generator.uniform(0.3, 0.5, 3))
    paler = _ball(grid, generator.uniform(-0.8, 0.8, 3), np.full(3, 0.35)) & ~label
    contrast = generator.uniform(0.5, 1.5) if varied else generator.uniform(2.0, 2.2)
    noise = generator.uniform(10, 20) if varied else generator.uniform(3, 4)
    image = 100 + 60 * contrast * label + 30 * contrast * paler * varied
    shade = ndimage.gaussian_filter(generator.standard_normal(SHAPE), (6, 6, 2))
    image = ndimage.gaussian_filter(image * np.exp(3 * shade * varied), 0.6)
    return (image + noise * generator.standard_normal(SHAPE)).astype(np.float32), label.astype(np.uint8)


def _ball(grid: NDArray[np.float64], centre: NDArray[np.float64], radius: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return where a grid (3, X, Y, Z) lies within an ellipsoid."""
    inside: NDArray[np.bool_] = (((grid - centre.reshape(3, 1, 1, 1)) / radius.reshape(3, 1, 1, 1)) ** 2).sum(0) < 1
    return inside


def row(folder: Path, kind: str, seed: int) -> dict[str, str]:
    """Return what is said of one phantom, trained in `folder` where it is not yet."""
    data = write_scans(folder / "data", kind, seed)
    (folder / "advice.toml").write_text(CONFIG)
    started = time.process_time()
    found = advise(data, output=folder / "out", config=folder / "advice.toml", folds=2, draws=5, cache=folder / "cache",
                   device="cpu")  # fmt: skip
    spent = time.process_time() - started
    compared = found.finding.comparison
    numbers = {"supervised": compared.control_mean, "averaged_match": compared.mean, "difference": compared.difference}
    numbers |= {"low": compared.low, "high": compared.high, "p": compared.p}
    labels = found.labels
    return {
        "kind": kind,
        "seed": str(seed),
        **{name: f"{number:.3f}" for name, number in numbers.items()},
        "says": found.finding.word,
        "doubling": f"{labels.doubling:+.3f}" if labels else "",
        "unlike": str(len(found.unlike)),
        "cpu_seconds": f"{spent:.0f}",
    }


def main() -> None:
    """Write the table, a row as soon as its advice is there."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("-o", "--output", type=Path, required=True)
    asked = parser.parse_args()
    rows: list[dict[str, str]] = []
    for seed in asked.seeds:
        for kind in KINDS:
            rows.append(row(asked.folder / f"{kind}-{seed}", kind, seed))
            write_table(asked.output, list(rows[0]), rows)
            print(rows[-1], flush=True)


if __name__ == "__main__":
    main()
