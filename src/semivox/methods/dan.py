"""DAN: a critic tells masks of labelled images from those of unlabelled ones, and the student makes these like those.

Paper:  Zhang, Yang, Chen, Fredericksen, Hughes & Chen, MICCAI 2017, doi:10.1007/978-3-319-66179-7_47. Weights and
        layers are those of its rebuild in SSL4MIS.
Code:   https://github.com/HiLab-git/SSL4MIS/tree/06df604 (read to learn what it does; none is used).
Volume: slices or volumes alike; the critic has the net's axes.
Differs from the paper:
  Mended. The rebuild's targets are written out for two labelled and two unlabelled crops; here they go by where a crop
  comes from, and labelled and unlabelled crops weigh alike whatever their numbers.
  The step. The student's loss passes through the critic without moving it, and the critic sees predictions cut off from
  the student, made before its step: one backward of the sum, and a step of both optimisers. The rebuild predicts anew
  for the critic. Dropout is on for both; the rebuild switches off that of the net which does not learn.
  The critic. One answer for a crop and its image, by a convolution for every level that the net has, half of the
  channels dropped behind each. `critic` names two of semivox's that judge patch by patch. Its learning rate follows the
  net's schedule.
  What it does. A critic that sees the image knows the few labelled ones by heart: after 600 steps on toy crops, with a
  tenfold rate, its answer stayed when masks were exchanged and went with the image. "patch" cannot. With the published
  weight and rate the term has a two-hundredth of the supervised gradient in the middle of a run of 100 to 600 steps, 1
  to 2 % at its end; with the tenfold rate 2 and 26 %, since it is the critic that is slow.
  The supervised loss is (CE + Dice) / 2.
Shapes: B images, C channels, K classes, X Y Z voxels; _l labelled, _u unlabelled; p probabilities.
"""

from dataclasses import replace
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from semivox.methods.base import Method, MethodConfig
from semivox.nets.build import MakeNet
from semivox.nets.critics import Critic, told_apart
from semivox.ops.dice import dice_ce
from semivox.ops.freeze import unused
from semivox.ops.ramps import sigmoid_rampup
from semivox.types import Batch, Progress, Stage, Terms


class Config(MethodConfig):
    """DAN's fields."""

    weight: float = Field(0.1, ge=0)
    """final weight of what the critic says of unlabelled crops; it ramps up as exp(-5 (1 - fraction)^2)."""
    critic: Literal["whole", "image", "patch"] = "whole"
    """what an answer of the critic rests on: the crop's mask and image, those of a patch, or a patch of the mask."""
    critic_width: int = Field(64, ge=1)
    """channels of the critic's first layer."""
    critic_lr: float = Field(1e-4, gt=0)
    """learning rate of the critic's Adam."""


class DAN(Method):
    """min over net, max over critic: L_seg(x_l, y_l) + w(t) * -ln critic(p_u, x_u); the critic tells p_l from p_u."""

    config: Config
    family, paper = "adversaries", "Zhang et al., MICCAI 2017"

    def __init__(self, make_net: MakeNet, config: Config) -> None:
        super().__init__(make_net, config)
        self.student = make_net()
        with make_net.seeded("critic"):
            self.critic = Critic(make_net, config.critic, width=config.critic_width)

    @classmethod
    def stages(cls, config: MethodConfig) -> tuple[Stage, ...]:
        """Return one stage, in which student and critic learn."""
        return (Stage("train", trains=("student", "critic")),)

    def optimizers(self, stage: Stage) -> list[torch.optim.Optimizer]:
        """Return the configured optimiser of the student, and the critic's Adam."""
        critic = torch.optim.Adam(self.critic.parameters(), lr=self.config.critic_lr, betas=(0.9, 0.99))
        return [*super().optimizers(replace(stage, trains=("student",))), critic]

    def forward(self, batch: Batch, progress: Progress) -> Terms:
        """Return the student's losses and, where there are unlabelled crops, the critic's."""
        view = self.augment(batch, progress)
        x_l = self.student(view.image_l).float()
        terms = Terms({"supervised": dice_ce(x_l, view.label_l, view.valid_l)})
        if view.image_u is None or view.valid_u is None:
            terms.losses["supervised"] = terms.losses["supervised"] + unused(self.critic)
            return terms
        p_l, p_u = x_l.softmax(1), self.student(view.image_u).float().softmax(1)
        seen = (p_l, view.image_l, view.valid_l), (p_u, view.image_u, view.valid_u)
        fooled, told = told_apart(self.critic, *seen)
        ramp = sigmoid_rampup(progress.fraction)
        terms.losses["adversarial"] = self.config.weight * ramp * fooled
        heard = float(self.config.weight > 0)  # a critic that none listens to does not learn
        terms.losses["critic"] = heard * told
        if progress.logged:
            terms.shown["adversarial_ramp"] = torch.tensor(ramp)
        return terms

    def predict(self, image: Tensor) -> Tensor:
        """Return the student's class probabilities (B, K, X, Y, Z)."""
        return self.student(image).softmax(1)
