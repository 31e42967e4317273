"""Toy data: tiny NIfTI folders in nnU-Net layout, bright blobs on noise, that any net learns within a few steps."""

import json
from collections.abc import Sequence
from pathlib import Path

import nibabel as nib
import numpy as np


def write_toy_dataset(
    folder: Path,
    *,
    cases: int = 6,
    shape: Sequence[int] = (20, 18, 12),
    spacing: Sequence[float] = (1.0, 1.0, 2.0),
    channels: int = 1,
    classes: int = 2,
    unlabelled: int = 2,
    seed: int = 0,
) -> Path:
    """Write a data folder and return it.

    Cases are ``case_00`` ... in imagesTr, `cases` in total; the last `unlabelled` of them have no label. Files are
    RAS+ with an origin off zero. `classes` counts the background.
    """
    folder = Path(folder)
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    generator = np.random.default_rng(seed)
    affine = np.diag([*spacing, 1.0])
    affine[:3, 3] = -10.0, 5.0, 30.0
    for index in range(cases):
        case = f"case_{index:02d}"
        image, label = toy_scan(shape, channels=channels, classes=classes, generator=generator)
        for channel, array in enumerate(image):
            nib.save(nib.Nifti1Image(array, affine), folder / "imagesTr" / f"{case}_{channel:04d}.nii.gz")
        if index < cases - unlabelled:
            nib.save(nib.Nifti1Image(label, affine), folder / "labelsTr" / f"{case}.nii.gz")
    write_description(folder, channels=channels, classes=classes, training=cases - unlabelled)
    return folder


def toy_scan(
    shape: Sequence[int], *, channels: int, classes: int, generator: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return an image (C, X, Y, Z) float32 and its label (X, Y, Z) uint8: an ellipsoid per class, brighter by class."""
    grid = np.stack(np.meshgrid(*(np.linspace(-1, 1, n) for n in shape), indexing="ij"))
    label = np.zeros(tuple(shape), np.uint8)
    for value in range(1, classes):
        centre = generator.uniform(-0.5, 0.5, 3).reshape(3, 1, 1, 1)
        label[(((grid - centre) / 0.45) ** 2).sum(0) < 1] = value
    noise = generator.normal(size=(channels, *shape))
    # The contrast differs by channel, so that channels told apart wrongly change the result.
    gain = np.arange(channels, 0, -1).reshape(-1, 1, 1, 1)
    return (100 + 10 * noise + 60 * gain * label).astype(np.float32), label


def write_description(folder: Path, *, channels: int, classes: int, training: int) -> None:
    """Write the dataset.json of nnU-Net version 2."""
    names = ("background", *(f"blob_{value}" for value in range(1, classes)))
    description = {
        "name": "toy",
        "channel_names": {str(channel): f"MR_{channel}" for channel in range(channels)},
        "labels": {name: value for value, name in enumerate(names)},
        "numTraining": training,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(description, indent=1))
