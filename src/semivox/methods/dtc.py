"""DTC: a mask and a distance map by two heads of one net, and the mask that the distance stands for is that mask.

Paper:  Luo, Chen, Song & Wang, AAAI 2021, arXiv:2009.04448.
Code:   https://github.com/HiLab-git/DTC/tree/2525b9c (read to learn what it does; none is used).
Volume: slices or volumes alike; distances are measured within slices in 2D.
Differs from the paper:
  Classes. One distance map for each foreground class, by one head; each is compared with the probability of its class.
  Mended. A crop without foreground has the map 1, outside everywhere. As released it has 0, of which the mask is a half
  at every voxel, and the consistency asks for that half: `sdm_empty = 0`.
  Distances are measured in mm once per volume, so a boundary just outside the crop counts, and divided by the crop's
  maxima, as in semivox's other methods.
  What it does. A slope of 1500 makes the mask hard within a thousandth of the largest distance, where one voxel in two
  thousand lies: what the term moves is the probability, towards the sign of the distance (18 to 28 % of the supervised
  gradient in the middle of 100 steps on toy crops). The distance head gets from it a ten-millionth of its supervised
  gradient in one step and as much as that in another; `slope = 20` moves both in every step.
  The supervised loss is (CE + Dice) / 2; in the paper Dice alone. The mask predicts.
Shapes: B images, C channels, K classes, F = K - 1 foreground classes, X Y Z voxels; _l labelled, _u unlabelled; p
probabilities; s signed distances.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from semivox.methods.base import Method, MethodConfig
from semivox.nets.build import MakeNet
from semivox.nets.heads import conv_head
from semivox.ops.boundary import label_distance, mask_of_distance
from semivox.ops.dice import dice_ce, masked_mse
from semivox.ops.ramps import sigmoid_rampup
from semivox.types import Batch, Progress, Stage, Terms


class Config(MethodConfig):
    """DTC's fields; the defaults are the paper's (save `sdm_empty`)."""

    weight_sdm: float = Field(0.3, ge=0)
    """on the error of labelled distance maps."""
    weight_consistency: float = Field(1.0, ge=0)
    """final weight, on all crops, of the difference between the two masks; it ramps up as exp(-5 (1 - fraction)^2)."""
    slope: float = Field(1500.0, gt=0)
    """k of the mask sigmoid(-k s) that a distance s, from -1 to 1, stands for."""
    sdm_empty: Literal[0, 1] = 1
    """the map of a crop without foreground: 1, outside, or 0 as released."""


class DTC(Method):
    """L = L_seg(x_l, y_l) + w_1 || s_l - sdm(y_l) ||^2 + w_2(t) || sigmoid(-k s) - p ||^2, the last on all x."""

    config: Config
    needs = frozenset({"distances"})
    family, paper = "shapes", "Luo et al., AAAI 2021"

    def __init__(self, make_net: MakeNet, config: Config) -> None:
        super().__init__(make_net, config)
        self.student = make_net()
        with make_net.seeded("head_sdm"):
            self.head_sdm = conv_head(make_net.dims, self.student.decoded_widths[-1], make_net.classes - 1)

    @classmethod
    def stages(cls, config: MethodConfig) -> tuple[Stage, ...]:
        """Return one stage, in which the net and its distance head learn."""
        return (Stage("train", trains=("student", "head_sdm")),)

    def forward(self, batch: Batch, progress: Progress) -> Terms:
        """Return the supervised losses and the consistency of both heads on all crops."""
        config, view = self.config, self.augment(batch, progress)
        x_l, s_l = self._heads(view.image_l)
        target = label_distance(view.targets_l, view.label_l, view.valid_l, empty=config.sdm_empty)
        terms = Terms({"supervised": dice_ce(x_l, view.label_l, view.valid_l)})
        terms.losses["sdm"] = config.weight_sdm * masked_mse(s_l, target, view.valid_l)
        x, s, valid = x_l, s_l, view.valid_l
        if view.image_u is not None and view.valid_u is not None:
            both = zip((x_l, s_l), self._heads(view.image_u), strict=True)
            x, s = (torch.cat(pair) for pair in both)
            valid = torch.cat([view.valid_l, view.valid_u])
        ramp = sigmoid_rampup(progress.fraction)
        # Neither side is cut off: each head learns from the other.
        apart = masked_mse(mask_of_distance(s, slope=config.slope), x.softmax(1)[:, 1:], valid)
        terms.losses["consistency"] = config.weight_consistency * ramp * apart
        if progress.logged:
            terms.shown["consistency_ramp"] = torch.tensor(ramp)
        return terms

    def _heads(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (B, K, X, Y, Z) and signed distances (B, F, X, Y, Z), in single precision."""
        decoded = self.student.decode(self.student.encode(image))
        return decoded.logits.float(), self.head_sdm(decoded.features[-1]).float().tanh()

    def predict(self, image: Tensor) -> Tensor:
        """Return the class probabilities (B, K, X, Y, Z) of the mask's head."""
        return self.student(image).softmax(1)
