"""What a critic is told, and what those are told who shall please it."""

import torch
from torch import Tensor
from torch.nn import functional as F

from semivox.ops.slices import coarse_mask


def critic_loss(logits: Tensor, valid: Tensor, *, real: bool) -> Tensor:
    """Return how far a critic's answers are from "real", or from "not real": the mean cross-entropy; 0 of no voxel.

    ``-ln s`` or ``-ln (1 - s)`` with s the sigmoid of the logits, from these, so that it stays finite. By hand: an
    undecided critic costs ln 2 = .693147 either way; one that says 3/4 (logit ln 3) .287682 where that shall be real,
    1.386294 where not.

    Args:
        logits: (B, 1, *grid), on a grid as fine as the voxels or coarser.
        valid: (B, *spatial) bool; places of the grid without a valid voxel do not count.
        real: what the answer shall be. A critic learns with True on labels and False on predictions, the nets that
            shall please it with True.
    """
    loss = F.softplus(-logits.float() if real else logits.float()).squeeze(1)  # (B, *grid)
    mask = valid if valid.shape == loss.shape else coarse_mask(valid, loss.shape[1:])
    return (loss * mask).sum() / mask.sum().clamp(min=1)


def one_hot(label: Tensor, classes: int) -> Tensor:
    """Return labels (B, *spatial), int64, as a prediction that is sure of them: (B, K, *spatial) float32."""
    return torch.stack([label == k for k in range(classes)], dim=1).float()
