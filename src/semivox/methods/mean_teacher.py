"""Mean Teacher: the student agrees with the moving average of itself.

Paper:  Tarvainen & Valpola, NeurIPS 2017, arXiv:1703.01780.
Volume: as the baseline of Yu et al., MICCAI 2019, arXiv:1907.07034.
Differs from the paper: the segmentation loss is (Dice + CE) / 2; student and teacher see one geometry per volume, the
teacher the crop with its own intensities, the student with random ones and noise. As published, both see one intensity
and the teacher the noise: `teacher_view = "paper"`; its target is then no better than what it sees. Buffers (batch
norm's running statistics) are averaged like weights. The student predicts. With `teacher_mode = "train"` the teacher's
dropout stays on and its batch norm, if any, uses its own batch, as in UA-MT; "eval" switches both off whatever mode the
method is in.
Small: in our short runs the term with the published weight has half a percent of the supervised gradient in the middle
of the training.
Shapes: B volumes, C channels, K classes, X Y Z voxels; _l labelled, _u unlabelled; p probabilities.
"""

from collections.abc import Iterable
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from semivox.methods.base import Method, MethodConfig
from semivox.nets.build import MakeNet
from semivox.ops.dice import dice_ce, masked_mse
from semivox.ops.ema import ema_update, make_teacher
from semivox.ops.perturb import with_noise
from semivox.ops.ramps import sigmoid_rampup, warmup_decay
from semivox.types import Batch, Progress, Terms


class Config(MethodConfig):
    """Mean Teacher's fields."""

    ema_decay: float = Field(0.99, ge=0, lt=1)
    """alpha of the moving average; 0.99 as in UA-MT, reached by a warm start min(1 - 1/(step + 1), alpha)."""
    weight: float = Field(0.1, ge=0)
    """final weight of the consistency term; it ramps up as exp(-5 (1 - fraction)^2)."""
    teacher_view: Literal["clean", "paper"] = "clean"
    """whether the teacher sees unlabelled crops with their own intensities, or the student's view of them and noise."""
    noise: float = Field(0.1, ge=0)
    """standard deviation of the noise on the student's unlabelled crops, or, with `teacher_view = "paper"`, on the
    teacher's; cut at twice as much."""
    teacher_mode: Literal["train", "eval"] = "train"
    """whether the teacher's dropout is on."""


class MeanTeacher(Method):
    """L = L_seg(x_l, y_l) + w(t) * || p_student(x_u + noise) - p_teacher(clean x_u) ||^2."""

    config: Config
    family, paper = "consistency", "Tarvainen & Valpola, NeurIPS 2017"

    def __init__(self, make_net: MakeNet, config: Config) -> None:
        super().__init__(make_net, config)
        self.student = make_net()
        self.teacher = make_teacher(self.student)

    def forward(self, batch: Batch, progress: Progress) -> Terms:
        """Return the supervised loss and, where there are unlabelled crops, the consistency."""
        view = self.augment(batch, progress)
        terms = Terms({"supervised": dice_ce(self.student(view.image_l), view.label_l, view.valid_l)})
        if view.image_u is not None:
            seen, taught = self._views(view, view.image_u, progress)
            p_u = self.student(seen).softmax(1)
            with torch.no_grad():
                p_teacher = self.teacher(taught).softmax(1)
            ramp = sigmoid_rampup(progress.fraction)
            terms.losses["consistency"] = self.config.weight * ramp * masked_mse(p_u, p_teacher, view.valid_u)
            if progress.logged:
                terms.shown["consistency_ramp"] = torch.tensor(ramp)
        return terms

    def _views(self, view: Batch, image: Tensor, progress: Progress) -> tuple[Tensor, Tensor]:
        """Return unlabelled crops as the student and as the teacher sees them."""
        noise = self.config.noise
        noisy = with_noise(image, scale=noise, clip=2 * noise, generator=progress.generator("noise"))
        if self.config.teacher_view == "paper" or view.clean_u is None:
            return image, noisy
        return noisy, view.clean_u

    def after_step(self, progress: Progress) -> None:
        """Move the teacher."""
        ema_update(self.teacher, self.student, warmup_decay(progress.step, self.config.ema_decay))

    def always_in_eval(self) -> Iterable[nn.Module]:
        """Return the teacher where `teacher_mode` says so."""
        return (self.teacher,) if self.config.teacher_mode == "eval" else ()

    def predict(self, image: Tensor) -> Tensor:
        """Return the student's class probabilities (B, K, X, Y, Z)."""
        return self.student(image).softmax(1)
