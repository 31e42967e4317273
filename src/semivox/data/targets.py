"""What methods need beyond crops, made once per labelled volume: distance maps."""

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import distance_transform_edt


def distances(
    label: NDArray[np.uint8], classes: int, spacing: tuple[float, ...], *, slices_first: bool = False
) -> NDArray[np.float16]:
    """Return how deep every voxel lies inside each class, and how far outside it, in mm.

    A voxel's distance runs to the nearest voxel centre on the other side, so it is never between 0 and one voxel.
    Ignored voxels count as background.

    Args:
        label: (*stored) class index.
        classes: K, background included.
        spacing: voxel size in mm along the stored axes.
        slices_first: measure within each slice of the first axis, as 2D plans do.

    Returns:
        (K-1, 2, *stored) in mm: of each foreground class first the depth inside (0 outside), then the distance outside
        (0 inside). Where a class is absent both are 0; where it is everywhere, the depth is the volume's diagonal.
    """
    result = np.zeros((classes - 1, 2, *label.shape), np.float16)
    for index in range(1, classes):
        mask = label == index
        if not slices_first:
            result[index - 1] = _inside_and_outside(mask, spacing)
            continue
        for number in np.flatnonzero(mask.any(axis=tuple(range(1, label.ndim)))):
            result[index - 1, :, number] = _inside_and_outside(mask[number], spacing[1:])
    return result


def _inside_and_outside(mask: NDArray[np.bool_], spacing: tuple[float, ...]) -> NDArray[np.float64]:
    both = np.zeros((2, *mask.shape))
    if mask.all():
        both[0] = np.linalg.norm(np.multiply(mask.shape, spacing))
    elif mask.any():
        both[0] = distance_transform_edt(mask, sampling=spacing)
        both[1] = distance_transform_edt(~mask, sampling=spacing)
    return both
