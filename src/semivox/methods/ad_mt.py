"""AD-MT: two teachers average one student in turns of random length, so that they differ, and label crops together.

Paper:  Zhao, Wang, Wang, Yu, Yuan & Zhou, ECCV 2024, arXiv:2311.17325 (alternate diverse teaching).
Code:   https://github.com/ZhenZHAO/AD-MT/tree/8cf8dec (what it does is told below; none is used).
Volume: slices or volumes alike; a box runs through all slices.
Turns:  one teacher at a time follows the student. While it is the first, the student learns unlabelled crops with
strong intensities; while it is the second, weak ones with boxes of each other. A turn takes 1 to `longest_turn` steps.
Labels: the class of the mean of both teachers, the surer one weighing more. Where they contradict each other and the
student contradicts their mean, the surer of student and mean decides. Voxels in doubt are ignored.
Differs from the paper:
  Boxes. As released, labels of crops with boxes are settled with what the student finds in crops without; here labels
  are settled first, and the boxes bring theirs along. A box is half of a slice, for every crop.
  Views. Teachers and student label the clean crop, the student without dropout; as released, all see weak intensities.
  Entropies are divided by log K, which for two classes are the released code's bits.
  Turns go on over all steps; as released, every pass over the unlabelled scans begins with the other teacher. For the
  first 1 / (1 - `ema_decay`) steps, where an average starts, both teachers follow, and are equal. As released, the one
  whose turn it is copies the student for 80 steps.
  The weight ramps up along all steps, published in the first 40 percent. The segmentation loss is (Dice + CE) / 2;
  buffers are averaged like weights. The student predicts.
  In our short runs pseudo labels have a fifth of the supervised gradient up to as much in the middle of the training,
  though few voxels are sure by then, and more than it at the end.
Shapes: B volumes, C channels, K classes, X Y Z voxels; _l labelled, _u unlabelled; p probabilities; q pseudo label.
"""

from collections.abc import Iterable
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from semivox.methods.base import Method, MethodConfig
from semivox.nets.build import MakeNet
from semivox.ops.dice import dice_ce, masked_cross_entropy
from semivox.ops.ema import ema_update, make_teacher
from semivox.ops.freeze import in_eval
from semivox.ops.mixing import box_masks, mix, partner
from semivox.ops.perturb import intensity
from semivox.ops.ramps import sigmoid_rampup, turns_before, warmup_decay
from semivox.ops.uncertainty import pseudo_labels, surer_mean
from semivox.types import Batch, Progress, Terms, seed_from


class Config(MethodConfig):
    """AD-MT's fields."""

    ema_decay: float = Field(0.99, ge=0, lt=1)
    """alpha of both moving averages, reached by a warm start min(1 - 1/(step + 1), alpha)."""
    weight: float = Field(2.0, ge=0)
    """final weight of the loss on pseudo labels, as published; it ramps up as exp(-5 (1 - fraction)^2)."""
    longest_turn: int = Field(19, ge=1)
    """steps of the longest turn; a turn's are drawn from 1 to this. 19 as released for the left atrium, about 50 for
    ACDC."""
    confidence: float = Field(0.8, ge=0, le=1)
    """the probability from which a pseudo label counts; .8 as released for the left atrium, .95 for ACDC."""
    teacher_mode: Literal["paper", "eval"] = "paper"
    """whether the dropout of the teacher whose turn it is is on, as published, or that of neither."""


class ADMT(Method):
    """L = L_seg(x_l, y_l) + w(t) * CE(p_student(strong x_u or mixed x_u), q) where q is sure."""

    config: Config
    family, paper = "pseudo labels", "Zhao et al., ECCV 2024"

    def __init__(self, make_net: MakeNet, config: Config) -> None:
        super().__init__(make_net, config)
        self.student = make_net()
        self.teacher_1, self.teacher_2 = make_teacher(self.student), make_teacher(self.student)

    def forward(self, batch: Batch, progress: Progress) -> Terms:
        """Return the supervised loss and, where there are unlabelled crops, that on pseudo labels."""
        view = self.augment(batch, progress)
        terms = Terms({"supervised": dice_ce(self.student(view.image_l), view.label_l, view.valid_l)})
        if view.image_u is not None and view.clean_u is not None and view.valid_u is not None:
            turn = self._turn(progress)
            confidence, q, conflict = self._labels(view.clean_u, turn)
            sure = view.valid_u & (confidence >= self.config.confidence)
            if turn == 0:
                seen = intensity(view.clean_u, progress.generator("strong"), "strong", valid=view.valid_u)
            else:
                generator = progress.generator("mix")
                boxes = box_masks(q.shape, generator, slice_axis=view.slice_axis) & view.valid_u & partner(view.valid_u)
                seen, q, sure = mix(view.image_u, boxes), mix(q, boxes), mix(sure, boxes)
            ramp = sigmoid_rampup(progress.fraction)
            loss = masked_cross_entropy(self.student(seen).float(), q, sure)
            terms.losses["pseudo"] = self.config.weight * ramp * loss
            if progress.logged:
                terms.shown["pseudo_ramp"] = torch.tensor(ramp)
                terms.shown["sure"] = sure.sum() / view.valid_u.sum().clamp(min=1)
                terms.shown["conflict"] = (conflict & view.valid_u).sum() / view.valid_u.sum().clamp(min=1)
        return terms

    def _turn(self, progress: Progress) -> int:
        """Return whose turn it is, 0 or 1: the same in every process, so that teachers stay the same in all."""
        seed = seed_from(progress.seed, progress.stage, "turns")
        return turns_before(progress.step, self.config.longest_turn, seed) % 2

    @torch.no_grad()
    def _labels(self, image: Tensor, turn: int) -> tuple[Tensor, Tensor, Tensor]:
        """Return the probability of the class found, that class, and where teachers differ, all (B, *spatial)."""
        teachers = (self.teacher_1, self.teacher_2)
        logits = [net(image) if number == turn else in_eval(net, image) for number, net in enumerate(teachers)]
        p_1, p_2 = (x.float().softmax(1) for x in logits)
        conflict = p_1.argmax(1) != p_2.argmax(1)
        confidence, q = surer_mean(p_1, p_2).max(1)
        own_confidence, own = pseudo_labels(self.student, image, mode="eval")
        student_decides = conflict & (own != q) & (own_confidence > confidence)
        return (
            torch.where(student_decides, own_confidence, confidence),
            torch.where(student_decides, own, q),
            conflict,
        )

    def after_step(self, progress: Progress) -> None:
        """Move the teacher whose turn it is, or both where their average starts."""
        decay = warmup_decay(progress.step, self.config.ema_decay)
        for number, teacher in enumerate((self.teacher_1, self.teacher_2)):
            if decay < self.config.ema_decay or number == self._turn(progress):
                ema_update(teacher, self.student, decay)

    def always_in_eval(self) -> Iterable[nn.Module]:
        """Return both teachers where `teacher_mode` says so."""
        return (self.teacher_1, self.teacher_2) if self.config.teacher_mode == "eval" else ()

    def predict(self, image: Tensor) -> Tensor:
        """Return the student's class probabilities (B, K, X, Y, Z)."""
        return self.student(image).softmax(1)
