"""From a scan to what the net sees, and from probabilities to a mask in the scan's own grid, as semivox does both.

Arrays are (channels or classes, X, Y, Z), axes to the right, front and head; `plan` is what preparation.json says.
"""

import nibabel as nib
import numpy as np
from scipy import ndimage


def resampling(size, length, factor, kind):
    """Return the matrix (length, size) that resamples an axis about its middle; what shrinks is blurred."""
    centre, stretch = (np.arange(length) - (length - 1) / 2) * factor + (size - 1) / 2, max(factor, 1)
    if kind == "nearest":
        centre, stretch = np.floor(centre + 0.5), 1
    reach = int(np.ceil(2 * stretch))
    source = np.floor(centre).astype(int)[:, None] + np.arange(-reach, reach + 2)
    d = np.abs(source - centre[:, None]) / stretch
    weights = np.clip(1 - d, 0, None)
    if kind == "cubic":
        weights = np.where(d < 1, (1.5 * d - 2.5) * d**2 + 1, np.where(d < 2, ((2.5 - 0.5 * d) * d - 4) * d + 2, 0))
    matrix = np.zeros((length, size))
    np.add.at(matrix, (np.arange(length)[:, None], source.clip(0, size - 1)), weights / weights.sum(1, keepdims=True))
    return matrix.astype(np.float32)


def resampled(array, lengths, factors, kinds):
    """Return an array (X, Y, Z) with `lengths` voxels along its axes, each as wide as `factors` of the old ones."""
    for axis in np.argsort(factors, kind="stable")[::-1]:
        if factors[axis] != 1 or lengths[axis] != array.shape[axis]:
            matrix = resampling(array.shape[axis], lengths[axis], factors[axis], kinds[axis])
            array = np.moveaxis(np.tensordot(matrix, array, (1, axis)), 0, axis)
    return array


def normalised(array, clip, mean, std):
    """Return an array clipped, less a mean and over a deviation: those given, or its own; a constant one over 1."""
    array = array.clip(*clip) if clip else array
    if mean is None:
        mean, std = array.mean(dtype=np.float64), array.std(dtype=np.float64)
        std = std if std > 1e-6 * np.abs(array).max() else 1
    return (array - np.float32(mean)) / np.float32(std)


def prepare(image, affine, plan):
    """Return a scan as the net sees it, axes in the plan's order, and where it lies: first voxels, sizes, factors."""
    sides, low, size = np.linalg.norm(affine[:3, :3], axis=0).round(4), np.zeros(3, int), np.array(image.shape[1:])
    seen, factors = plan["axes"][-plan["dims"] :], np.ones(3)
    if plan["resize"]:
        factors[seen] = size[seen] / plan["resize"]
    elif image.any():
        used = [np.flatnonzero(image.any(axis=others)) for others in ((0, 2, 3), (0, 1, 3), (0, 1, 2))]
        low, size = np.array([u[0] for u in used]), np.array([u[-1] + 1 - u[0] for u in used])
    if plan["spacing"]:
        factors[seen] = (plan["spacing"] / sides)[seen]
        factors[np.abs(factors - 1) < 1e-3] = 1
    lengths = np.maximum(1, np.rint(size / factors)).astype(int)
    thick = sides.max() / sides.min() > 3
    kinds = ["nearest" if thick and side == sides.max() else "cubic" for side in sides]
    crops = image[(slice(None), *map(slice, low, low + size))]
    channels = [
        normalised(resampled(crop, lengths, factors, kinds), **how)
        for crop, how in zip(crops, plan["intensities"], strict=True)
    ]
    return np.stack(channels).transpose(0, *(1 + axis for axis in plan["axes"])), (low, size, factors)


def window_weight(plan):
    """Return how much each voxel of a window counts; a window of a slice is one voxel thick."""
    sides = [1] * (3 - plan["dims"]) + plan["patch"]
    if plan["blend"] == "plain":
        return np.ones(sides, np.float32)
    bells = [np.exp(-0.5 * ((np.arange(n) - (n - 1) / 2) / (n / 8)) ** 2) for n in sides]
    weight = np.einsum("i,j,k", *bells).astype(np.float32)
    return weight.clip(1e-3 * weight.max())


def restored_mask(p, shape, place, plan):
    """Return the mask (X, Y, Z) of a whole scan of this shape from the probabilities of its prepared part."""
    low, size, factors = place
    whole = np.zeros((len(p), *shape), np.float32)
    whole[0] = 1
    for k, values in enumerate(p):
        crop = resampled(values.transpose(np.argsort(plan["axes"])), size, 1 / factors, ["linear"] * 3)
        whole[(k, *map(slice, low, low + size))] = crop
    mask = whole.argmax(0)
    for k in range(1, len(p)) if plan["largest_component"] else ():
        parts, count = ndimage.label(mask == k)
        if count > 1:
            mask[(parts > 0) & (parts != 1 + np.bincount(parts.ravel())[1:].argmax())] = 0
    return np.array(plan["values"], plan["dtype"])[mask]


def turned_back(mask, affine):
    """Return a mask with its axes as in the file that has this affine."""
    axes = nib.orientations.ornt_transform([[0, 1], [1, 1], [2, 1]], nib.io_orientation(affine))
    return nib.orientations.apply_orientation(mask, axes)
