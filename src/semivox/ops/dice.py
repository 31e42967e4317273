"""Supervised losses, Dice and cross-entropy, and the masked differences of consistency terms."""

import math

import torch
from torch import Tensor
from torch.nn import functional as F


def soft_dice_loss(p: Tensor, label: Tensor, valid: Tensor | None = None, *, smooth: float = 1e-5) -> Tensor:
    """Return 1 - the Dice overlap of probabilities and labels, averaged over the foreground classes.

    Sums run over the batch and all voxels together, with squares in the denominator, as V-Net's loss does:
    ``1 - (2 sum(p y) + smooth) / (sum(p^2) + sum(y^2) + smooth)``. By hand: p = .8 on the one foreground
    voxel and .4 on the one background voxel give 1 - 1.6 / (.64 + .16 + 1) = 1/9.

    Args:
        p: (B, K, *spatial) probabilities; channel 0 is the background and does not count.
        label: (B, *spatial) int64 class index.
        valid: (B, *spatial) bool; voxels that count, by default all.
        smooth: keeps the loss at 0 where a class is neither there nor predicted.
    """
    y = torch.stack([label == k for k in range(1, p.shape[1])], dim=1).to(p.dtype)  # (B, K - 1, *spatial)
    return _soft_dice(p[:, 1:], y, valid, smooth)


def soft_dice_between(p: Tensor, q: Tensor, valid: Tensor | None = None, *, smooth: float = 1e-5) -> Tensor:
    """Return 1 - the Dice overlap of two maps of probabilities, as `soft_dice_loss` has it; 0 where they are equal.

    By hand: .8 and .4 of the foreground at one voxel give 1 - .64 / (.64 + .16) = .2.

    Args:
        p: (B, K, *spatial) probabilities; channel 0 is the background and does not count.
        q: (B, K, *spatial) others.
        valid: (B, *spatial) bool; voxels that count, by default all.
        smooth: keeps the loss at 0 where both find nothing of a class.
    """
    return _soft_dice(p[:, 1:], q[:, 1:], valid, smooth)


def _soft_dice(p: Tensor, q: Tensor, valid: Tensor | None, smooth: float) -> Tensor:
    if valid is not None:
        mask = valid.unsqueeze(1)
        p, q = p * mask, q * mask
    over = (0, *range(2, p.ndim))
    overlap = 2 * (p * q).sum(over) + smooth
    return (1 - overlap / (p.square().sum(over) + q.square().sum(over) + smooth)).mean()


def masked_cross_entropy(logits: Tensor, label: Tensor, valid: Tensor | None = None) -> Tensor:
    """Return the mean cross-entropy over valid voxels; exactly 0 where there is none.

    Args:
        logits: (B, K, *spatial).
        label: (B, *spatial) int64 class index.
        valid: (B, *spatial) bool; voxels that count, by default all.
    """
    loss = F.cross_entropy(logits, label, reduction="none")  # (B, *spatial)
    return loss.mean() if valid is None else (loss * valid).sum() / valid.sum().clamp(min=1)


def dice_ce(logits: Tensor, label: Tensor, valid: Tensor | None = None) -> Tensor:
    """Return (cross-entropy + foreground Dice loss) / 2 over valid voxels, the supervised loss of the UA-MT line.

    Args:
        logits: (B, K, *spatial).
        label: (B, *spatial) int64 class index.
        valid: (B, *spatial) bool; voxels that count, by default all.
    """
    logits = logits.float()
    return (masked_cross_entropy(logits, label, valid) + soft_dice_loss(logits.softmax(1), label, valid)) / 2


def masked_mse(p: Tensor, q: Tensor, valid: Tensor | None = None) -> Tensor:
    """Return the mean squared difference over valid voxels and all channels; exactly 0 where no voxel is valid.

    Args:
        p: (B, C, *spatial).
        q: (B, C, *spatial).
        valid: (B, *spatial) bool; voxels that count, by default all.
    """
    square = (p.float() - q.float()).square()
    if valid is None:
        return square.mean()
    return (square * valid.unsqueeze(1)).sum() / (valid.sum().clamp(min=1) * p.shape[1])


def divergence(p: Tensor, log_q: Tensor) -> Tensor:
    """Return KL(p || q) of every voxel, (B, *spatial), of probabilities and log-probabilities (B, K, *spatial)."""
    return (-torch.special.entr(p) - p * log_q).sum(1)


def masked_kl(p: Tensor, logits: Tensor, mask: Tensor) -> Tensor:
    """Return KL(p || softmax(logits)), the mean over each image's masked voxels, then over images; 0 without any.

    Args:
        p: (B, K, *spatial) probabilities; no gradient flows to them.
        logits: (B, K, *spatial).
        mask: (B, *spatial) bool; voxels that count. Images without one count as 0.
    """
    p = p.detach().float()
    difference = divergence(p, logits.float().log_softmax(1))
    counts = mask.flatten(1).sum(1).clamp(min=1)
    return ((difference * mask).flatten(1).sum(1) / counts).mean()


def masked_js(logits: Tensor, others: Tensor, valid: Tensor) -> Tensor:
    """Return the Jensen-Shannon divergence of two predictions, the mean over valid voxels; 0 where none is valid.

    ``H((p + q) / 2) - (H(p) + H(q)) / 2`` with p and q the softmax of each: from 0, where they agree, to ln 2. By hand:
    3/4 and 1/4 against 1/4 and 3/4 are ln 2 - .562335 = .130812 apart. From logits, so that it is finite for any
    sureness; a gradient flows to both.

    Args:
        logits: (B, K, *spatial).
        others: (B, K, *spatial).
        valid: (B, *spatial) bool; voxels that count.
    """
    p, q = logits.float().log_softmax(1), others.float().log_softmax(1)
    mean = torch.logaddexp(p, q) - math.log(2)
    apart = (p.exp() * (p - mean) + q.exp() * (q - mean)).sum(1) / 2  # (B, *spatial)
    return (apart * valid).sum() / valid.sum().clamp(min=1)
