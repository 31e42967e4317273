"""Toy pictures: coloured shapes as RGB files in nnU-Net layout, index PNGs with an ignored rim as labels."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

LABELS = {"ground": 0, "disc": 1, "box": 2, "ignore": 255}
SIZES = ((40, 56), (36, 64))
"""Rows and columns, in turn."""


def write_toy_pictures(
    folder: Path, *, cases: int = 8, unlabelled: int = 3, ending: str = ".png", suffix: str = "_0000"
) -> Path:
    """Write a data folder of `cases` pictures, the last ones without a label, and return it."""
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    for case in range(cases):
        image, label = toy_picture(case, SIZES[case % 2])
        Image.fromarray(image).save(folder / f"imagesTr/case_{case:02d}{suffix}{ending}")
        if case < cases - unlabelled:
            Image.fromarray(label).convert("P").save(folder / f"labelsTr/case_{case:02d}.png")
    description = {"channel_names": {"0": "red", "1": "green", "2": "blue"}, "labels": LABELS, "file_ending": ending}
    (folder / "dataset.json").write_text(json.dumps(description))
    return folder


def toy_picture(seed: int, size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Return uint8 RGB (rows, columns, 3) of a red disc at the left and a blue box at the right, and its label."""
    generator = np.random.default_rng(seed)
    rows, columns = np.indices(size)
    down, across = generator.integers(12, size[0] - 12, 2), generator.integers(12, size[1] // 2 - 8, 2)
    far = np.hypot(rows - down[0], columns - across[0])
    beside = np.maximum(abs(rows - down[1]), abs(columns - across[1] - size[1] // 2))
    label = np.select([far < 7, beside < 6, (far < 8) | (beside < 7)], [1, 2, 255], 0).astype(np.uint8)
    image = generator.normal(60, 15, (*size, 3))
    image[..., 0] += 120 * (far < 7.5)
    image[..., 2] += 120 * (beside < 6.5)
    return image.clip(0, 255).astype(np.uint8), label
