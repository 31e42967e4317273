"""The grid that a pool's scans are resampled to, volumes or slices of them, and the patches that fit on it."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from semivox.planning.fingerprint import Fingerprint

THICK = 6.0
"""Slices further apart than this many in-plane voxels are planned in 2D."""
FEW_SLICES = 8
"""Fewer slices than this, resampled, are planned in 2D."""
SMALLEST_PATCH = 16
"""Patches are not shrunk below this along any axis."""
COARSEST_GRID = 4
"""Voxels that the coarsest level keeps along every axis; 112 x 112 x 80 then gives V-Net its own five levels."""


@dataclass(frozen=True)
class Grid:
    """The scans as they will be resampled: spacing in mm (x, y, z), median shape, and the axes that the net sees."""

    spacing: tuple[float, ...]
    shape: tuple[float, ...]
    slice_axis: int
    dims: int

    @property
    def axes(self) -> tuple[int, ...]:
        """Canonical axes of a crop, in order."""
        return (0, 1, 2) if self.dims == 3 else tuple(axis for axis in range(3) if axis != self.slice_axis)

    @property
    def crop_shape(self) -> tuple[float, ...]:
        """Median shape along the axes of a crop."""
        return tuple(self.shape[axis] for axis in self.axes)


def choose_grid(fingerprint: Fingerprint, fixed: Mapping[str, Any]) -> tuple[Grid, list[str]]:
    """Return spacing, median shape, slice axis and dims, and the reasons for them."""
    spacings, shapes = np.array(fingerprint.spacings), np.array(fingerprint.shapes, float)
    axis = fixed.get("slice_axis", fingerprint.slice_axis)
    spacing = np.array(fixed.get("spacing") or target_spacing(spacings, shapes, axis))
    shape = np.median(np.round(shapes * spacings / spacing), axis=0)
    in_plane = [other for other in range(3) if other != axis]
    ratio = np.median(spacings, axis=0)[axis] / np.median(spacings, axis=0)[in_plane].min()
    reasons = [f"{len(shapes)} scans, spacing {shown(spacing)} mm: their median, or finer across thick slices"]
    if ratio > THICK or shape[axis] < FEW_SLICES:
        dims, reason = 2, f"2D: slices lie {ratio:.1f} in-plane voxels apart, and a scan has {shape[axis]:.0f}"
    else:
        dims, reason = 3, f"3D: a scan has {shown(shape)} voxels"
    if fixed.get("dims", 2 if fixed.get("resize") else dims) != dims:
        dims, reason = 5 - dims, f"{5 - dims}D: as set"
    if fixed.get("resize"):
        shape[in_plane] = fixed["resize"]
    return Grid(tuple(spacing.tolist()), tuple(shape.tolist()), axis, dims), [*reasons, reason]


def target_spacing(spacings: np.ndarray, shapes: np.ndarray, axis: int) -> list[float]:
    """Return the median spacing, or the 10th percentile across slices that are thick and few in most scans."""
    target, shape = np.median(spacings, axis=0), np.median(shapes, axis=0)
    others = [other for other in range(3) if other != axis]
    if target[axis] > 3 * target[others].max() and 3 * shape[axis] < shape[others].min():
        target[axis] = max(np.percentile(spacings[:, axis], 10), target[others].max())
    return [round(float(size), 4) for size in target]


def coarsened(grid: Grid, voxels: int) -> Grid:
    """Return the grid with a spacing so coarse that a patch of `voxels` covers half of a scan along every axis.

    The finest axes give way first, so that voxels become more even.
    """
    while any(2 * length < shape for length, shape in zip(patch_within(grid, voxels), grid.crop_shape, strict=True)):
        finest = min(grid.spacing[axis] for axis in grid.axes)
        factors = [1.04 if axis in grid.axes and grid.spacing[axis] <= 1.02 * finest else 1.0 for axis in range(3)]
        spacing = tuple(round(mm * factor, 4) for mm, factor in zip(grid.spacing, factors, strict=True))
        shape = tuple(n / factor for n, factor in zip(grid.shape, factors, strict=True))
        grid = replace(grid, spacing=spacing, shape=shape)
    return replace(grid, shape=tuple(float(round(n)) for n in grid.shape))


def patch_within(grid: Grid, voxels: int) -> tuple[int, ...]:
    """Return the patch that covers a median scan, made smaller until it has at most `voxels`."""
    patch: tuple[int, ...] | None = tuple(divisible(length) for length in grid.crop_shape)
    smallest = patch
    while patch and math.prod(patch) > voxels:
        patch = shrunk(patch, grid)
        smallest = patch or smallest
    return smallest or ()


def divisible(length: float) -> int:
    """Return a length close by that can be halved until `COARSEST_GRID` is reached, four times at most.

    >>> [divisible(n) for n in (5, 18, 88, 115)]
    [8, 20, 80, 112]
    """
    factor = divisor(length)
    below, above = int(length // factor * factor), math.ceil(length / factor) * factor
    return max(2 * COARSEST_GRID, below if below >= 0.9 * length else above)


def divisor(length: float) -> int:
    """Return the power of two, 16 at most, that patches of about this length are a multiple of.

    >>> [divisor(n) for n in (8, 16, 31, 64, 200)]
    [2, 4, 4, 16, 16]
    """
    return 2 ** max(1, min(4, int(math.log2(max(length, 2) / COARSEST_GRID))))


def downsampling(patch: Sequence[int], spacing: Sequence[float], *, most: int = 4) -> tuple[tuple[int, ...], ...]:
    """Return the strides between levels; an axis more than twice as coarse as the finest waits until that catches up.

    >>> downsampling((32, 32, 8), (1.0, 1.0, 4.0))
    ((2, 2, 1), (2, 2, 2), (2, 2, 1))
    """
    size, coarse, strides = list(patch), list(spacing), []
    for _ in range(most):
        fits = [n % 2 == 0 and n >= 2 * COARSEST_GRID for n in size]
        if not any(fits):
            break
        finest = min(mm for mm, fit in zip(coarse, fits, strict=True) if fit)
        stride = tuple(2 if fit and mm <= 2 * finest else 1 for mm, fit in zip(coarse, fits, strict=True))
        size = [n // step for n, step in zip(size, stride, strict=True)]
        coarse = [mm * step for mm, step in zip(coarse, stride, strict=True)]
        strides.append(stride)
    return tuple(strides) or ((1,) * len(size),)


def shrunk(patch: tuple[int, ...], grid: Grid) -> tuple[int, ...] | None:
    """Return the patch, a step shorter along its longest axis in mm; None where it is as small as can be."""
    axes = [axis for axis, length in enumerate(patch) if length > SMALLEST_PATCH]
    if not axes:
        return None
    longest = max(axes, key=lambda axis: round(patch[axis] * grid.spacing[grid.axes[axis]], 3))
    factor = divisor(patch[longest] - 1)
    return (*patch[:longest], (patch[longest] - 1) // factor * factor, *patch[longest + 1 :])


def cached_shapes(fingerprint: Fingerprint, grid: Grid, resize: Sequence[int] | None) -> list[list[float]]:
    """Return the resampled shapes (N of 3) of all scans, before what is empty around them is cropped away."""
    shapes = np.array(fingerprint.shapes) * np.array(fingerprint.spacings) / np.array(grid.spacing)
    if grid.dims == 2:
        shapes[:, grid.slice_axis] = np.array(fingerprint.shapes)[:, grid.slice_axis]
        if resize:
            shapes[:, list(grid.axes)] = resize
    return np.ceil(shapes).tolist()


def shown(numbers: Sequence[float] | np.ndarray) -> str:
    """Return lengths as people write them, such as 1.25 x 1.25 x 2.5."""
    return " x ".join(f"{number:.4g}" for number in numbers)
