"""A sliding window over one prepared volume, with any function that turns patches into probabilities."""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, product
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from semivox.errors import GeometryError

Predict = Callable[[Tensor], Tensor]


@torch.no_grad()
def slide(
    image: Tensor,
    predict: Predict,
    *,
    patch: Sequence[int],
    step_size: float = 0.5,
    stride: Sequence[int] | None = None,
    blend: Literal["gaussian", "plain"] = "gaussian",
    batch: int = 4,
    device: torch.device | str = "cpu",
    mirror: Sequence[int] = (),
) -> Tensor:
    """Return the probabilities (K, *stored) of a whole volume, float32 on the CPU: the mean over all windows.

    Windows start at multiples of the stride, the last one at the volume's end, so every voxel is covered. A volume
    smaller than the patch is padded with zeros on both sides. Sums are kept where `image` is, in float32 whatever
    `predict` returns.

    Args:
        image: (C, X, Y, Z), or (C, S, A, B) for a patch of two axes: then every slice is a picture of its own.
        predict: patches (b, C, *patch) on `device` -> probabilities (b, K, *patch).
        patch: voxels of a window, one per axis that the net sees.
        step_size: stride in parts of the patch, in (0, 1].
        stride: the stride in voxels, instead of `step_size`.
        blend: how windows are averaged: "gaussian" trusts their middle (sigma = patch / 8), "plain" all voxels alike.
        batch: windows per call.
        device: where the net is.
        mirror: axes of the patch along which windows are also shown mirrored, in all combinations; their mean counts.

    Raises:
        GeometryError: a patch, stride or step size that leaves voxels uncovered or does not fit the image.
    """
    window, stride = _whole_axes(image, patch, step_size, stride)
    margins = [max(0, p - s) for p, s in zip(window, image.shape[1:], strict=True)]
    padded = F.pad(image, [side for m in reversed(margins) for side in (m // 2, m - m // 2)])
    weight = _weight(window, blend).to(image.device)
    total = torch.zeros(padded.shape[1:], device=image.device)
    summed: Tensor | None = None
    for boxes in _batches(_boxes(padded.shape[1:], window, stride), batch):
        patches = torch.stack([padded[(slice(None), *box)] for box in boxes]).to(device)
        p = mirrored(predict, patches.view(len(boxes), -1, *patch), mirror).to(image.device)
        if summed is None:
            summed = torch.zeros((p.shape[1], *total.shape), device=image.device)
        for box, values in zip(boxes, p.view(*p.shape[:2], *window), strict=True):
            summed[(slice(None), *box)] += values * weight
            total[box] += weight
    if summed is None:
        raise GeometryError(f"an image of shape {tuple(image.shape)} has no voxels to predict")
    kept = tuple(slice(m // 2, m // 2 + s) for m, s in zip(margins, image.shape[1:], strict=True))
    summed /= total  # in place: these are the largest arrays of a prediction
    return summed[(slice(None), *kept)].cpu().contiguous()


def _whole_axes(
    image: Tensor, patch: Sequence[int], step_size: float, stride: Sequence[int] | None
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return window and stride along all three axes: a slice is a window of one voxel along the first."""
    if image.ndim != 4 or len(patch) not in (2, 3):
        raise GeometryError(
            f"found an image with {image.ndim} axes and a patch with {len(patch)}: "
            "expected (C, X, Y, Z) and a patch of 3, or (C, slices, A, B) and a patch of 2"
        )
    if stride is None:
        if not 0 < step_size <= 1:
            raise GeometryError(f"step size {step_size}: expected a part of the patch above 0 and up to 1")
        stride = [max(1, int(p * step_size)) for p in patch]
    if len(stride) != len(patch) or not all(0 < s <= p for s, p in zip(stride, patch, strict=True)):
        raise GeometryError(
            f"stride {tuple(stride)} for patch {tuple(patch)}: expected 1 up to the patch's size along every axis, "
            "or voxels between the windows stay without a prediction"
        )
    flat = (1,) * (3 - len(patch))
    return (*flat, *patch), (*flat, *stride)


def _boxes(shape: Sequence[int], window: Sequence[int], stride: Sequence[int]) -> Iterator[tuple[slice, ...]]:
    """Yield the windows that cover a volume at least as large as one."""
    starts = []
    for size, side, step in zip(shape, window, stride, strict=True):
        last = size - side
        starts.append([min(i * step, last) for i in range(math.ceil(last / step) + 1)])
    for corner in product(*starts):
        yield tuple(slice(start, start + side) for start, side in zip(corner, window, strict=True))


def _batches(boxes: Iterator[tuple[slice, ...]], size: int) -> Iterator[list[tuple[slice, ...]]]:
    found = []
    for box in boxes:
        found.append(box)
        if len(found) == size:
            yield found
            found = []
    if found:
        yield found


def _weight(window: Sequence[int], blend: str) -> Tensor:
    """Return the weight of every voxel of a window, in (0, 1]."""
    weight = torch.ones(tuple(window))
    if blend == "plain":
        return weight
    for axis, side in enumerate(window):
        offset = (torch.arange(side) - (side - 1) / 2) / (side / 8)
        shape = [1] * len(window)
        shape[axis] = side
        weight = weight * torch.exp(-0.5 * offset.square()).view(shape)
    return weight.clamp(min=1e-3 * float(weight.max()))  # far corners of the volume rest on one window alone


def mirrored(predict: Predict, patches: Tensor, axes: Sequence[int]) -> Tensor:
    """Return the mean prediction, float32, over all combinations of mirrored axes, each mirrored back."""
    views = [[2 + axis for axis in chosen] for n in range(len(axes) + 1) for chosen in combinations(axes, n)]
    total = predict(patches).float()  # autocast may hand on bf16, in which sums lose what they add
    for flips in views[1:]:
        total = total + predict(patches.flip(flips)).flip(flips)
    return total / len(views)
