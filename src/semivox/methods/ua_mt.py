"""UA-MT: the student agrees with its moving average where that stays sure under noise and dropout.

Paper:  Yu, Wang, Li, Fu & Heng, MICCAI 2019, arXiv:1907.07034.
Code:   https://github.com/yulequan/UA-MT/tree/88ed29a (what it does is told below; none is used).
Volume: slices or volumes alike.
Filter: several passes of the teacher, each with its own noise and dropout; a voxel counts where the entropy of their
mean is below a limit, which rises along the training. A further pass is the target.
Differs from the paper:
  Views. As in `mean_teacher` here: the target is of the clean crop, the student sees random intensities and noise, and
  the passes that measure doubt see the clean crop with noise. As published, the student sees the crop, and target and
  passes see it with noise: `teacher_view = "paper"`.
  K classes. Limits are shares of ln K, where the released code and its users have ln 2 for any K; with four classes
  theirs are `limits = [0.375, 0.5]`. At the end of the ramp all voxels count, as they do in the paper with two classes.
  Small. In our short runs the term with the published weight has half a percent of the supervised gradient in the
  middle of the training and 1 to 2 percent at its end, as that of `mean_teacher` has. The filter lets a few voxels of a
  hundred pass at first, half in the middle and all at the end; of a net that is sure early it leaves out little.
  The segmentation loss is (Dice + CE) / 2; buffers are averaged like weights. The teacher's dropout is always on; of a
  net without dropout noise alone tells the doubt. The student predicts.
Shapes: B volumes, C channels, K classes, X Y Z voxels; _l labelled, _u unlabelled; p probabilities.
"""

import math
from typing import Literal

import torch
from pydantic import Field, NonNegativeFloat
from torch import Tensor

from semivox.methods.base import Method, MethodConfig
from semivox.nets.build import MakeNet
from semivox.ops.dice import dice_ce, masked_mse
from semivox.ops.ema import ema_update, make_teacher
from semivox.ops.perturb import with_noise
from semivox.ops.ramps import sigmoid_rampup, warmup_decay
from semivox.ops.uncertainty import entropy
from semivox.types import Batch, Progress, Terms


class Config(MethodConfig):
    """UA-MT's fields."""

    ema_decay: float = Field(0.99, ge=0, lt=1)
    """alpha of the moving average, reached by a warm start min(1 - 1/(step + 1), alpha)."""
    weight: float = Field(0.1, ge=0)
    """final weight of the consistency; .1, as published, is little (see the card). It ramps up as
    exp(-5 (1 - fraction)^2)."""
    passes: int = Field(8, ge=1)
    """T, passes of the teacher that measure its doubt."""
    limits: tuple[NonNegativeFloat, NonNegativeFloat] = (0.75, 1.0)
    """shares of ln K below which the entropy of a voxel must be to count: at the start, and at the end of the same ramp
    as the weight's."""
    teacher_view: Literal["clean", "paper"] = "clean"
    """whether the teacher sees unlabelled crops with their own intensities, or the student's view of them and noise."""
    noise: float = Field(0.1, ge=0)
    """standard deviation of the noise on the student's unlabelled crops, or, with `teacher_view = "paper"`, on the
    target's; and on each pass that measures doubt; cut at twice as much."""


class UAMT(Method):
    """L = L_seg(x_l, y_l) + w(t) * mean of || p_student - p_teacher ||^2 where H(mean of passes) < limit(t) ln K."""

    config: Config
    family, paper = "consistency", "Yu et al., MICCAI 2019"

    def __init__(self, make_net: MakeNet, config: Config) -> None:
        super().__init__(make_net, config)
        self.student = make_net()
        self.teacher = make_teacher(self.student)

    def forward(self, batch: Batch, progress: Progress) -> Terms:
        """Return the supervised loss and, where there are unlabelled crops, the consistency of sure voxels."""
        view = self.augment(batch, progress)
        terms = Terms({"supervised": dice_ce(self.student(view.image_l), view.label_l, view.valid_l)})
        if view.image_u is not None and view.clean_u is not None and view.valid_u is not None:
            ramp = sigmoid_rampup(progress.fraction)
            noisy = self._noisy(view.image_u, progress, "noise")
            paper = self.config.teacher_view == "paper"
            seen, given = (view.image_u, view.image_u) if paper else (noisy, view.clean_u)
            p_u = self.student(seen).softmax(1)
            with torch.no_grad():
                p_teacher = self.teacher(noisy if paper else given).softmax(1)
            sure = view.valid_u & (self._doubt(given, progress) < self._limit(ramp))
            terms.losses["consistency"] = self.config.weight * ramp * masked_mse(p_u, p_teacher, sure)
            if progress.logged:
                terms.shown["consistency_ramp"] = torch.tensor(ramp)
                terms.shown["sure"] = sure.sum() / view.valid_u.sum().clamp(min=1)
        return terms

    def _limit(self, ramp: float) -> float:
        """Return the share of ln K below which a voxel's doubt must be."""
        start, end = self.config.limits
        return start + (end - start) * ramp

    @torch.no_grad()
    def _doubt(self, image: Tensor, progress: Progress) -> Tensor:
        """Return (B, *spatial): the entropy over ln K of the mean of passes, each with its own noise and dropout."""
        views = (self._noisy(image, progress, f"pass_{number}") for number in range(self.config.passes))
        p = torch.stack([self.teacher(view).float().softmax(1) for view in views]).mean(0)
        return entropy(p) / math.log(p.shape[1])

    def _noisy(self, image: Tensor, progress: Progress, slot: str) -> Tensor:
        noise = self.config.noise
        return with_noise(image, scale=noise, clip=2 * noise, generator=progress.generator(slot))

    def after_step(self, progress: Progress) -> None:
        """Move the teacher."""
        ema_update(self.teacher, self.student, warmup_decay(progress.step, self.config.ema_decay))

    def predict(self, image: Tensor) -> Tensor:
        """Return the student's class probabilities (B, K, X, Y, Z)."""
        return self.student(image).softmax(1)
