"""What class probabilities become: a mask of label values, its largest components, and the uncertainty."""

import math
from collections.abc import Sequence

import numpy as np
from scipy import ndimage


def mask_of(probabilities: np.ndarray, values: Sequence[int], *, largest_component: bool = False) -> np.ndarray:
    """Return the value of the most probable class of (K, X, Y, Z) probabilities, of the smallest type that holds all.

    Args:
        probabilities: of the classes.
        values: what each class is called in a file.
        largest_component: keep the largest connected component of every class.
    """
    mask = np.empty(probabilities.shape[1:], np.min_scalar_type(len(probabilities)))
    for x in range(len(mask)):  # argmax of the whole would be eight bytes a voxel
        mask[x] = probabilities[:, x].argmax(0)
    if largest_component:
        mask = largest_components(mask)
    return np.asarray(values, np.result_type(*map(np.min_scalar_type, values)))[mask]


def largest_components(mask: np.ndarray) -> np.ndarray:
    """Return a mask (X, Y, Z) of class indices with only the largest component of every class (face neighbours)."""
    kept = np.zeros_like(mask)
    for value in np.unique(mask[mask > 0]):
        parts, _ = ndimage.label(mask == value)
        sizes = np.bincount(parts.ravel())[1:]
        kept[parts == 1 + sizes.argmax()] = value
    return kept


def entropy(probabilities: np.ndarray) -> np.ndarray:
    """Return the entropy of (K, X, Y, Z) probabilities over ln K: (X, Y, Z) in [0, 1]."""
    total = np.zeros(probabilities.shape[1:], probabilities.dtype)
    for p in probabilities:  # class by class: the whole array may be gigabytes
        p = np.clip(p, 1e-12, 1)
        total -= p * np.log(p)
    total /= math.log(len(probabilities))
    return np.clip(total, 0, 1, out=total)
