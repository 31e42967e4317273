"""Contrast of two views of the same drawn pixels: NT-Xent, MoCo's with neighbours, BYOL's distance, VICReg's terms.

Rows are pixels. A pixel may be drawn more than once, and rows that are not valid count for nothing.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from semivox.errors import ConfigError
from semivox.ops.contrast import full_precision, unit

PULL = 0.4
"""lambda of kNN-MoCo: what the neighbours' positives weigh against a pixel's own key."""

VARIANCE_FLOOR = 1e-4
"""epsilon of VICReg, without which the standard deviation of equal rows has no gradient."""


def nt_xent(z_1: Tensor, z_2: Tensor, pixels: Tensor, valid: Tensor, *, tau: float) -> Tensor:
    """Return SimCLR's loss (Chen et al., ICML 2020, Eq. 1): each of 2 N rows shall find its pixel in the other view.

    ``-log [e^(cos(i, j) / tau) / (e^(cos(i, j) / tau) + sum_k e^(cos(i, k) / tau))]``, where j is the partner of i and
    k runs over the rows of other pixels in both views: a further draw of i's own pixel is no negative. The mean over
    valid rows, exactly 0 where there is no other pixel. By hand: two orthonormal pixels, equal in both views, and
    tau = .5 give log(1 + 2 e^-2) = .239545.

    Args:
        z_1: (N, D) rows of one view.
        z_2: (N, D) the same pixels in the other view.
        pixels: (N,) int64, which pixel a row is.
        valid: (N,) bool; rows that count, also as negatives.
        tau: temperature.
    """
    with torch.autocast(z_1.device.type, enabled=False):
        z = torch.cat([unit(z_1), unit(z_2)])
        both, on = pixels.repeat(2), valid.repeat(2)
        partner = torch.arange(len(z), device=z.device).roll(len(pixels))
        compared = ((both[:, None] != both) & on).scatter_(1, partner[:, None], True)  # (2 N, 2 N)
        logits = (z @ z.mT / tau).masked_fill(~compared, -torch.inf)
        return _mean(F.cross_entropy(logits, partner, reduction="none"), on)


def queue_contrast(
    queries: Tensor,
    keys: Tensor,
    rows: Tensor,
    filled: Tensor,
    valid: Tensor,
    *,
    tau: float,
    neighbours: int = 0,
) -> Tensor:
    """Return MoCo's loss (He et al., CVPR 2020, Eq. 1): a query shall find its key among a queue of earlier ones.

    With neighbours, also the queue's rows nearest to the key (kNN-MoCo, Van Gansbeke et al., NeurIPS 2021): the mean of
    the same -log p over them is added with weight .4. Rows that are not filled are no neighbours, so that an empty
    queue gives exactly 0. By hand: a query that equals its key, one orthogonal row and tau = .5 give log(1 + e^-2) =
    .126928, and if that row is the neighbour .4 (2 + log(1 + e^-2)) more.

    Args:
        queries: (N, D) the student's rows.
        keys: (N, D) the teacher's, of the same pixels; no gradient flows to them.
        rows: (R, D) earlier keys.
        filled: (R,) bool, rows that count; or (N, R), which of them for each query.
        valid: (N,) bool; queries that count.
        tau: temperature.
        neighbours: k; 0 is MoCo.

    Raises:
        ConfigError: more neighbours than rows.
    """
    if not 0 <= neighbours <= len(rows):
        raise ConfigError(
            f"{neighbours} nearest neighbours of {len(rows)} rows: take 0 to {len(rows)}, or a longer queue"
        )
    with torch.autocast(queries.device.type, enabled=False):
        q, k, rows = unit(queries), unit(keys.detach()), unit(rows)
        filled = filled.expand(len(q), -1)
        logits = torch.cat([(q * k).sum(1, keepdim=True), (q @ rows.mT).masked_fill(~filled, -torch.inf)], 1)
        doubt = -(logits / tau).log_softmax(1)  # (N, 1 + R)
        if neighbours == 0:
            return _mean(doubt[:, 0], valid)
        nearest = (k @ rows.mT).masked_fill(~filled, -torch.inf).topk(neighbours).indices  # (N, neighbours)
        near = filled.gather(1, nearest)
        pull = doubt[:, 1:].gather(1, nearest).where(near, 0).sum(1) / near.sum(1).clamp(min=1)
        return _mean(doubt[:, 0] + PULL * pull, valid)


def column_contrast(z_1: Tensor, z_2: Tensor, valid: Tensor, *, tau: float) -> Tensor:
    """Return how badly each dimension of one view finds the same dimension of the other among all dimensions.

    ``-(1 / D) sum_j log [e^(s_jj / tau) / sum_l e^(s_jl / tau)]``, s_jl the cosine of column j of the first view and
    column l of the second over valid rows: InfoNCE along the other axis, which alike columns do not solve. As there,
    the gradient on a negative, p_jl / (tau D) with p the softmax, grows with its similarity. By hand: equal columns
    give log D, orthonormal ones, the same in both views, log(1 + (D - 1) e^(-1 / tau)). In fewer than D valid rows no
    D columns are orthogonal.

    Args:
        z_1: (N, D) rows of one view.
        z_2: (N, D) the same pixels in the other view; no gradient flows to them.
        valid: (N,) bool; rows that count.
        tau: temperature.
    """
    with torch.autocast(z_1.device.type, enabled=False):
        columns_1, columns_2 = (unit((full_precision(z) * valid[:, None]).mT) for z in (z_1, z_2.detach()))  # (D, N)
        similarity = columns_1 @ columns_2.mT / tau
        return -similarity.log_softmax(1).diagonal().mean()


def cosine_distance(p: Tensor, z: Tensor, valid: Tensor) -> Tensor:
    """Return 2 - 2 cos(p, z), BYOL's loss (Grill et al., NeurIPS 2020, Eq. 2), the mean over valid rows.

    Args:
        p: (N, D) the student's predictions.
        z: (N, D) the teacher's embeddings of the same pixels; no gradient flows to them.
        valid: (N,) bool; rows that count.
    """
    with torch.autocast(p.device.type, enabled=False):
        return _mean(2 - 2 * (unit(p) * unit(z.detach())).sum(1), valid)


def vicreg_terms(z_1: Tensor, z_2: Tensor, valid: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return invariance, variance and covariance of two views (VICReg: Bardes, Ponce & LeCun, ICLR 2022).

    The mean squared difference; how far the standard deviation of each dimension stays below 1, averaged over
    dimensions and views; the squared covariances of different dimensions, summed, over D, summed over views, as the
    paper's weights 25, 25 and 1 expect it. All exactly 0 below two valid rows. By hand: equal rows have the variance
    term 1 - sqrt(1e-4) = .99; (1, 1), (1, -1), (-1, 1), (-1, -1) in both views give 0, 0, 0.

    Args:
        z_1: (N, D) rows of one view.
        z_2: (N, D) the same pixels in the other view.
        valid: (N,) bool; rows that count.
    """
    with torch.autocast(z_1.device.type, enabled=False):
        z_1, z_2 = full_precision(z_1), full_precision(z_2)
        enough = valid.sum() > 1
        invariance = _mean((z_1 - z_2).square().mean(1), valid)
        variance, covariance = z_1.new_zeros(()), z_1.new_zeros(())
        for z in (z_1, z_2):
            centred = (z - (z * valid[:, None]).sum(0) / valid.sum().clamp(min=1)) * valid[:, None]
            spread = centred.mT @ centred / (valid.sum() - 1).clamp(min=1)  # (D, D)
            deviation = (spread.diagonal() + VARIANCE_FLOOR).sqrt()
            variance = variance + F.relu(1 - deviation).mean() / 2
            covariance = covariance + (spread - spread.diagonal().diag()).square().sum() / z.shape[1]
        return enough * invariance, enough * variance, enough * covariance


def _mean(x: Tensor, valid: Tensor) -> Tensor:
    """Return the mean of `x` (N,) where valid; 0 where nothing is."""
    return x.where(valid, 0).sum() / valid.sum().clamp(min=1)
