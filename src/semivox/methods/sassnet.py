"""SASSNet: a mask and a distance map by two heads of one net, and a critic that asks whose map it is.

Paper:  Li, Zhang & He, MICCAI 2020, arXiv:2007.10732.
Code:   https://github.com/kleinzcy/SASSnet/tree/1761aa8 (read to learn what it does; none is used).
Volume: slices or volumes alike; distances are measured within slices in 2D, and the critic has the net's axes.
Differs from the paper:
  Classes. One distance map for each foreground class, by one head; the critic sees all of them.
  Distances are measured in mm once per volume, so a boundary just outside the crop counts, and divided by the crop's
  maxima. A crop without foreground has the map 1, outside everywhere; as released 0: `sdm_empty = 0`.
  Weight. .01 with 16 labelled scans and .015 with 8, as released; by default .01.
  The step. As DAN's: the student's loss passes through the critic without moving it, and the critic sees maps cut off
  from the student, made before its step. The critic is DAN's, of whole crops and their images.
  What it does. With the published weight and rate the adversarial term is all but inert: in the middle of 100 steps on
  toy crops a thousandth of the supervised gradient, at their end two thousandths; with a tenfold `critic_lr`, in 400
  steps, .2 and .9 %. A critic that sees the image may know the few labelled ones by heart; "patch" sees maps alone.
  The supervised loss is (CE + Dice) / 2; in the paper Dice alone. The mask predicts.
Shapes: B images, C channels, K classes, F = K - 1 foreground classes, X Y Z voxels; _l labelled, _u unlabelled; s
signed distances.
"""

from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from semivox.methods.base import Method, MethodConfig
from semivox.nets.build import MakeNet
from semivox.nets.critics import Critic, told_apart
from semivox.nets.heads import conv_head
from semivox.ops.boundary import label_distance
from semivox.ops.dice import dice_ce, masked_mse
from semivox.ops.freeze import unused
from semivox.ops.ramps import sigmoid_rampup
from semivox.types import Batch, Progress, Stage, Terms


class Config(MethodConfig):
    """SASSNet's fields; the defaults are the released code's (save `sdm_empty`)."""

    weight_sdm: float = Field(0.3, ge=0)
    """on the error of labelled distance maps."""
    weight_adversarial: float = Field(0.01, ge=0)
    """final weight of what the critic says of unlabelled maps, a thousandth of the supervised gradient; it ramps up as
    exp(-5 (1 - fraction)^2)."""
    sdm_empty: Literal[0, 1] = 1
    """the map of a crop without foreground: 1, outside, or 0 as released."""
    critic: Literal["whole", "image", "patch"] = "whole"
    """what an answer of the critic rests on: the crop's maps and image, those of a patch, or a patch of the maps."""
    critic_width: int = Field(64, ge=1)
    """channels of the critic's first layer."""
    critic_lr: float = Field(1e-4, gt=0)
    """learning rate of the critic's Adam."""


class SASSNet(Method):
    """min over net, max over critic: L_seg(x_l, y_l) + w_1 || s_l - sdm(y_l) ||^2 + w_2(t) * -ln critic(s_u, x_u)."""

    config: Config
    needs = frozenset({"distances"})
    family, paper = "shapes", "Li et al., MICCAI 2020"

    def __init__(self, make_net: MakeNet, config: Config) -> None:
        super().__init__(make_net, config)
        self.student, foreground = make_net(), make_net.classes - 1
        with make_net.seeded("head_sdm"):
            self.head_sdm = conv_head(make_net.dims, self.student.decoded_widths[-1], foreground)
        with make_net.seeded("critic"):
            self.critic = Critic(make_net, config.critic, width=config.critic_width, maps=foreground)

    @classmethod
    def stages(cls, config: MethodConfig) -> tuple[Stage, ...]:
        """Return one stage, in which the net, its distance head and the critic learn."""
        return (Stage("train", trains=("student", "head_sdm", "critic")),)

    def optimizers(self, stage: Stage) -> list[torch.optim.Optimizer]:
        """Return the configured optimiser of the net and its head, and the critic's Adam."""
        critic = torch.optim.Adam(self.critic.parameters(), lr=self.config.critic_lr, betas=(0.9, 0.99))
        return [*super().optimizers(replace(stage, trains=("student", "head_sdm"))), critic]

    def forward(self, batch: Batch, progress: Progress) -> Terms:
        """Return the net's losses and, where there are unlabelled crops, the critic's."""
        config, view = self.config, self.augment(batch, progress)
        x_l, s_l = self._heads(view.image_l)
        target = label_distance(view.targets_l, view.label_l, view.valid_l, empty=config.sdm_empty)
        terms = Terms({"supervised": dice_ce(x_l, view.label_l, view.valid_l)})
        terms.losses["sdm"] = config.weight_sdm * masked_mse(s_l, target, view.valid_l)
        if view.image_u is None or view.valid_u is None:
            terms.losses["supervised"] = terms.losses["supervised"] + unused(self.critic)
            return terms
        _, s_u = self._heads(view.image_u)
        seen = (s_l, view.image_l, view.valid_l), (s_u, view.image_u, view.valid_u)
        fooled, told = told_apart(self.critic, *seen)
        ramp = sigmoid_rampup(progress.fraction)
        heard = float(config.weight_adversarial > 0)  # a critic that none listens to does not learn
        terms.losses["adversarial"] = config.weight_adversarial * ramp * fooled
        terms.losses["critic"] = heard * told
        if progress.logged:
            terms.shown["adversarial_ramp"] = torch.tensor(ramp)
        return terms

    def _heads(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (B, K, X, Y, Z) and signed distances (B, F, X, Y, Z), in single precision."""
        decoded = self.student.decode(self.student.encode(image))
        return decoded.logits.float(), self.head_sdm(decoded.features[-1]).float().tanh()

    def predict(self, image: Tensor) -> Tensor:
        """Return the class probabilities (B, K, X, Y, Z) of the mask's head."""
        return self.student(image).softmax(1)
