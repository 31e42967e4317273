"""URPC: the scales of one decoder agree with their mean, less where they are far from it.

Paper:  Luo, Liao, Chen, Song, Chen, Zhang, Chen, Wang & Zhang, MICCAI 2021, arXiv:2012.07042.
Code:   https://github.com/HiLab-git/SSL4MIS/tree/de766cd, by the authors (read to learn what the paper leaves out; none
        is used).
Volume: slices or volumes alike; the net must give logits at every level and have three levels or more: "vnet" or
"unet".
Differs from the paper: the segmentation loss is (Dice + CE) / 2. Means over the S scales are sums here, so that the
finest one learns as it does alone: the loss is S times the published one. The published net drops features before each
scale, .5 .3 .2 .1 from coarse to fine, and goes on from what is left; here what is dropped before a coarser scale is
kept for the next one, and the finest scale is as the net drops it anyway. Coarser logits are enlarged by linear
interpolation. The mean and the weights by it are fixed targets; released, they move as well (`fixed_targets`). The ramp
lasts the whole run, as for the published 30,000 steps of slices. The finest scale predicts.
Shapes: B volumes, C channels, K classes, X Y Z voxels; _l labelled, _u unlabelled; x logits, p probabilities.
"""

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor

from semivox.errors import ConfigError
from semivox.methods.base import Method, MethodConfig
from semivox.nets.build import MakeNet
from semivox.ops.dice import dice_ce, divergence
from semivox.ops.ramps import sigmoid_rampup
from semivox.types import Batch, Progress, Terms


class Config(MethodConfig):
    """URPC's fields."""

    weight: float = Field(0.1, ge=0)
    """final weight of each scale's consistency; it ramps up as exp(-5 (1 - fraction)^2); .1 as published."""
    weight_scales: float = Field(1.0, ge=0)
    """on the supervised loss of each coarser scale; 1, as on that of the finest one, as published."""
    fixed_targets: bool = True
    """whether the mean of the scales and the weights by it are fixed; released, they move."""


class URPC(Method):
    """L = sum_s L_seg(p_l_s, y_l) + w(t) sum_s (sum e^-D_s (p_s - p)^2 / sum e^-D_s + mean D_s), D_s = KL(p || p_s)."""

    config: Config
    family, paper = "consistency", "Luo et al., MICCAI 2021"

    def __init__(self, make_net: MakeNet, config: Config) -> None:
        super().__init__(make_net, config)
        self.student = make_net(deep=True)
        if len(self.student.decoded_widths) < 2:
            raise ConfigError(
                "urpc compares the scales of a decoder and found a net of 2 levels, which has one: expected 3 levels "
                "or more; set net.levels and net.strides, or take another method"
            )

    def forward(self, batch: Batch, progress: Progress) -> Terms:
        """Return all scales' supervised losses and, where there are unlabelled crops, their consistency."""
        view = self.augment(batch, progress)
        finest, *others = (dice_ce(x, view.label_l, view.valid_l) for x in self._scales(view.image_l))
        terms = Terms({"supervised": finest, "scales": self.config.weight_scales * torch.stack(others).sum()})
        if view.image_u is not None and view.valid_u is not None:
            x = self._scales(view.image_u)
            mean = torch.stack([logits.softmax(1) for logits in x]).mean(0)
            if self.config.fixed_targets:
                mean = mean.detach()
            apart = torch.stack([self._rectified(logits, mean, view.valid_u) for logits in x]).sum()
            ramp = sigmoid_rampup(progress.fraction)
            terms.losses["consistency"] = self.config.weight * ramp * apart
            if progress.logged:
                terms.shown["consistency_ramp"] = torch.tensor(ramp)
        return terms

    def _scales(self, image: Tensor) -> list[Tensor]:
        """Return the logits (B, K, *spatial) of all scales at the image's size, the finest first."""
        decoded = self.student.decode(self.student.encode(image))
        mode = "bilinear" if image.ndim == 4 else "trilinear"
        size = image.shape[2:]
        coarser = [F.interpolate(x.float(), size=size, mode=mode, align_corners=False) for x in decoded.deep]
        return [decoded.logits.float(), *coarser]

    def _rectified(self, x: Tensor, mean: Tensor, valid: Tensor) -> Tensor:
        """Return how far a scale is from the mean, where it is not too far, and by how much it is too far."""
        log_p = x.log_softmax(1)
        distance = divergence(mean, log_p)
        weight = (-distance).exp() * valid
        if self.config.fixed_targets:
            weight = weight.detach()
        square = (log_p.exp() - mean).square().mean(1)
        near = (weight * square).sum() / weight.sum().clamp(min=1e-8)
        return near + (distance * valid).sum() / valid.sum().clamp(min=1)

    def predict(self, image: Tensor) -> Tensor:
        """Return the finest scale's class probabilities (B, K, X, Y, Z)."""
        return self.student(image).softmax(1)
