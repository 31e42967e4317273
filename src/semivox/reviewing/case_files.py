"""What the review page loads when a case is opened: the scan in 8 bits and its mask, as a script in a folder.

A page that is opened by a double click may not read files beside it, but it may load scripts. So each case is a script
of one call, ``semivoxCase({...})``, whose voxels are deflated, in base64:

=========  ===========================================================================================================
key        meaning
=========  ===========================================================================================================
case       its name
shape      voxels shown, [x, y, z], in the closest-to-RAS+ orientation
spacing    size of these, in mm (pictures: pixels)
original   {"shape", "spacing"} of the scan itself, where it is shown with fewer voxels; else null
unit       "mm" or "pixels"
range      [low, high]: the intensities that 0 and 255 stand for
channels   of each channel x * y * z bytes, x fastest; each but a row's first is less the one before it, modulo 256
mask       x * y * z bytes, x fastest: 0, or 1 and on in the order of the page's classes
colour     whether three channels are red, green and blue
=========  ===========================================================================================================
"""

import base64
import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semivox.data.pictures import drawn_as_scan, is_picture
from semivox.data.resampling import resample
from semivox.data.volume import read_image, read_label
from semivox.files import write_atomic

ROBUST = (0.5, 99.5)
"""Percentiles of a scan's intensities that become 0 and 255: a few bright voxels do not make all others dark."""
TEXT = 4 / 3
"""Letters of base64 that a byte takes."""


def write_case(
    case: str, scan: Sequence[Path], mask: Path, output: Path, *, labels: Sequence[int], most: int
) -> tuple[int, ...]:
    """Write the script of a case, and return how many voxels (x, y, z) it shows.

    Args:
        case: its name.
        scan: its files.
        mask: the file of its mask.
        output: the script.
        labels: the value of each class in masks, in the order of the page's classes.
        most: bytes that it may take; a scan that takes more is shown with fewer, larger voxels.

    Raises:
        DatasetError: scan or mask cannot be read.
        RunError: the script cannot be written.
    """
    image, label = read_image(list(scan)), read_label(mask)
    picture = is_picture(mask)
    array, classes = (drawn_as_scan(v.array) if picture else v.array for v in (image, label))
    numbers = np.zeros(classes.shape, np.uint8)
    for number, value in enumerate(labels, 1):
        numbers[classes == value] = number
    low, high = (float(value) for value in np.percentile(array, ROBUST))
    if not low < high:
        low, high = float(array.min()), float(array.max())
    shown = _fitting(array, numbers, label.spacing, (low, high), most)
    content = {
        "case": case,
        **shown,
        "unit": "pixels" if picture else "mm",
        "range": [low, high],
        "colour": len(array) == 3 and classes.shape[2] == 1,
    }
    script = f"semivoxCase({json.dumps(content, separators=(',', ':'))});\n"
    write_atomic(output, lambda file: file.write(script.encode()))
    return tuple(shown["shape"])


def _fitting(
    array: NDArray[Any], mask: NDArray[np.uint8], spacing: Sequence[float], limits: tuple[float, float], most: int
) -> dict[str, Any]:
    """Return shape, spacing, original, channels and mask, of so many voxels that they take `most` bytes."""
    voxels = min(mask.size, 8 * most // len(array))  # a voxel that takes less than a bit is rare
    while True:
        lengths = _lengths(mask.shape, spacing, voxels)
        factors = [size / length for size, length in zip(mask.shape, lengths, strict=True)]
        fewer = lengths != mask.shape
        channels = [resample(c, lengths, factors, ["linear"] * 3) if fewer else c for c in array]
        drawn = resample(mask, lengths, factors, ["nearest"] * 3).astype(np.uint8) if fewer else mask
        texts = [_text(_differences(_grey(channel, limits))) for channel in channels]
        outlined = _text(drawn)
        size = sum(map(len, texts)) + len(outlined)
        if size <= most or voxels <= 1000:
            return {
                "shape": list(lengths),
                "spacing": [float(s * f) for s, f in zip(spacing, factors, strict=True)],
                "original": {"shape": list(mask.shape), "spacing": [*map(float, spacing)]} if fewer else None,
                "channels": texts,
                "mask": outlined,
            }
        voxels = int(min(voxels, drawn.size) * min(0.95, 0.97 * most / size))


def _lengths(shape: Sequence[int], spacing: Sequence[float], voxels: int) -> tuple[int, ...]:
    """Return a shape of at most so many voxels for the same space: the finest axes are made coarser first."""
    edge = min(spacing)
    while True:
        coarse = [max(s, edge) / s for s in spacing]
        lengths = tuple(max(1, round(size / factor)) for size, factor in zip(shape, coarse, strict=True))
        if np.prod(lengths) <= voxels or max(lengths) == 1:
            return lengths
        edge *= 1.01


def _grey(channel: NDArray[Any], limits: tuple[float, float]) -> NDArray[np.uint8]:
    low, high = limits
    scaled = (channel - low) * (255 / max(high - low, 1e-30))
    return np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)


def _differences(grey: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return what each voxel has more than its neighbour in x, modulo 256: it deflates better."""
    less = grey.copy()
    less[1:] -= grey[:-1]
    return less


def _text(values: NDArray[np.uint8]) -> str:
    """Return (X, Y, Z) bytes, x fastest, deflated, in base64."""
    return base64.b64encode(zlib.compress(values.tobytes(order="F"), 6)).decode()
