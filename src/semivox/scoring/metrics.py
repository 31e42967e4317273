"""Metrics of two masks: Dice, Jaccard, HD95, ASD, ASSD, NSD, and the IoU of all images together; numpy and scipy only.

A mask is any array, 2D or 3D, whose non-zero voxels are the object. Its surface is the set of its voxels that touch
the background through a face; what lies outside the array is background, so an object cut by the border has a surface
there. Every distance metric reads the same two lists of nearest distances, so `surface_distances` is called once for
all of them. A distance has the unit of `spacing`: mm, or voxels where the spacing is ones.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from math import nan
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Mask = NDArray[Any]
Voxels = NDArray[np.bool_]
Distances = NDArray[np.float64]

# Distances are roots of sums of squares: 20 voxels of 0.1 mm are 2.0000000000000004 mm, and within 2 mm.
ROUNDING = 1e-6


@dataclass(frozen=True)
class SurfaceDistances:
    """How far each surface is from the other; both lists are empty where a mask is.

    Attributes:
        to_truth: (P,) float64, of every surface voxel of the prediction the distance to the truth's nearest one.
        to_prediction: (T,) float64, of every surface voxel of the truth the distance to the prediction's nearest one.
    """

    to_truth: Distances
    to_prediction: Distances

    @property
    def pooled(self) -> Distances:
        """(P + T,) float64, both lists as one."""
        return np.concatenate([self.to_truth, self.to_prediction])


@dataclass(frozen=True)
class Scores:
    """All numbers of one prediction against one truth; NaN where a number is undefined.

    Attributes:
        dice: in [0, 1].
        jaccard: in [0, 1].
        hd95: 95th percentile of the surface distances, in the unit of the spacing, as are the next two.
        asd: mean distance from the prediction's surface to the truth's (one way).
        assd: mean distance of both surfaces' voxels to the other surface, pooled.
        nsd: share of both surfaces that lies within the tolerance of the other, in [0, 1].
        truth_voxels: size of the truth.
        predicted_voxels: size of the prediction.
        failure: one of the masks is empty: Dice, Jaccard and NSD are 0, distances are the image's diagonal.
        both_empty: nothing to find and nothing found: every score is NaN, to be excluded and counted.
    """

    dice: float
    jaccard: float
    hd95: float
    asd: float
    assd: float
    nsd: float
    truth_voxels: int
    predicted_voxels: int
    failure: bool = False
    both_empty: bool = False


def score_masks(
    prediction: Mask, truth: Mask, spacing: Sequence[float], *, tolerance: float = 2.0, hd95: str = "pooled"
) -> Scores:
    """Return every metric of a prediction against the truth, with explicit rules for empty masks.

    Args:
        prediction: (X, Y[, Z]) mask.
        truth: mask of the same shape.
        spacing: size of a voxel along each axis; its unit is that of the distances.
        tolerance: NSD's, in the same unit.
        hd95: "pooled" or "max", see `hd95`.

    Raises:
        ValueError: shapes, spacing, tolerance or the definition's name cannot be used.
    """
    prediction, truth, size = _checked(prediction, truth, spacing)
    _check_tolerance(tolerance)
    percentile = _definition(hd95)
    predicted, true = _joint_crop(prediction, truth)
    counts = int(np.count_nonzero(true)), int(np.count_nonzero(predicted))
    if not any(counts):
        return Scores(nan, nan, nan, nan, nan, nan, *counts, both_empty=True)
    if not all(counts):
        return failed_scores(truth.shape, spacing, *counts)
    common = int(np.count_nonzero(predicted & true))
    distances = _distances_in_crop(predicted, true, size)
    return Scores(
        dice=2 * common / sum(counts),
        jaccard=common / (sum(counts) - common),
        hd95=percentile(distances),
        asd=asd(distances),
        assd=assd(distances),
        nsd=nsd(distances, tolerance=tolerance),
        truth_voxels=counts[0],
        predicted_voxels=counts[1],
    )


def failed_scores(shape: Sequence[int], spacing: Sequence[float], truth_voxels: int, predicted_voxels: int) -> Scores:
    """Return the scores of a failure: overlaps 0, distances the diagonal of an image of that shape and spacing."""
    worst = diagonal(shape, spacing)
    return Scores(0.0, 0.0, worst, worst, worst, 0.0, truth_voxels, predicted_voxels, failure=True)


def diagonal(shape: Sequence[int], spacing: Sequence[float]) -> float:
    """Return the distance between opposite corners of an image, in the unit of `spacing`."""
    return float(np.linalg.norm(np.multiply(shape, spacing)))


def dice(prediction: Mask, truth: Mask) -> float:
    """Return 2 |P and T| / (|P| + |T|), in [0, 1]; NaN where both masks are empty."""
    prediction, truth = _as_masks(prediction, truth)
    total = np.count_nonzero(prediction) + np.count_nonzero(truth)
    return 2 * np.count_nonzero(prediction & truth) / total if total else nan


def jaccard(prediction: Mask, truth: Mask) -> float:
    """Return |P and T| / |P or T|, in [0, 1]; NaN where both masks are empty."""
    prediction, truth = _as_masks(prediction, truth)
    union = np.count_nonzero(prediction | truth)
    return np.count_nonzero(prediction & truth) / union if union else nan


def confusion_matrix(prediction: NDArray[Any] | None, truth: NDArray[Any], classes: int) -> NDArray[np.int64]:
    """Return how many pixels of each true class were given each class; matrices of several images add up.

    Args:
        prediction: class indices 0 to K-1 of the pixels that count, or None where an image has no mask.
        truth: class indices of the same pixels, of the same shape.
        classes: K.

    Returns:
        (K, K + 1) int64: a row per true class, a column per predicted class, and a last one for pixels without any.
    """
    given = np.full(truth.shape, classes) if prediction is None else prediction
    places = truth.astype(np.int64).ravel() * (classes + 1) + given.astype(np.int64).ravel()
    return np.bincount(places, minlength=classes * (classes + 1)).reshape(classes, classes + 1)


def class_ious(confusion: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return the IoU (K,) of every class from a `confusion_matrix`; NaN for one that truth and prediction lack.

    The mean of what is defined is the mIoU of Cordts et al. (CVPR 2016) and the VOC challenge.
    """
    common = np.diagonal(confusion)
    union = confusion.sum(1) + confusion[:, :-1].sum(0) - common
    return np.where(union > 0, common / np.maximum(union, 1), nan)


def surface_distances(prediction: Mask, truth: Mask, spacing: Sequence[float]) -> SurfaceDistances:
    """Return the exact distances between the surfaces of two masks, for all distance metrics to share.

    Args:
        prediction: (X, Y[, Z]) mask.
        truth: mask of the same shape.
        spacing: size of a voxel along each axis; its unit is that of the distances.

    Raises:
        ValueError: the shapes differ, or `spacing` is not one positive number per axis.
    """
    prediction, truth, size = _checked(prediction, truth, spacing)
    return _distances_in_crop(*_joint_crop(prediction, truth), size)


def hd95(distances: SurfaceDistances, definition: str = "pooled") -> float:
    """Return the 95th percentile of the Hausdorff distance (linear between ranks); NaN where a mask is empty.

    Args:
        distances: of `surface_distances`.
        definition: "pooled" (medpy: one percentile of both directions' distances together) or "max" (MONAI: the larger
            of each direction's percentile). They differ, so a table has to say which.

    Raises:
        ValueError: unknown definition.
    """
    return _definition(definition)(distances)


def asd(distances: SurfaceDistances) -> float:
    """Return the mean distance from the prediction's surface to the truth's; NaN where a mask is empty."""
    return _mean(distances.to_truth)


def assd(distances: SurfaceDistances) -> float:
    """Return the mean over both directions' distances together, as medpy and MONAI do; NaN where a mask is empty."""
    return _mean(distances.pooled)


def nsd(distances: SurfaceDistances, *, tolerance: float) -> float:
    """Return the normalised surface Dice: the share of both surfaces no farther than `tolerance` from the other.

    Every surface voxel counts as one, whatever its area (MONAI's definition without subvoxels); NaN where a mask is
    empty.

    Raises:
        ValueError: the tolerance is negative or not finite.
    """
    _check_tolerance(tolerance)
    within = distances.pooled <= tolerance * (1 + ROUNDING)
    return float(within.mean()) if within.size else nan


def _percentile_of_both(distances: SurfaceDistances) -> float:
    return float(np.percentile(distances.pooled, 95)) if distances.to_truth.size else nan


def _larger_percentile(distances: SurfaceDistances) -> float:
    if not distances.to_truth.size:
        return nan
    return float(max(np.percentile(distances.to_truth, 95), np.percentile(distances.to_prediction, 95)))


HD95_DEFINITIONS: dict[str, Callable[[SurfaceDistances], float]] = {
    "pooled": _percentile_of_both,
    "max": _larger_percentile,
}


def _definition(name: str) -> Callable[[SurfaceDistances], float]:
    if name not in HD95_DEFINITIONS:
        raise ValueError(f"hd95: found definition {name!r}, expected one of {', '.join(HD95_DEFINITIONS)}")
    return HD95_DEFINITIONS[name]


def _check_tolerance(tolerance: float) -> None:
    if not 0 <= tolerance < np.inf:
        raise ValueError(f"nsd: found tolerance {tolerance}, expected a finite number of at least 0")


def _mean(values: Distances) -> float:
    return float(values.mean()) if values.size else nan


def _as_masks(prediction: Mask, truth: Mask) -> tuple[Voxels, Voxels]:
    prediction, truth = np.asarray(prediction).astype(bool, copy=False), np.asarray(truth).astype(bool, copy=False)
    if prediction.shape != truth.shape:
        raise ValueError(f"masks: found a prediction of shape {prediction.shape}, expected the truth's {truth.shape}")
    return prediction, truth


def _checked(prediction: Mask, truth: Mask, spacing: Sequence[float]) -> tuple[Voxels, Voxels, Distances]:
    prediction, truth = _as_masks(prediction, truth)
    size = np.asarray(spacing, dtype=np.float64)
    if size.shape != (truth.ndim,) or not np.all((size > 0) & np.isfinite(size)):
        raise ValueError(f"found spacing {spacing}, expected {truth.ndim} positive numbers, one per axis of the masks")
    return prediction, truth, size


def _joint_crop(prediction: Voxels, truth: Voxels) -> tuple[Voxels, Voxels]:
    """Return both masks cut to the box that holds them: background beyond it as beyond the image, no surface moves."""
    union = prediction | truth
    box = []
    for axis in range(union.ndim):
        occupied = np.flatnonzero(union.any(axis=tuple(other for other in range(union.ndim) if other != axis)))
        box.append(slice(occupied[0], occupied[-1] + 1) if occupied.size else slice(0, 0))
        union = union[(slice(None),) * axis + (box[-1],)]
    return np.ascontiguousarray(prediction[tuple(box)]), np.ascontiguousarray(truth[tuple(box)])


def _distances_in_crop(prediction: Voxels, truth: Voxels, size: Distances) -> SurfaceDistances:
    points = np.argwhere(_surface(prediction)) * size, np.argwhere(_surface(truth)) * size
    if not all(len(p) for p in points):
        return SurfaceDistances(np.empty(0), np.empty(0))
    # Trees hold the surface voxels only, so they beat distance maps of the box (4 to 6 times on left atria). Each
    # serves one query of about as many points as it holds, so a quick build with large leaves pays.
    trees = [cKDTree(p, leafsize=32, balanced_tree=False, compact_nodes=False) for p in points]
    return SurfaceDistances(trees[1].query(points[0])[0], trees[0].query(points[1])[0])


def _surface(mask: Voxels) -> Voxels:
    """Return the voxels of a mask of which a face neighbour is background or outside the array."""
    inside = mask.copy()
    for axis in range(mask.ndim):
        neighbour, kept = np.moveaxis(mask, axis, 0), np.moveaxis(inside, axis, 0)
        kept[1:] &= neighbour[:-1]
        kept[:-1] &= neighbour[1:]
        kept[:1] = kept[-1:] = False
    return mask & ~inside
