"""Averaged match: the averaged net labels clean crops, and its student finds those labels in mixed and shaded ones.

Paper:  none of its own: semivox's recipe, put together from published parts: the averaged teacher (Tarvainen & Valpola,
        NeurIPS 2017, arXiv:1703.01780), a confident label from a weak view for a strong one (FixMatch, Sohn et al.,
        NeurIPS 2020, arXiv:2001.07685), a start on the labelled crops alone and boxes pasted from labelled crops (BCP,
        Bai et al., CVPR 2023, arXiv:2305.00673), CutMix between unlabelled crops (French et al., BMVC 2020,
        arXiv:1906.01916).
Stages: "warm", labelled crops alone, a share `warm` of the run's steps; then "match". Learning rate, moments and
teacher go on over both.
Differs from the paper: of FixMatch, the teacher is an average and both views share one geometry, so that a label needs
no inverse; a pseudo label trains by cross-entropy and Dice. Of BCP, boxes go one way, from labelled to unlabelled.
The teacher predicts, and is in evaluation mode throughout.
Shapes: B volumes, C channels, K classes, X Y Z voxels; _l labelled, _u unlabelled; p probabilities; q pseudo label.
"""

from collections.abc import Iterable
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from semivox.methods.base import Method, MethodConfig
from semivox.nets.build import MakeNet
from semivox.ops.dice import dice_ce
from semivox.ops.ema import ema_update, make_teacher
from semivox.ops.mixing import mix, partner, paste, some_boxes
from semivox.ops.ramps import warmup_decay
from semivox.ops.uncertainty import likeliest
from semivox.types import Batch, Progress, Stage, Terms

RAMP = 0.1
"""part of the stage along which the weight rises from 0."""


class Config(MethodConfig):
    """The recipe's fields."""

    schedule_over: Literal["stage", "run"] = "run"
    """whether the learning rate starts anew with every stage, or falls once along all of them."""
    warm: float = Field(0.25, gt=0, lt=1)
    """share of the steps that see labelled crops alone."""
    ema_decay: float = Field(0.995, ge=0, lt=1)
    """decay of the teacher, reached by a warm start along the whole run."""
    weight: float = Field(1.0, ge=0)
    """of the loss on pseudo labels, reached after a tenth of the stage."""
    confidence: float = Field(0.9, ge=0, le=1)
    """the teacher's probability from which a voxel counts."""
    cutmix: float = Field(1.0, ge=0, le=1)
    """share of the unlabelled crops that get a box of another unlabelled crop."""
    paste: float = Field(0.5, ge=0, le=1)
    """share of them that get a box of a labelled crop, with its label."""


class AveragedMatch(Method):
    """L = L_seg(x_l, y_l) + w(t) * L_seg(mixed(x_u, x_l), mixed(argmax p_teacher(clean x_u), y_l)) where it is sure."""

    config: Config
    family, paper = "pseudo labels", "semivox's own"

    def __init__(self, make_net: MakeNet, config: Config) -> None:
        super().__init__(make_net, config)
        self.student = make_net()
        self.teacher = make_teacher(self.student)

    @classmethod
    def stages(cls, config: MethodConfig) -> tuple[Stage, ...]:
        """Return the start on labelled crops and the matching."""
        warm = config.warm if isinstance(config, Config) else Config().warm
        return (
            Stage("warm", share=warm, batch_unlabelled=0, uses=frozenset({"labels"})),
            Stage("match", share=1 - warm, optimizer="previous"),
        )

    def forward(self, batch: Batch, progress: Progress) -> Terms:
        """Return the supervised loss and, where there are unlabelled crops, that on pseudo labels."""
        view = self.augment(batch, progress)
        losses = {"supervised": dice_ce(self.student(view.image_l), view.label_l, view.valid_l)}
        shown = {}
        if view.image_u is not None and view.valid_u is not None:
            image, q, sure = self._mixed(view, view.image_u, view.valid_u, progress)
            ramp = min(progress.fraction / RAMP, 1.0)
            losses["match"] = ramp * self.config.weight * dice_ce(self.student(image), q, sure)
            if progress.logged:
                shown["sure"] = sure.float().mean()
                shown |= {"match_ramp": torch.tensor(ramp)} if ramp else {}
        return Terms(losses, shown)

    @torch.no_grad()
    def _mixed(
        self, view: Batch, image: Tensor, valid: Tensor, progress: Progress
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return shaded crops, their pseudo labels and where these are sure, with boxes of each other and of x_l."""
        confidence, q = likeliest(self.teacher(view.clean_u))
        sure = valid & (confidence >= self.config.confidence)
        generator = progress.generator("mix")
        boxes = some_boxes(q.shape, self.config.cutmix, generator, slice_axis=view.slice_axis) & partner(valid)
        image, q, sure = (mix(x, boxes) for x in (image, q, sure))
        of = torch.arange(len(q), device=q.device) % len(view.label_l)  # the labelled crop that each is given a box of
        boxes = some_boxes(q.shape, self.config.paste, generator, slice_axis=view.slice_axis) & view.valid_l[of]
        return (
            paste(image, view.image_l[of], boxes),
            paste(q, view.label_l[of], boxes),
            sure | boxes,
        )

    def after_step(self, progress: Progress) -> None:
        """Move the teacher."""
        ema_update(self.teacher, self.student, warmup_decay(progress.total_step, self.config.ema_decay))

    def always_in_eval(self) -> Iterable[nn.Module]:
        """Return the teacher."""
        return (self.teacher,)

    def predict(self, image: Tensor) -> Tensor:
        """Return the teacher's class probabilities (B, K, X, Y, Z)."""
        return self.teacher(image).softmax(1)
