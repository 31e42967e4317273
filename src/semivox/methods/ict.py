"""ICT: between two crops the student finds what lies between the teacher's answers to both.

Paper:  Verma, Lamb, Kannala, Bengio & Lopez-Paz, IJCAI 2019, arXiv:1903.03825 (interpolation consistency training).
Volume: as the baseline of SSL4MIS, https://github.com/HiLab-git/SSL4MIS/tree/06df604, in slices and volumes alike.
Differs from the paper: weights, ramp and decay are those of SSL4MIS. The teacher sees the clean crops; those that are
blended for the student have random intensities (`intensity = "none"` shows both the same, as published). Every crop is
blended with the next one of the batch, with a share of its own; of a single crop that is itself, which leaves Mean
Teacher. A voxel counts where both crops are valid. Buffers are averaged like weights. The student predicts.
Small: in our short runs the term with the usual weight has half a percent of the supervised gradient in the middle of
the training and 1 to 2 percent at its end, as that of `mean_teacher` has.
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
from semivox.ops.fields import beta
from semivox.ops.mixing import blend, partner
from semivox.ops.ramps import sigmoid_rampup, warmup_decay
from semivox.types import Batch, Progress, Terms


class Config(MethodConfig):
    """ICT's fields."""

    ema_decay: float = Field(0.99, ge=0, lt=1)
    """alpha of the moving average, reached by a warm start min(1 - 1/(step + 1), alpha)."""
    weight: float = Field(0.1, ge=0)
    """final weight of the consistency; .1, as published, is little (see the card). It ramps up as
    exp(-5 (1 - fraction)^2)."""
    concentration: float = Field(0.2, gt=0, le=1)
    """both parameters of the Beta distribution of a partner's share. Towards 0 crops are
    hardly blended, at 1 all shares are equally likely."""
    teacher_mode: Literal["train", "eval"] = "train"
    """whether the teacher's dropout is on."""


class ICT(Method):
    """L = L_seg(x_l, y_l) + w(t) * || p_student(M(x_a, x_b)) - M(p_teacher(x_a), p_teacher(x_b)) ||^2.

    M(a, b) = (1 - s) a + s b, s from a Beta distribution.
    """

    config: Config
    family, paper = "consistency", "Verma et al., IJCAI 2019"

    def __init__(self, make_net: MakeNet, config: Config) -> None:
        super().__init__(make_net, config)
        self.student = make_net()
        self.teacher = make_teacher(self.student)

    def forward(self, batch: Batch, progress: Progress) -> Terms:
        """Return the supervised loss and, where there are unlabelled crops, the consistency between them."""
        view = self.augment(batch, progress)
        terms = Terms({"supervised": dice_ce(self.student(view.image_l), view.label_l, view.valid_l)})
        if view.image_u is not None and view.valid_u is not None:
            share = beta((len(view.image_u),), progress.generator("share"), self.config.concentration)
            p_u = self.student(blend(view.image_u, share)).softmax(1)
            with torch.no_grad():
                target = blend(self.teacher(view.clean_u).float().softmax(1), share)
            difference = masked_mse(p_u, target, view.valid_u & partner(view.valid_u))
            ramp = sigmoid_rampup(progress.fraction)
            terms.losses["consistency"] = self.config.weight * ramp * difference
            if progress.logged:
                terms.shown["consistency_ramp"] = torch.tensor(ramp)
        return terms

    def after_step(self, progress: Progress) -> None:
        """Move the teacher."""
        ema_update(self.teacher, self.student, warmup_decay(progress.step, self.config.ema_decay))

    def always_in_eval(self) -> Iterable[nn.Module]:
        """Return the teacher where `teacher_mode` says so."""
        return (self.teacher,) if self.config.teacher_mode == "eval" else ()

    def predict(self, image: Tensor) -> Tensor:
        """Return the student's class probabilities (B, K, X, Y, Z)."""
        return self.student(image).softmax(1)
