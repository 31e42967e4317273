"""What a mask shows of itself: size, pieces, borders; and words where that is unlike the labelled scans."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

MARGIN = 1.5
"""A size counts as within the labelled range up to this many times its largest, and down to as small a part of its
smallest: a few labelled scans do not show how small or large a class can be."""
ENOUGH = 3
"""Labelled scans from which it is known how far scans of one pool lie from each other."""
UNLIKE = 2.0
"""Times that, from which a scan's intensities are unlike the labelled ones."""


@dataclass(frozen=True)
class Traits:
    """What is seen of one class in a mask.

    Attributes:
        size: in ml, or in pixels of a picture.
        components: pieces that share no face.
        border: whether it reaches the scan's border along an axis of more than one voxel.
    """

    size: float
    components: int
    border: bool


def traits_of(mask: NDArray[np.bool_], voxel: float) -> Traits:
    """Return the traits of a class.

    Args:
        mask: (X, Y, Z), where the class is.
        voxel: size of one, in the unit of `Traits.size`.
    """
    faces = (mask.take(end, axis).any() for axis, side in enumerate(mask.shape) if side > 1 for end in (0, -1))
    return Traits(float(mask.sum()) * voxel, int(ndimage.label(mask)[1]), any(faces))


def flags(own: Traits, labelled: Sequence[Traits], unit: str) -> list[str]:
    """Return in words what is odd about a class, beside that of the labelled scans that have it."""
    if own.size == 0:
        return ["empty"]
    found = []
    if own.components > max([1, *(other.components for other in labelled)]):
        found.append(f"many components ({own.components})")
    if own.border and not any(other.border for other in labelled):
        found.append("touches the border")
    sizes = [other.size for other in labelled]
    if sizes and not min(sizes) / MARGIN <= own.size <= MARGIN * max(sizes):
        spread = f"{min(sizes):.4g} to {max(sizes):.4g}"
        found.append(f"volume outside the labelled range ({own.size:.4g} {unit}, labelled {spread})")
    return found


def profile(image: NDArray[np.floating]) -> NDArray[np.float64]:
    """Return a prepared scan's intensities (C, *spatial) as their percentiles 2, 4 ... 98: (C, 49)."""
    return np.percentile(image.reshape(len(image), -1), np.arange(2, 100, 2), axis=1).T


def is_unlike(own: NDArray[np.float64], labelled: Sequence[NDArray[np.float64]]) -> bool:
    """Return whether a scan's profile lies far from every labelled one, by what these lie from their nearest."""
    if len(labelled) < ENOUGH:
        return False
    others = [[b for j, b in enumerate(labelled) if j != i] for i in range(len(labelled))]
    usual = max(_nearest(a, rest) for a, rest in zip(labelled, others, strict=True))
    return _nearest(own, labelled) > UNLIKE * usual


def _nearest(own: NDArray[np.float64], others: Sequence[NDArray[np.float64]]) -> float:
    return min(float(np.abs(own - other).mean()) for other in others)
