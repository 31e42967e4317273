"""Resampling of arrays, one axis at a time, by interpolation matrices.

Output voxel i of an axis lies at ``(i - (length - 1) / 2) * factor + (size - 1) / 2`` of the input: voxel centres go
where they are in the scan, and the middle of a volume stays its middle, so that the way back is the same with
``1 / factor``. Where an axis shrinks, the kernel is stretched by the factor: it is then its own low-pass filter.
"""

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["nearest", "linear", "cubic"]
REACH = {"linear": 1.0, "cubic": 2.0}


def interpolation_matrix(size: int, length: int, factor: float, kind: Kind) -> NDArray[np.float32]:
    """Return the matrix (length, size) that resamples an axis of `size` voxels to `length`; its rows sum to one.

    Beyond its ends an axis is continued by its last value.

    Args:
        size: voxels of the input.
        length: voxels of the output.
        factor: the output's voxel size in voxels of the input.
        kind: the kernel; "cubic" is Keys' (1981) with a = -1/2, exact on parabolas away from the ends.
    """
    centre = (np.arange(length) - (length - 1) / 2) * factor + (size - 1) / 2
    if kind == "nearest":
        source = np.floor(centre + 0.5).astype(int)[:, None]
        weights = np.ones_like(source, dtype=float)
    else:
        stretch = max(factor, 1.0)
        reach = int(np.ceil(REACH[kind] * stretch))
        source = np.floor(centre).astype(int)[:, None] + np.arange(-reach, reach + 2)
        weights = _kernel(np.abs(source - centre[:, None]) / stretch, kind)
        weights /= weights.sum(axis=1, keepdims=True)
    matrix = np.zeros((length, size))
    np.add.at(matrix, (np.arange(length)[:, None], source.clip(0, size - 1)), weights)
    return matrix.astype(np.float32)


def _kernel(distance: NDArray[np.float64], kind: Kind) -> NDArray[np.float64]:
    if kind == "linear":
        return np.clip(1 - distance, 0, None)
    near = (1.5 * distance - 2.5) * distance**2 + 1
    far = ((-0.5 * distance + 2.5) * distance - 4) * distance + 2
    return np.where(distance < 1, near, np.where(distance < 2, far, 0))


def resample(
    array: NDArray[np.generic], lengths: Sequence[int], factors: Sequence[float], kinds: Sequence[Kind]
) -> NDArray[np.float32]:
    """Return an array (X, Y, Z) resampled to `lengths` voxels that are `factors` voxels of the input wide, as float32.

    Args:
        array: one channel or one class.
        lengths: voxels of the output, per axis.
        factors: the output's voxel size in voxels of the input, per axis.
        kinds: the kernel, per axis.
    """
    result = np.ascontiguousarray(array, dtype=np.float32)
    for axis in np.argsort(factors, kind="stable")[::-1]:  # what shrinks most goes first: the rest is then cheap
        size, length = result.shape[axis], lengths[axis]
        if size == length and factors[axis] == 1:
            continue
        matrix = interpolation_matrix(size, length, factors[axis], kinds[axis])
        rows = np.ascontiguousarray(np.moveaxis(result, axis, 0)).reshape(size, -1)
        others = np.delete(result.shape, axis)
        result = np.moveaxis((matrix @ rows).reshape(length, *others), 0, axis)
    return np.ascontiguousarray(result)
