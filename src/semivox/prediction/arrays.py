"""Arrays from anywhere as the volumes that a predictor takes."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from semivox.data.volume import Source, Volume
from semivox.errors import GeometryError


def volume_of(array: np.ndarray, spacing: Sequence[float] | None) -> Volume:
    """Return an array as a volume, (C, X, Y, Z) float32, whose first voxel lies at the origin.

    Args:
        array: (X, Y, Z) or (C, X, Y, Z); x leads to the right, y to the front, z to the head.
        spacing: mm along x, y, z.

    Raises:
        GeometryError: other axes, or a spacing that is not three lengths.
    """
    if array.ndim not in (3, 4):
        raise GeometryError(f"array: found the shape {array.shape}, expected (X, Y, Z) or (C, X, Y, Z)")
    sides = np.asarray(() if spacing is None else spacing, np.float64)
    if sides.shape != (3,) or not (np.isfinite(sides) & (sides > 0)).all():
        raise GeometryError(f"array: found the spacing {spacing}, expected three lengths in mm: give spacing=(x, y, z)")
    values = np.ascontiguousarray(array if array.ndim == 4 else array[None], np.float32)
    affine = np.diag([*sides, 1.0])
    axes = np.array([[0, 1], [1, 1], [2, 1]])
    source = Source(Path("array"), values.shape[1:], affine, axes, None, str(array.dtype))
    return Volume(values, affine, tuple(round(float(side), 4) for side in sides), source)
