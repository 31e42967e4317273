"""How sure a net is of each voxel, and losses on pseudo labels that ask for it."""

import math
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from semivox.ops.freeze import in_eval


def entropy(p: Tensor) -> Tensor:
    """Return -sum_k p_k ln p_k, (B, *spatial) float32, in [0, ln K], of probabilities (B, K, *spatial)."""
    return torch.special.entr(p.float()).sum(1)


def likeliest(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return the probability of each voxel's likeliest class, float32, and that class, both (B, *spatial)."""
    probability, label = logits.float().softmax(1).max(1)
    return probability, label


@torch.no_grad()
def pseudo_labels(net: nn.Module, image: Tensor, *, mode: Literal["eval", "train"]) -> tuple[Tensor, Tensor]:
    """Return what is `likeliest` by a net that learns: without its dropout, or as it is in training."""
    return likeliest(in_eval(net, image) if mode == "eval" else net(image))


def entropy_loss(logits: Tensor, valid: Tensor | None = None) -> Tensor:
    """Return the mean entropy over log K of valid voxels, in [0, 1]; exactly 0 where there is none.

    From logits, since the gradient of p log p is infinite where p is so small that it is stored as 0. By hand: odds of
    3 to 1 give (.75 ln 4/3 + .25 ln 4) / ln 2 = .811278.

    Args:
        logits: (B, K, *spatial).
        valid: (B, *spatial) bool; voxels that count, by default all.
    """
    log_p = logits.float().log_softmax(1)
    doubt = -(log_p.exp() * log_p).sum(1) / math.log(logits.shape[1])  # (B, *spatial)
    return doubt.mean() if valid is None else (doubt * valid).sum() / valid.sum().clamp(min=1)


def surer_mean(p: Tensor, q: Tensor) -> Tensor:
    """Return the mean of two predictions in which, voxel by voxel, the surer one weighs more: exp(-H / log K) each.

    Proposed with AD-MT (Zhao et al., ECCV 2024, arXiv:2311.17325), there with entropies in bits, which for two classes
    is the same. By hand: p = (1, 0), of entropy 0, and q = (1/2, 1/2), of entropy log 2, weigh 1 and 1/e, which gives
    the first class (e + 1/2) / (e + 1) = .865529.

    Args:
        p: (B, K, *spatial) probabilities.
        q: (B, K, *spatial) probabilities.
    """
    doubt_p, doubt_q = (entropy(x) / math.log(x.shape[1]) for x in (p, q))
    weight = torch.sigmoid(doubt_q - doubt_p).unsqueeze(1)  # e^-a / (e^-a + e^-b)
    return weight * p.float() + (1 - weight) * q.float()


def most_certain(entropy: Tensor, share: float, valid: Tensor | None = None) -> Tensor:
    """Return the mask of the valid voxels with the lowest entropy: floor(share * valid voxels) of them, exactly.

    The released code's percentile masks, but with ties broken by position, so that the number is exact. By hand: of
    entropies .1 .2 .2 .3 a share of .5 keeps the first two.

    Args:
        entropy: of any shape; all its voxels compete.
        share: in [0, 1].
        valid: bool of the same shape; voxels that count, by default all.
    """
    if valid is None:
        valid = torch.ones_like(entropy, dtype=torch.bool)
    order = entropy.masked_fill(~valid, torch.inf).flatten().argsort(stable=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device)
    # Rounded up by less than a voxel's millionth: .2 * 5 is 1, whatever floats make of it.
    return (rank < (share * valid.sum().double() + 1e-6).floor()).reshape(entropy.shape) & valid


def most_certain_of_each(
    entropy: Tensor, label: Tensor, classes: int, share: float, valid: Tensor | None = None
) -> Tensor:
    """Return the mask of the voxels with the lowest entropy among those of their class, a `share` of every class.

    Where all voxels compete together, background wins every place. By hand: of entropies .1 .2 .3 .9 with labels
    0 0 1 1 a share of .5 keeps the first and the third.

    Args:
        entropy: of any shape.
        label: int64 of the same shape, the class that a voxel competes in.
        classes: K.
        share: in [0, 1], rounded down to whole voxels of each class.
        valid: bool of the same shape; voxels that count, by default all.
    """
    if valid is None:
        valid = torch.ones_like(label, dtype=torch.bool)
    kept = torch.zeros_like(valid)
    for k in range(classes):
        kept = kept | most_certain(entropy, share, valid & (label == k))
    return kept


def pseudo_cross_entropy(
    logits: Tensor, label: Tensor, confidence: Tensor, threshold: float, valid: Tensor | None = None
) -> Tensor:
    """Return L_unsup: cross-entropy against pseudo labels, each image weighed by the part of it that is confident.

    ``mean over voxels with a loss above 0 of w_b * CE``, w_b = part of the valid voxels of image b whose confidence is
    at least `threshold` (the released code of ARCO; the rule is ReCo's). Exactly 0 where nothing is confident.

    Args:
        logits: (B, K, *spatial).
        label: (B, *spatial) int64 pseudo label.
        confidence: (B, *spatial), the probability of that label.
        threshold: in [0, 1].
        valid: (B, *spatial) bool; voxels that count, by default all.
    """
    if valid is None:
        valid = torch.ones_like(label, dtype=torch.bool)
    loss = F.cross_entropy(logits.float(), label, reduction="none") * valid  # (B, *spatial)
    sure = ((confidence >= threshold) & valid).flatten(1).sum(1) / valid.flatten(1).sum(1).clamp(min=1)
    return (loss.flatten(1).sum(1) * sure).sum() / (loss > 0).sum().clamp(min=1)
