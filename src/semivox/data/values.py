"""Values: what is wrong with the numbers that the images and the label of a case hold."""

import math
from collections.abc import Sequence
from typing import Literal

import numpy as np

from semivox.data.cases import Case
from semivox.data.dataset import Dataset
from semivox.data.faults import Fault
from semivox.data.volume import Volume, not_whole


def value_faults(case: Case, images: Sequence[Volume], arrays: Sequence[np.ndarray]) -> list[Fault]:
    """Return a fault for values that are no numbers, and for an image without contrast.

    Args:
        case: whose images they are.
        images: what of them can be read.
        arrays: (C, X, Y, Z) float32 each, as `floats` gives them.
    """
    faults, ranges = [], []
    for image, array in zip(images, arrays, strict=True):
        finite = np.isfinite(array)
        broken = int(array.size - finite.sum())
        if broken:
            faults.append(
                Fault("error", case.name, f"{image.path.name} has values that are no numbers", f"{broken} NaN or inf",
                      "finite values in float32", "replace them, or export the scan anew")
            )  # fmt: skip
        ranges += [(image.path.name, *_range(channel, there)) for channel, there in zip(array, finite, strict=True)]
    # One flat channel of several may be meant: a sequence that was not taken, filled with zeros.
    severity: Literal["error", "warning"] = "error" if not any(low < high for _, low, high in ranges) else "warning"
    flat = [
        Fault(severity, case.name, f"{name} has no contrast", f"{low:g} everywhere" if low == high else "no number",
              "two different values or more in a channel", "export the scan anew, or remove it")
        for name, low, high in ranges if not low < high
    ]  # fmt: skip
    return faults + list(dict.fromkeys(flat))


def _range(channel: np.ndarray, finite: np.ndarray) -> tuple[float, float]:
    """Return the least and the largest number; NaN where there is none."""
    values = channel if finite.all() else channel[finite]
    return (float(values.min()), float(values.max())) if values.size else (math.nan, math.nan)


def floats(array: np.ndarray) -> np.ndarray:
    """Return values as float32, of which those beyond its range are infinite."""
    with np.errstate(over="ignore"):  # beyond float32 is inf, which is a fault of its own
        return array.astype(np.float32)


def label_faults(case: Case, label: Volume, dataset: Dataset) -> list[Fault]:
    """Return what is wrong with a label's values."""
    name = label.path.name
    if label.channels != 1:
        return [
            Fault("error", case.name, f"label {name} has channels", str(label.channels), "1",
                  "store class indices, not one-hot")
        ]  # fmt: skip
    broken = not_whole(label.array)
    if broken.size:
        return [
            Fault("error", case.name, f"label {name} is not of whole numbers",
                  f"{broken.size} voxels such as {broken[0]:.6g}", "class indices",
                  "resample labels by nearest neighbour")
        ]  # fmt: skip
    values = np.rint(np.unique(label.array)).astype(int).tolist()
    known = {*dataset.label_values} | ({dataset.ignore} if dataset.ignore is not None else set())
    faults = []
    outside = [value for value in values if value not in known]
    if known and outside:
        faults.append(
            Fault("error", case.name, f"label {name} has values that dataset.json does not name", f"{outside[:10]}",
                  f"{sorted(known)}", "name them under 'labels', or correct the label")
        )  # fmt: skip
    if not {*values} - {0, dataset.ignore}:
        faults.append(
            Fault("warning", case.name, f"label {name} is empty", "background alone", "some foreground",
                  "check that the case shows none, or remove the label: the scan then counts as unlabelled")
        )  # fmt: skip
    return faults
