"""Contrast between two views of the same things, and how far a representation has collapsed."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

# Similarities lie in [-1, 1], so exp(_NEVER - similarity) is an exact zero, and no row of logits is all infinite.
_NEVER = -1e4


def _full(x: Tensor) -> Tensor:
    """Return `x` in at least single precision: a softmax of half-precision similarities is too coarse."""
    return x if x.dtype == torch.float64 else x.float()


def info_nce(h_t: Tensor, h_s: Tensor, tau: float) -> Tensor:
    """Return l(h_t, h_s) + l(h_s, h_t): every row shall find the same row of the other view among all its rows.

    ``l(a, b) = mean_i -log [exp(a_i . b_i / tau) / sum_k exp(a_i . b_k / tau)]``; the sum holds the positive. By hand:
    two orthonormal rows in both views and tau = .5 give 2 log(1 + e^-2) = .253856. Fewer than two rows: 0, no negative.

    Args:
        h_t: (..., N, D) rows of one view, of unit length where cosine similarity is meant.
        h_s: (..., N, D) rows of the other view; leading axes are averaged over.
        tau: temperature.
    """
    if h_s.shape[-2] < 2:
        return (h_s.sum() + h_t.sum()) * 0
    with torch.autocast(h_s.device.type, enabled=False):
        similarity = _full(h_t) @ _full(h_s).mT / tau  # (..., N, N)
        both = similarity.log_softmax(-1) + similarity.log_softmax(-2)
    return -both.diagonal(dim1=-2, dim2=-1).mean()


def pairwise_distillation(
    v_s: Tensor, v_t: Tensor, valid: Tensor | None = None, *, reduction: Literal["mean", "sum"] = "mean"
) -> Tensor:
    """Return how badly each student vector finds its own teacher vector by cosine similarity within its volume.

    ``-log [exp(cos(v_s_j, v_t_j)) / sum_k exp(cos(v_s_j, v_t_k))]``, over the valid positions j and k of a volume.
    By hand: two orthonormal vectors in both give log(1 + e^-1) = .313262, N equal vectors log N.

    Args:
        v_s: (M, N, D) vectors of M volumes at N positions.
        v_t: (M, N, D) the teacher's.
        valid: (M, N) bool; positions that count, by default all. Volumes without one do not count.
        reduction: over the positions of a volume; volumes are always averaged.
    """
    if valid is None:
        valid = torch.ones(v_s.shape[:2], dtype=torch.bool, device=v_s.device)
    with torch.autocast(v_s.device.type, enabled=False):
        cosine = F.normalize(_full(v_s), dim=-1) @ F.normalize(_full(v_t), dim=-1).mT  # (M, N, N)
        fit = cosine.masked_fill(~valid.unsqueeze(1), _NEVER).log_softmax(-1).diagonal(dim1=-2, dim2=-1)
    counts = valid.sum(1)
    loss = -(fit * valid).sum(1)
    if reduction == "mean":
        loss = loss / counts.clamp(min=1)
    return loss.sum() / (counts > 0).sum().clamp(min=1)


@torch.no_grad()
def mean_variance(z: Tensor) -> Tensor:
    """Return the variance of the rows of `z` (N, D), averaged over D; 0 = collapsed, NaN without rows."""
    z = _full(z)
    return (z - z.mean(0)).square().mean()


@torch.no_grad()
def effective_rank(z: Tensor) -> Tensor:
    """Return exp(entropy of the normalised singular values) of the centred rows: 0 = collapsed, at most min(N - 1, D).

    By hand: the rows (1, 0), (-1, 0), (0, 1), (0, -1) spread alike in two directions: 2. NaN without rows, and where
    an entry or its square is not finite: what is only shown must not raise before the losses are looked at.

    Args:
        z: (N, D) one vector a row.
    """
    if not z.numel():
        return z.new_full((), torch.nan, dtype=torch.float32)
    with torch.autocast(z.device.type, enabled=False):
        z = _full(z)
        centred = z - z.mean(0)
        # The smaller Gram matrix has the same non-zero eigenvalues: the squares of the singular values.
        gram = centred @ centred.mT if z.shape[0] <= z.shape[1] else centred.mT @ centred
        finite = gram.isfinite().all()
        values = torch.linalg.eigvalsh(torch.where(finite, gram, 0)).clamp(min=0).sqrt()
        # Rounding spreads equal rows, and the small eigenvalues of a large matrix: neither is spread of the data.
        values = values * (values > torch.maximum(1e-3 * values.max(), 1e-5 * z.norm()))
        share = values / values.sum().clamp(min=torch.finfo(values.dtype).tiny)
        return torch.where(finite, torch.special.entr(share).sum().exp() * (values.sum() > 0), torch.nan)
