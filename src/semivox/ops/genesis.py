"""The four transformations of Models Genesis, which SimCVD's ablation adds to dropout.

Paper: Zhou et al., Models Genesis, MICCAI 2019, arXiv:1908.06912; strengths as there, drawn for each item of a batch.
"""

import torch
from torch import Tensor

from semivox.ops.fields import uniform
from semivox.ops.intensity import SMALLEST, scan_mask, value_range


def local_shuffle(
    image: Tensor,
    generator: torch.Generator,
    *,
    valid: Tensor | None = None,
    window: int = 4,
    probability: float = 0.5,
) -> Tensor:
    """Return images (B, C, *size) whose voxels are shuffled within windows; channels move together.

    Args:
        image: the images.
        generator: the only source of randomness, on the image's device.
        valid: (B, *size) bool, False in padding; a window that holds padding is left alone.
        window: side in voxels of the windows, which tile the image from its first voxel; what is left over stays.
        probability: of each window to be shuffled.
    """
    dims, whole = image.ndim - 2, [length // window * window for length in image.shape[2:]]
    part = (slice(None), slice(None), *[slice(length) for length in whole])
    tiles = _tiles(image[part], window)  # (B, C, windows, voxels)
    order = uniform((len(image), 1, *tiles.shape[2:]), generator).argsort(-1)
    chosen = uniform((len(image), 1, tiles.shape[2], 1), generator) < probability
    chosen = chosen & _tiles(scan_mask(image, valid)[part], window).all(-1, keepdim=True)
    tiles = torch.where(chosen, tiles.gather(-1, order.expand_as(tiles)), tiles)
    counts = [length // window for length in whole]
    tiles = tiles.reshape(*image.shape[:2], *counts, *[window] * dims)
    pairs = [axis for i in range(dims) for axis in (2 + i, 2 + dims + i)]
    shuffled = image.clone()
    shuffled[part] = tiles.permute(0, 1, *pairs).reshape(*image.shape[:2], *whole)
    return shuffled


def nonlinear_intensity(image: Tensor, generator: torch.Generator, *, valid: Tensor | None = None) -> Tensor:
    """Return images (B, C, *size) through a random rising cubic Bezier curve from their lowest to their highest value.

    Args:
        image: the images.
        generator: the only source of randomness, on the image's device.
        valid: (B, *size) bool, False in padding, which stays zero.
    """
    with torch.autocast(image.device.type, enabled=False):  # half precision would quantise the image
        keep = scan_mask(image, valid)
        low, high = value_range(image.float(), keep)
        unit = ((image - low) / (high - low).clamp_min(SMALLEST)).clamp(0, 1)
        curve = _bezier(unit.flatten(1), generator).reshape(image.shape)
        return torch.where(keep, (low + (high - low) * curve).to(image.dtype), image)


def _bezier(unit: Tensor, generator: torch.Generator) -> Tensor:
    """Return `unit` (B, N), in [0, 1], through a random rising cubic Bezier curve for each item."""
    inner = uniform((len(unit), 2, 2), generator).sort(-1).values  # sorted control points make both coordinates rise
    t = torch.linspace(0, 1, 257, device=unit.device)
    weights = torch.stack([3 * t * (1 - t) ** 2, 3 * t**2 * (1 - t)])
    x, y = (inner @ weights + t**3).transpose(0, 1).contiguous()  # (B, 257) each: the curve's abscissa and ordinate
    right = torch.searchsorted(x, unit).clamp(1, len(t) - 1)
    left = right - 1
    x_left, y_left = x.gather(1, left), y.gather(1, left)
    share = (unit - x_left) / (x.gather(1, right) - x_left).clamp_min(1e-12)
    return y_left + share.clamp(0, 1) * (y.gather(1, right) - y_left)


def inpaint(image: Tensor, generator: torch.Generator, *, valid: Tensor | None = None) -> Tensor:
    """Return images (B, C, *size) with 1 to 5 boxes, a sixth to a third of each side, replaced by noise.

    The noise is uniform between the item's lowest and highest value; padding stays zero.
    """
    return _painted(image, generator, valid, boxes(image.shape, generator, most=5, low=1 / 6, high=1 / 3))


def outpaint(image: Tensor, generator: torch.Generator, *, valid: Tensor | None = None) -> Tensor:
    """Return images (B, C, *size) with everything outside 1 to 5 boxes, 3/7 to 4/7 of each side, replaced by noise.

    The noise is uniform between the item's lowest and highest value; padding stays zero.
    """
    return _painted(image, generator, valid, ~boxes(image.shape, generator, most=5, low=3 / 7, high=4 / 7))


def boxes(
    shape: torch.Size | tuple[int, ...], generator: torch.Generator, *, most: int, low: float, high: float
) -> Tensor:
    """Return (B, *size) bool: the union of 1 to `most` random boxes in each item of a batch of `shape` (B, C, *size).

    Each side of a box is `low` to `high` of the image's, at least one voxel; boxes lie within the image.
    """
    batch, device = shape[0], generator.device
    count = 1 + (uniform((batch, 1), generator) * most).long().clamp_max(most - 1)
    union = (torch.arange(most, device=device) < count).reshape(batch, most, *[1] * (len(shape) - 2))
    for axis, length in enumerate(shape[2:], start=2):
        side = (uniform((batch, most, 1), generator, low, high) * length).round().clamp_min(1)
        start = (uniform((batch, most, 1), generator) * (length - side + 1)).floor()
        voxel = torch.arange(length, device=device)
        within = (voxel >= start) & (voxel < start + side)  # (B, most, length)
        union = union & within.reshape(batch, most, *[length if other == axis else 1 for other in range(2, len(shape))])
    return union.any(1)


def _painted(image: Tensor, generator: torch.Generator, valid: Tensor | None, where: Tensor) -> Tensor:
    keep = scan_mask(image, valid)
    low, high = value_range(image, keep)
    noise = low + (high - low) * uniform(image.shape, generator).to(image.dtype)
    return torch.where(where[:, None] & keep, noise, image)


def _tiles(x: Tensor, window: int) -> Tensor:
    """Return `x` (B, C, *size) as (B, C, windows, voxels of a window)."""
    dims = x.ndim - 2
    split = x.reshape(*x.shape[:2], *[n for length in x.shape[2:] for n in (length // window, window)])
    order = [*range(2, 2 + 2 * dims, 2), *range(3, 3 + 2 * dims, 2)]
    return split.permute(0, 1, *order).flatten(2 + dims).flatten(2, 1 + dims)
