"""What a critic is told, what those are told who shall please it, and images that a net gets wrong."""

from collections.abc import Callable

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


def fast_gradient(image: Tensor, loss: Tensor, size: float, valid: Tensor) -> Tensor:
    """Return the images with every valid voxel a step of `size` further to where its loss is larger (FGSM).

    Goodfellow et al., ICLR 2015, arXiv:1412.6572. By hand: of ``3 a - 2 b + 0 c`` the voxels a, b, c move by +size,
    -size and 0. The graph of the loss stays, for the backward of a step; the images that come back have none.

    Args:
        image: (B, C, *spatial), which asked for its gradient before `loss` was made of it.
        loss: scalar.
        size: step, in the units of the image.
        valid: (B, *spatial) bool; what lies elsewhere stays.
    """
    (gradient,) = torch.autograd.grad(loss, image, retain_graph=True)
    return (image + size * gradient.sign() * valid.unsqueeze(1)).detach()


def virtual_attack(
    image: Tensor,
    away: Callable[[Tensor], Tensor],
    valid: Tensor,
    generator: torch.Generator,
    *,
    xi: float,
    size: float,
) -> Tensor:
    """Return the change of images, of root mean square `size` each, that drives a prediction away from what it is.

    Virtual adversarial training (Miyato et al., TPAMI 2019, arXiv:1704.03976) with one power iteration: the gradient
    of `away` at a random change of root mean square `xi`. By hand: where `away` is the square of the first voxel of
    four alone, all of the change is there: twice `size`, to either side. Images without a valid voxel do not change.

    Args:
        image: (B, C, *spatial).
        away: from changed images to a scalar, how far their prediction is from that of `image`.
        valid: (B, *spatial) bool; what lies elsewhere stays.
        generator: of the random change.
        xi: root mean square of the trial step.
        size: that of the result, which has no graph.
    """
    mask = valid.unsqueeze(1)
    drawn = torch.randn(image.shape, generator=generator, device=image.device)
    with torch.enable_grad():
        trial = (xi * _unit_rms(drawn, mask)).requires_grad_()
        (gradient,) = torch.autograd.grad(away(image.detach() + trial), trial)
    return size * _unit_rms(gradient, mask)


def _unit_rms(x: Tensor, mask: Tensor) -> Tensor:
    """Return what of `x` lies within the mask, with root mean square 1 there in every image; 0 where it is 0."""
    x = x.float() * mask
    axes = tuple(range(1, x.ndim))
    size = (x / x.abs().amax(axes, keepdim=True).clamp(min=torch.finfo(x.dtype).tiny)).square()
    size = (size.sum(axes, keepdim=True) / (mask.sum(axes, keepdim=True) * x.shape[1]).clamp(min=1)).sqrt()
    scale = size * x.abs().amax(axes, keepdim=True)
    return x / scale.clamp(min=torch.finfo(x.dtype).tiny)
