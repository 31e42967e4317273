"""Supervised contrast of all pixels with each other, by their labels; and the blocks that it may be cut into.

Khosla et al., NeurIPS 2020, arXiv:2004.11362 (SupCon), of pixels as in Hu et al., MICCAI 2021, arXiv:2109.07407.
"""

from functools import partial

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.checkpoint import checkpoint

from semivox.ops.contrast import unit

ENTRIES = 2**20
"""Similarities that are held at once: 4 MB of them in each of the few tensors that a backward pass takes."""


def dense_contrast(z: Tensor, label: Tensor, valid: Tensor, *, tau: float) -> Tensor:
    """Return how badly foreground pixels find the others of their class among all the others of their group.

    ``mean_a -1/|P(a)| sum_{p in P(a)} log [e^(cos(a, p) / tau) / sum_{n != a} e^(cos(a, n) / tau)]``: anchors a are
    foreground, P(a) are the other pixels of a's label, n all other pixels, those of the background too. The mean over a
    group's anchors, then over the groups that have any; a pixel without a positive is no anchor. Exactly 0 without
    anchors. By hand: two equal pixels of one class, an orthogonal one of the background, and tau = .5 give
    log(1 + e^-2) = .126928.

    Memory: `ENTRIES` similarities at a time, or one pixel's row of them, however many there are: the backward pass
    computes them anew. Time: that of the foreground's rows; to know how many, a GPU is waited for once.

    Args:
        z: (G, N, D) pixels of G groups.
        label: (G, N) int64 class index, given or pseudo; 0 is the background.
        valid: (G, N) bool; pixels that count.
        tau: temperature.
    """
    size = label.shape[1]
    of_groups, of_rows = max(1, ENTRIES // size**2), max(1, ENTRIES // size)
    asking = valid & (label > 0)
    order = asking.int().argsort(dim=1, descending=True, stable=True)
    counts = asking.sum(1).tolist()  # most pixels are background, whose rows would be computed for nothing
    anew = partial(checkpoint, use_reentrant=False, preserve_rng_state=False)
    losses, there = [], []
    with torch.autocast(z.device.type, enabled=False):
        for index, part in enumerate(zip(*(x.split(of_groups) for x in (unit(z), label, valid, order)), strict=True)):
            most = max(1, *counts[index * of_groups : (index + 1) * of_groups])
            pieces = [anew(_doubt, *part[:3], rows, tau) for rows in part[3][:, :most].split(of_rows, 1)]
            doubt, anchor = (torch.cat(x, 1) for x in zip(*pieces, strict=True))
            losses.append(doubt.where(anchor, 0).sum(1) / anchor.sum(1).clamp(min=1))
            there.append(anchor.any(1))
        return torch.cat(losses).sum() / torch.cat(there).sum().clamp(min=1)


def _doubt(z: Tensor, label: Tensor, valid: Tensor, rows: Tensor, tau: float) -> tuple[Tensor, Tensor]:
    """Return the loss of the pixels `rows` (G, R), indices into every group's N, and which of them are anchors."""
    pixel, y = torch.arange(label.shape[1], device=label.device), label.gather(1, rows)
    other = valid[:, None] & (rows[..., None] != pixel)  # (G, R, N)
    positive = other & (y[..., None] == label[:, None])
    count = positive.sum(2)
    asking = z.gather(1, rows[..., None].expand(-1, -1, z.shape[2]))
    likeness = asking @ z.mT / tau
    total = likeness.masked_fill(~other, torch.finfo(likeness.dtype).min).logsumexp(2)
    doubt = total - likeness.where(positive, 0).sum(2) / count.clamp(min=1)
    return doubt, valid.gather(1, rows) & (y > 0) & (count > 0)


def in_blocks(x: Tensor, side: int) -> Tensor:
    """Return (G, M * block, C): the voxels of (M, C, *spatial), one group for each block of `side` voxels a side.

    A block is cut out of all M images. Where `side` does not divide an axis the last blocks are filled up with zeros,
    which are False of a mask; an axis shorter than it is not cut. By hand: a row of 5 voxels in blocks of 2 gives 3
    groups.
    """
    sides = [min(side, length) for length in x.shape[2:]]
    short = [-length % part for length, part in zip(x.shape[2:], sides, strict=True)]
    x = F.pad(x, [margin for missing in reversed(short) for margin in (0, missing)])
    for axis, part in enumerate(sides):
        x = x.unflatten(2 + 2 * axis, (-1, part))  # (M, C, count, part, count, part, ...)
    dims = len(sides)
    counts, parts = range(2, 2 + 2 * dims, 2), range(3, 3 + 2 * dims, 2)
    return x.permute(*counts, 0, *parts, 1).flatten(0, dims - 1).flatten(1, 1 + dims)


def named_first(pixels: Tensor) -> Tensor:
    """Return (N,) bool: False where a pixel of the list (N,) was named before, or is -1, which is none.

    By hand: 3 1 3 -1 gives True True False False.
    """
    ordered, order = pixels.sort(stable=True)
    again = ordered.diff(prepend=ordered.new_full((1,), -1)) == 0
    return ~again.scatter(0, order, again)
