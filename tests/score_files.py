"""Score files as `evaluate` leaves them, with tiny scans, masks, logs and configs: what a report reads."""

import csv
import json
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np

CASES = [f"case_{n}" for n in range(7)]
LABELLED, UNLABELLED = ["case_70", "case_71"], ["case_80", "case_81", "case_82"]
COLUMNS = ["case", "label", "name", "dice", "jaccard", "hd95_mm", "asd_mm", "assd_mm", "nsd_at_2mm", "truth_ml",
           "predicted_ml", "failure"]  # fmt: skip
AFFINE = np.diag([1.0, 1, 3, 1])


def write_experiment(
    root: Path, *, methods: Sequence[str], seeds: Sequence[int] = (0, 1), classes: Sequence[str] = ("atrium",)
) -> list[Path]:
    """Write scans, labels and a run per method and seed; return the score files.

    Later methods score .05 higher; the truth of class k is k cubes of 8 voxels, and a prediction is shifted by a voxel.
    """
    for name in ("labels", "images"):
        (root / name).mkdir(parents=True, exist_ok=True)
    truth = np.zeros((24, 20, 5), np.uint8)
    for value in range(1, len(classes) + 1):
        truth[3 * value : 3 * value + 2, 4 : 4 + 2 * value, 1:3] = value
    for case in CASES:
        nib.save(nib.Nifti1Image(truth, AFFINE), root / "labels" / f"{case}.nii.gz")
        nib.save(nib.Nifti1Image(truth.astype(np.float32), AFFINE), root / "images" / f"{case}_0000.nii.gz")
    return [
        _write_run(root, method, seed, np.roll(truth, order, 1), classes, gain=0.05 * order)
        for order, method in enumerate(methods)
        for seed in seeds
    ]


def _write_run(
    root: Path, method: str, seed: int, mask: np.ndarray, classes: Sequence[str], *, gain: float
) -> Path:
    folder = root / f"{method}_{seed}"
    for name in ("masks", "run"):
        (folder / name).mkdir(parents=True)
    for case in CASES:
        nib.save(nib.Nifti1Image(mask, AFFINE), folder / "masks" / f"{case}.nii.gz")
    with (folder / "scores.csv").open("w", newline="") as file:
        table = csv.writer(file)
        table.writerow(COLUMNS)
        for n, case in enumerate(CASES):
            for value, name in enumerate(classes, start=1):
                dice = 0.6 + 0.03 * n + gain
                table.writerow([case, value, name, dice, dice / (2 - dice), 5 - n / 2, 2, 2, 0.5, 10 * value, 9 + n, 0])
    _write_run_folder(folder / "run")
    images = {case: [str(root / "images" / f"{case}_0000.nii.gz")] for case in CASES}
    prediction = {"run": [str(folder / "run")], "method": method, "group": method, "seed": seed, "split": "s",
                  "images": images, "command": "semivox predict RUN SCANS -o masks"}  # fmt: skip
    info = {"unit": "mm", "labels": str(root / "labels"), "masks": str(folder / "masks"), "prediction": prediction}
    (folder / "scores.json").write_text(json.dumps(info))
    return folder / "scores.csv"


def _write_run_folder(run: Path) -> None:
    (run / "config.toml").write_text("steps = 20\n")
    (run / "run.json").write_text(json.dumps({"started": "2026-03-01T09:30:00+00:00"}))
    (run / "split.json").write_text(json.dumps({"labelled": LABELLED, "unlabelled": UNLABELLED, "held_out": CASES}))
    rows = [{"step": n, "stage": "train", "total": 1 / (n + 1), "losses": {"seg": 1 / (n + 1)}, "seconds": 30.0}
            for n in range(20)]  # fmt: skip
    (run / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
