"""Likeness: how alike two scans of one grid are, told from thumbnails.

Measured, first channels, pairs of equal shape and affine: two frames of one patient of ACDC correlate by 0.89 to 0.997
(100 pairs); scans of different patients by at most 0.64 in ACDC (but for two that hold the same images), 0.81 in the
Decathlon's hippocampi, 0.60 in LA 2018, 0.72 in the phantom, and pictures of nuclei by 0.63.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

SIDE = 16
"""Voxels along each side of a thumbnail, where the scan has as many."""
ALIKE = 0.87
"""Two thumbnails that correlate by more are suspected to show one patient: between the largest of different patients
and the smallest of one that were measured."""
PART = 0.25
"""Where scans are all alike, as registered heads are, the correlation must also come this much closer to 1: what is
missing to 1 is at most this part of what a typical pair misses."""
_SAMPLE = 100


@dataclass(frozen=True, eq=False)
class Likeness:
    """What a scan is recognised by.

    Attributes:
        affine: (4, 4), voxel index to mm.
        shape: voxels along x, y, z.
        thumbnail: (N,) float32, mean 0 and length 1.
    """

    affine: NDArray[np.float64]
    shape: tuple[int, ...]
    thumbnail: NDArray[np.float32]


def same_grid(
    shape: Sequence[int], affine: NDArray[np.float64], other_shape: Sequence[int], other: NDArray[np.float64]
) -> bool:
    """Return whether two grids have equal shapes and affines that agree within 0.01 mm."""
    return tuple(shape) == tuple(other_shape) and bool(np.abs(affine - other).max() <= 0.01)


def likeness(values: NDArray[np.generic], affine: NDArray[np.float64]) -> Likeness | None:
    """Return what a scan (X, Y, Z) is recognised by; None without contrast or with values that are no numbers."""
    small: NDArray[np.floating] = values.astype(np.float32, copy=False)
    for axis, side in enumerate(values.shape):
        edges = np.linspace(0, side, min(SIDE, side) + 1).astype(int)
        sizes = np.diff(edges).reshape([-1 if a == axis else 1 for a in range(small.ndim)])
        small = np.add.reduceat(small, edges[:-1], axis=axis) / sizes
    if not np.isfinite(small).all():
        return None
    flat = np.clip(small, *np.percentile(small, [1, 99])).ravel().astype(np.float64)  # a bright speck says little
    flat -= flat.mean()
    length = float(np.linalg.norm(flat))
    return Likeness(affine, tuple(values.shape), (flat / length).astype(np.float32)) if length > 0 else None


def alike_pairs(
    ours: Mapping[str, Likeness], theirs: Mapping[str, Likeness], *, others: Sequence[Likeness] = ()
) -> list[tuple[str, str, float]]:
    """Return (name of ours, name of theirs, correlation) of scans that seem to show one patient.

    Args:
        ours: by name.
        theirs: by name.
        others: further scans of the data set, from which it is known how alike its scans are.
    """
    limit = _limit([*ours.values(), *theirs.values(), *others])
    by_shape: dict[tuple[int, ...], list[str]] = {}
    for name, one in ours.items():
        by_shape.setdefault(one.shape, []).append(name)
    stacks = {shape: np.stack([ours[name].thumbnail for name in names]) for shape, names in by_shape.items()}
    found = []
    for name, one in theirs.items():
        correlations = stacks[one.shape] @ one.thumbnail if one.shape in stacks else np.empty(0)
        for index in np.flatnonzero(correlations > limit):
            other = by_shape[one.shape][index]
            if same_grid(one.shape, one.affine, ours[other].shape, ours[other].affine):
                found.append((other, name, float(correlations[index])))
    return found


def _limit(scans: Sequence[Likeness]) -> float:
    """Return the correlation above which two scans are suspected; all shapes tell how alike scans are."""
    sample = scans[:: max(1, len(scans) // _SAMPLE)]
    pairs = [
        float(a.thumbnail @ b.thumbnail) for a, b in combinations(sample, 2) if a.thumbnail.size == b.thumbnail.size
    ]
    return max(ALIKE, 1 - PART * (1 - float(np.median(pairs)))) if len(pairs) > 2 else ALIKE
