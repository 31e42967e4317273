"""Cut and paste between the images of a batch, in 2D and 3D: CutMix and ClassMix; and their blend, MixUp.

Papers: Yun et al., ICCV 2019, arXiv:1905.04899 (CutMix); Olsson et al., WACV 2021, arXiv:2007.07936 (ClassMix);
Zhang et al., ICLR 2018, arXiv:1710.09412 (MixUp).
A mask says where an image takes the voxels of its partner, the next image of the batch (the last takes the first's).
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from semivox.ops.fields import per_item, uniform


def partner(x: Tensor) -> Tensor:
    """Return for every item of a batch the next one, in a circle."""
    return x.roll(-1, 0)


def mix(x: Tensor, mask: Tensor) -> Tensor:
    """Return `x` with its partner's voxels where `mask` is True.

    Args:
        x: (B, ..., *spatial).
        mask: (B, *spatial) bool.
    """
    return paste(x, partner(x), mask)


def paste(x: Tensor, other: Tensor, mask: Tensor) -> Tensor:
    """Return `x` (B, ..., *spatial) with the voxels of `other`, of its shape, where `mask` (B, *spatial) is True."""
    return torch.where(mask.reshape(len(mask), *[1] * (x.ndim - mask.ndim), *mask.shape[1:]), other, x)


def blend(x: Tensor, share: Tensor) -> Tensor:
    """Return (1 - share) x + share * partner, where `x` is (B, ...), floating, and `share` (B,) in [0, 1]."""
    return torch.lerp(x, partner(x), per_item(share.to(x.dtype), x))


def box_masks(
    shape: Sequence[int],
    generator: torch.Generator,
    *,
    area: tuple[float, float] | None = None,
    slice_axis: int | None = None,
) -> Tensor:
    """Return (B, *size) bool: in every image a random rectangle, through all slices.

    Args:
        shape: (B, *size).
        generator: the only source of randomness, on whose device the masks are made.
        area: from which to which part of a slice it covers, with sides in a ratio of up to 10 to 3, as in the released
            code of UniMatch. None: one half, as in that of ARCO, where one side is drawn from half of the image's to
            all of it, and the other one follows.
        slice_axis: the axis that the rectangle runs along in 3D (None: the last).
    """
    batch, size = shape[0], tuple(shape[1:])
    across = None if len(size) == 2 else (2 if slice_axis is None else slice_axis)
    first, second = (axis for axis in range(len(size)) if axis != across)
    if area is None:
        one = uniform((batch,), generator, 0.5, 1.0)  # of the first side
        other = 0.5 / one
    else:
        part = uniform((batch,), generator, *area)
        # A ratio that neither side grows longer than the image with.
        least, most = part.clamp(min=0.3), (1 / part).clamp(max=1 / 0.3)
        ratio = least + (most - least) * uniform((batch,), generator)
        one, other = (part * ratio).sqrt(), (part / ratio).sqrt()
    return _boxes(shape, {first: (one * size[first]).round(), second: (other * size[second]).round()}, generator)


def some_boxes(
    shape: Sequence[int],
    share: float,
    generator: torch.Generator,
    *,
    area: tuple[float, float] | None = None,
    slice_axis: int | None = None,
) -> Tensor:
    """Return the `box_masks` (B, *size) of a random `share` of the images, each chosen by itself; no box elsewhere."""
    chosen = uniform((shape[0],), generator) < share
    boxes = box_masks(shape, generator, area=area, slice_axis=slice_axis)
    return boxes & per_item(chosen, boxes)


def cuboid_masks(shape: Sequence[int], side: float, generator: torch.Generator) -> Tensor:
    """Return (B, *size) bool: in every image a random box with `side` of its length along every axis, rounded down."""
    return _boxes(
        shape,
        {axis: torch.full((shape[0],), math.floor(side * size + 1e-6)) for axis, size in enumerate(shape[1:])},
        generator,
    )


def _boxes(shape: Sequence[int], lengths: dict[int, Tensor], generator: torch.Generator) -> Tensor:
    """Return (B, *size) bool: boxes of these numbers of voxels (B,) along some axes, anywhere, whole along others."""
    batch, size, device = shape[0], tuple(shape[1:]), generator.device
    mask = torch.ones((batch, *size), dtype=torch.bool, device=device)
    for axis, length in lengths.items():
        length = length.to(device)
        start = (uniform((batch,), generator) * (size[axis] - length + 1)).floor()
        voxel = torch.arange(size[axis], device=device)
        inside = (voxel >= start[:, None]) & (voxel < (start + length)[:, None])
        mask = mask & inside.reshape(batch, *[-1 if each == axis else 1 for each in range(len(size))])
    return mask


def class_masks(label: Tensor, classes: int, generator: torch.Generator) -> Tensor:
    """Return (B, *spatial) bool: in every image the voxels of a random half, rounded up, of the classes it holds.

    To paste those classes of the partner, hand in the partner's label.

    Args:
        label: (B, *spatial) int64 class index.
        classes: K.
        generator: the only source of randomness, on the label's device.
    """
    held = torch.stack([(label == k).flatten(1).any(1) for k in range(classes)], 1)  # (B, K)
    chance = uniform(held.shape, generator).masked_fill(~held, 2)
    rank = chance.argsort(1).argsort(1)
    chosen = rank < (held.sum(1, keepdim=True) + 1) // 2
    return chosen.gather(1, label.flatten(1)).reshape(label.shape)
