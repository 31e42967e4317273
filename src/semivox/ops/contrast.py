"""Contrast between views, classes and images, and how far a representation has collapsed."""

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from semivox.errors import ConfigError

# Similarities lie in [-1, 1], so exp(_NEVER - similarity) is an exact zero, and no row of logits is all infinite.
_NEVER = -1e4

VARIANCE_FLOOR = 1e-8
"""Below it a column counts as constant."""


def full_precision(x: Tensor) -> Tensor:
    """Return `x` in at least single precision: a softmax of half-precision similarities is too coarse."""
    return x if x.dtype == torch.float64 else x.float()


def unit(x: Tensor) -> Tensor:
    """Return rows (..., D) of length 1, in at least single precision: their products are cosines."""
    return F.normalize(full_precision(x), dim=-1)


def info_nce(h_t: Tensor, h_s: Tensor, tau: float, valid: Tensor | None = None) -> Tensor:
    """Return l(h_t, h_s) + l(h_s, h_t): every row shall find the same row of the other view among all its rows.

    ``l(a, b) = mean_i -log [exp(a_i . b_i / tau) / sum_k exp(a_i . b_k / tau)]``; the sum holds the positive. By hand:
    two orthonormal rows in both views and tau = .5 give 2 log(1 + e^-2) = .253856. Fewer than two rows: 0, no negative.

    Args:
        h_t: (..., N, D) rows of one view, of unit length where cosine similarity is meant.
        h_s: (..., N, D) rows of the other view; leading axes are averaged over.
        tau: temperature.
        valid: (N,) bool, rows that count, as i and as k; by default all.
    """
    if valid is None:
        valid = torch.ones(h_s.shape[-2], dtype=torch.bool, device=h_s.device)
    with torch.autocast(h_s.device.type, enabled=False):
        similarity = full_precision(h_t) @ full_precision(h_s).mT / tau  # (..., N, N)
        similarity = similarity.masked_fill(~(valid & valid[:, None]), _NEVER / tau)
        both = similarity.log_softmax(-1) + similarity.log_softmax(-2)
    fit = both.diagonal(dim1=-2, dim2=-1) * valid
    return -fit.sum(-1).mean() / valid.sum().clamp(min=1)


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
        cosine = unit(v_s) @ unit(v_t).mT  # (M, N, N)
        fit = cosine.masked_fill(~valid.unsqueeze(1), _NEVER).log_softmax(-1).diagonal(dim1=-2, dim2=-1)
    counts = valid.sum(1)
    loss = -(fit * valid).sum(1)
    if reduction == "mean":
        loss = loss / counts.clamp(min=1)
    return loss.sum() / (counts > 0).sum().clamp(min=1)


def standardised(x: Tensor, valid: Tensor) -> Tensor:
    """Return `x` with mean 0 and variance 1 of each column over the valid rows; a constant column is 0.

    What images' pooled features need before they are compared: behind an instance norm they are nearly the same for
    all images, and their differences, which are what a contrast is about, would have hardly any gradient. By hand: 1
    and 3 give -1 and 1.

    Args:
        x: (N, D) one vector a row.
        valid: (N,) bool; rows that count.
    """
    x, on = full_precision(x), valid[:, None]
    count = valid.sum().clamp(min=1)
    centred = (x - x.where(on, 0).sum(0) / count).where(on, 0)
    return centred / (centred.square().sum(0) / count + VARIANCE_FLOOR).sqrt()


def class_means(features: Tensor, class_ids: Tensor, classes: int) -> Tensor:
    """Return (..., K, D): the mean feature of every class, zero for a class without any.

    Args:
        features: (..., N, D).
        class_ids: (..., N) int64; ids outside 0 ... K - 1 do not count.
        classes: K.
    """
    with torch.autocast(features.device.type, enabled=False):
        features = full_precision(features)
        member = members(class_ids, classes).to(features.dtype)
        return member @ features / member.sum(-1, keepdim=True).clamp(min=1)


def members(class_ids: Tensor, classes: int) -> Tensor:
    """Return (..., K, N) bool: which of the `class_ids` (..., N) are of each class."""
    return class_ids.unsqueeze(-2) == torch.arange(classes, device=class_ids.device)[:, None]


def group_contrast(
    anchors: Tensor, keys: Tensor, found: Tensor, scans: Tensor | None = None, *, tau: float
) -> Tensor:
    """Return how badly the groups of images find the same group in other images among all other groups (InfoNCE).

    ``-log [e^(a.p / tau) / (e^(a.p / tau) + sum_n e^(a.n / tau))]``, averaged over an anchor's positives, which do not
    compete with each other, then over the anchors that have positives and negatives; exactly 0 where none has. Products
    are cosines. By hand: two groups, orthogonal to each other and the same in two images, and tau = .5 give
    log(1 + 2 e^-2) = .239545.

    Args:
        anchors: (B, G, D) what G groups of each image are on average.
        keys: (B, G, D) the same in another view; those of the group in any image are positives, its own one too.
        found: (B, G) bool; groups that an image has.
        scans: (B,) int64; with it, positives are of images of other scans alone.
        tau: temperature.
    """
    images, groups = found.shape
    index = torch.arange(images * groups, device=found.device)
    group, image, there = index % groups, index // groups, found.flatten()
    there = there[:, None] & there
    positives = there & (group[:, None] == group)
    negatives = there & ~positives
    if scans is not None:
        positives = positives & (scans[image][:, None] != scans[image])
    with torch.autocast(anchors.device.type, enabled=False):
        logits = unit(anchors).flatten(0, 1) @ unit(keys).flatten(0, 1).mT / tau  # (B * G, B * G)
        against = logits.masked_fill(~negatives, _NEVER).logsumexp(1, keepdim=True)
        doubt = F.softplus(against - logits).where(positives, 0)
        counts = positives.sum(1)
        loss = doubt.sum(1) / counts.clamp(min=1)
    asked = (counts > 0) & negatives.any(1)
    return loss.where(asked, 0).sum() / asked.sum().clamp(min=1)


def class_contrast(
    queries: Tensor, positives: Tensor, keys: Tensor, negatives: Tensor, valid: Tensor, tau: float
) -> Tensor:
    """Return how badly pixels find the prototype of their class among negatives drawn for each (ARCO, L_contrast).

    ``-log [e^(q.p / tau) / (e^(q.p / tau) + sum_j e^(q.n_j / tau))]``, averaged over the queries of a class, then over
    the valid classes; exactly 0 where none is valid. Products are cosines. By hand: a query that equals its positive,
    with one orthogonal negative and tau = .5, gives log(1 + e^-2) = .126928; with 512 of them 4.252653.

    Args:
        queries: (K, N, D) pixels of every class.
        positives: (K, D) prototype of every class.
        keys: (R, D) what negatives are drawn from.
        negatives: (K, N, M) int64 rows of `keys`.
        valid: (K,) bool; classes that count.
        tau: temperature.
    """
    with torch.autocast(queries.device.type, enabled=False):
        q, p, k = (unit(x) for x in (queries, positives, keys))
        with_positive = torch.einsum("knd,kd->kn", q, p).unsqueeze(-1)
        # All similarities by one product, then the drawn ones: gathering the features first would take D times as much.
        with_negatives = (q @ k.mT).gather(2, negatives)
        logits = torch.cat([with_positive, with_negatives], -1) / tau
        loss = -logits.log_softmax(-1)[..., 0].mean(1)  # (K,)
    return loss.where(valid, 0).sum() / valid.sum().clamp(min=1)


def relational_distillation(
    z_s: Tensor, z_t: Tensor, rows: Tensor, filled: Tensor, valid: Tensor, *, tau_s: float, tau_t: float
) -> Tensor:
    """Return KL(t || s) of how teacher and student see an image's likeness to others (L_inst of MONA and ARCO).

    u = softmax over the filled rows of cos(z, row) / tau; the mean over valid images and leading axes. Exactly 0 where
    no row is filled.

    Args:
        z_s: (..., B, D) the student's embeddings.
        z_t: (..., B, D) the teacher's; no gradient flows to it.
        rows: (..., R, D) embeddings of other images.
        filled: (R,) bool; rows that count.
        valid: (B,) bool; images that count.
        tau_s: the student's temperature.
        tau_t: the teacher's; lower, so that its distribution is the sharper one.
    """
    with torch.autocast(z_s.device.type, enabled=False):
        u_s, u_t = (
            (unit(z) @ unit(rows).mT)
            .masked_fill(~filled, _NEVER)
            .div(tau)
            .log_softmax(-1)
            for z, tau in ((z_s, tau_s), (z_t.detach(), tau_t))
        )
        divergence = (u_t.exp() * (u_t - u_s) * filled).sum(-1)  # (..., B)
    weight = valid / valid.sum().clamp(min=1)
    return (divergence * weight).sum(-1).mean()


def nearest_neighbours(
    z_s: Tensor, z_t: Tensor, rows: Tensor, filled: Tensor, valid: Tensor, *, neighbours: int
) -> Tensor:
    """Return L_nn: 2 - 2 cos between an image and the rows that its teacher finds nearest, the mean over both.

    The teacher chooses, the student learns: the released code has it the other way round, which trains nothing.
    Exactly 0 until `neighbours` rows are filled. By hand: orthogonal to all of them 2, equal to all of them 0.

    Args:
        z_s: (B, D) the student's embeddings.
        z_t: (B, D) the teacher's.
        rows: (R, D) earlier embeddings of the teacher.
        filled: (R,) bool; rows that count.
        valid: (B,) bool; images that count.
        neighbours: rows for each image.

    Raises:
        ConfigError: more neighbours than rows.
    """
    if not 1 <= neighbours <= len(rows):
        raise ConfigError(
            f"{neighbours} nearest neighbours of {len(rows)} rows: take 1 to {len(rows)}, or a larger bank"
        )
    with torch.autocast(z_s.device.type, enabled=False):
        z_s, z_t, rows = (unit(z) for z in (z_s, z_t.detach(), rows))
        nearest = (z_t @ rows.mT).masked_fill(~filled, -torch.inf).topk(neighbours).indices  # (B, neighbours)
        distance = 2 - 2 * (z_s @ rows.mT).gather(1, nearest).mean(1)
    enough = filled.sum() >= neighbours
    return (distance * valid).sum() / valid.sum().clamp(min=1) * enough


def prototype_distance(
    f: Tensor, weight_f: Tensor, own: Tensor, m: Tensor, weight_m: Tensor, there: Tensor
) -> Tensor:
    """Return the weighted mean of 1 - cos between the vectors of a class and its prototypes; exactly 0 without either.

    ``mean_ij u_i v_j (1 - cos(f_i, m_j))``, u and v the weights over their means. By hand: two vectors at cosines 1 and
    0 to the one prototype give 1/2, with weights 3 and 1 give 1/4.

    Args:
        f: (N, D) vectors.
        weight_f: (N,) positive.
        own: (N,) bool; vectors of the class.
        m: (M, D) prototypes.
        weight_m: (M,) positive.
        there: (M,) bool; prototypes that count.
    """
    shares = []
    for weight, counts in ((weight_f, own), (weight_m, there)):
        held = full_precision(weight).where(counts, 0)
        shares.append(held / held.sum().clamp(min=1e-12))
    u, v = shares
    centre = v @ unit(m)  # a mean of cosines is the cosine to the mean: no (N, M) matrix
    return (u * (v.sum() - unit(f) @ centre)).sum()


@torch.no_grad()
def mean_variance(z: Tensor) -> Tensor:
    """Return the variance of the rows of `z` (N, D), averaged over D; 0 = collapsed, NaN without rows."""
    z = full_precision(z)
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
        z = full_precision(z)
        centred = z - z.mean(0)
        # The smaller Gram matrix has the same non-zero eigenvalues: the squares of the singular values.
        gram = centred @ centred.mT if z.shape[0] <= z.shape[1] else centred.mT @ centred
        finite = gram.isfinite().all()
        values = torch.linalg.eigvalsh(torch.where(finite, gram, 0)).clamp(min=0).sqrt()
        # Rounding spreads equal rows, and the small eigenvalues of a large matrix: neither is spread of the data.
        values = values * (values > torch.maximum(1e-3 * values.max(), 1e-5 * z.norm()))
        share = values / values.sum().clamp(min=torch.finfo(values.dtype).tiny)
        return torch.where(finite, torch.special.entr(share).sum().exp() * (values.sum() > 0), torch.nan)
