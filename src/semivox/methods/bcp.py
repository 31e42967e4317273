"""BCP: boxes of unlabelled crops in labelled ones and of labelled crops in unlabelled ones, each with its own label.

Paper:  Bai, Chen, Li, Shen & Wang, CVPR 2023, arXiv:2305.00673 (bidirectional copy-paste).
Code:   https://github.com/DeepMed-Lab-ECNU/BCP/tree/7879f98 (what it does is told below; none is used).
Volume: slices or volumes alike; a box has two thirds of every side.
Stages: "pretrain", labelled crops with boxes of each other; then "mix", from the last weights of it, for student and
teacher alike. Learning rate and moments start anew.
Differs from the paper:
  Stages share the run's steps. The second starts from the last weights of the first; the released code takes those that
  were best on the scans that it tests with.
  The losses of both kinds of mixed crops are taken together, voxels with a label over both, those with a pseudo label
  over both: half of the paper's sum of the two. Dice is that of the foreground classes over the batch.
  Views. The teacher labels the clean crop; the student's have random intensities. Every crop has a box of its own, not
  one for the batch, and nothing is pasted where either crop has padding. Where one stream has more crops than the
  other, those of the other are used again; both ways of pasting take turns from crop to crop, and from step to step.
  With weight 0, or without unlabelled crops, the second stage goes on as the first.
  Components are connected by faces. What is not in the largest one becomes background, as published; where a class has
  several parts (kidneys, nuclei) take `component = "all"`. Buffers are averaged like weights. The student predicts.
  In our short runs pseudo labels have half of the gradient of the labels, and the largest components hold 93 to 99
  percent of the foreground that the teacher finds.
Shapes: B volumes, C channels, K classes, X Y Z voxels; _l labelled, _u unlabelled; q pseudo label.
"""

from collections.abc import Iterable
from typing import Literal, NamedTuple

import torch
from pydantic import Field
from torch import Tensor, nn

from semivox.methods.base import Method, MethodConfig
from semivox.nets.build import MakeNet
from semivox.ops.components import largest_components
from semivox.ops.dice import dice_ce
from semivox.ops.ema import ema_update, make_teacher
from semivox.ops.fields import per_item
from semivox.ops.mixing import cuboid_masks, mix, partner, paste
from semivox.types import Batch, Progress, Stage, Terms


class Config(MethodConfig):
    """BCP's fields."""

    pretrain: float = Field(0.25, gt=0, lt=1)
    """share of the steps that mix labelled crops alone; the paper's is an eighth (left atrium) to a quarter (ACDC)."""
    ema_decay: float = Field(0.99, ge=0, lt=1)
    """decay of the teacher in the second stage, from its first step on; in the first one it is the student."""
    weight: float = Field(0.5, ge=0)
    """alpha, what voxels with a pseudo label weigh against 1 of those with a label; as published."""
    side: float = Field(2 / 3, gt=0, lt=1)
    """beta, the part of every side of a crop that a box has; as published."""
    component: Literal["largest", "all"] = "largest"
    """whether a pseudo label keeps the largest component of every class alone, or all of them."""
    teacher_mode: Literal["train", "eval"] = "train"
    """whether the teacher's dropout is on."""


class Mixed(NamedTuple):
    """Crops of two streams in one.

    Attributes:
        image: (N, C, *spatial).
        label: (N, *spatial) int64, true or pseudo.
        valid: (N, *spatial) bool.
        labelled: (N, *spatial) bool; voxels of labelled crops.
    """

    image: Tensor
    label: Tensor
    valid: Tensor
    labelled: Tensor


class BCP(Method):
    """L = L_seg(mixed(x_l, x_u), y_l) over voxels of x_l + alpha L_seg(mixed(x_l, x_u), q) over those of x_u."""

    config: Config
    family, paper = "pseudo labels", "Bai et al., CVPR 2023"

    def __init__(self, make_net: MakeNet, config: Config) -> None:
        super().__init__(make_net, config)
        self.student = make_net()
        self.teacher = make_teacher(self.student)

    @classmethod
    def stages(cls, config: MethodConfig) -> tuple[Stage, ...]:
        """Return the start on labelled pairs and the mixing of both streams."""
        share = config.pretrain if isinstance(config, Config) else Config().pretrain
        return (
            Stage("pretrain", share=share, batch_unlabelled=0, uses=frozenset({"labels"})),
            Stage("mix", share=1 - share),
        )

    def forward(self, batch: Batch, progress: Progress) -> Terms:
        """Return the loss on labels and, where there are unlabelled crops, that on pseudo labels."""
        view, weight = self.augment(batch, progress), self.config.weight
        if view.image_u is None or view.valid_u is None or view.clean_u is None or weight == 0:
            image, label = self._pairs(view, progress)
            return Terms({"supervised": dice_ce(self.student(image), label, view.valid_l)})
        found, q = self._labels(view.clean_u)
        mixed = self._mixed(view, view.image_u, view.valid_u, q, progress)
        logits = self.student(mixed.image)
        supervised = dice_ce(logits, mixed.label, mixed.valid & mixed.labelled)
        pseudo = dice_ce(logits, mixed.label, mixed.valid & ~mixed.labelled)
        terms = Terms({"supervised": supervised, "pseudo": weight * pseudo})
        if progress.logged:
            terms.shown["kept"] = (q > 0).sum() / (found > 0).sum().clamp(min=1)
        return terms

    def _pairs(self, view: Batch, progress: Progress) -> tuple[Tensor, Tensor]:
        """Return labelled crops with boxes of each other, and their labels."""
        valid = view.valid_l
        boxes = cuboid_masks(valid.shape, self.config.side, progress.generator("box")) & valid & partner(valid)
        return mix(view.image_l, boxes), mix(view.label_l, boxes)

    @torch.no_grad()
    def _labels(self, image: Tensor) -> tuple[Tensor, Tensor]:
        """Return the classes (B, *spatial) that the teacher finds, and those that are kept of them."""
        logits = self.teacher(image)
        found = logits.argmax(1)
        return found, largest_components(found, logits.shape[1]) if self.config.component == "largest" else found

    def _mixed(self, view: Batch, image_u: Tensor, valid_u: Tensor, q: Tensor, progress: Progress) -> Mixed:
        """Return as many mixed crops as the larger stream has; in turns an unlabelled box and an unlabelled frame."""
        number = torch.arange(max(len(view.label_l), len(q)), device=q.device)
        of_l, of_u = number % len(view.label_l), number % len(q)
        valid_l, valid_u = view.valid_l[of_l], valid_u[of_u]
        boxes = cuboid_masks(valid_l.shape, self.config.side, progress.generator("box")) & valid_l & valid_u
        outward = per_item((number + progress.step) % 2 == 1, boxes)  # the box is the labelled crop's
        labelled = boxes == outward
        return Mixed(
            paste(image_u[of_u], view.image_l[of_l], labelled),
            paste(q[of_u], view.label_l[of_l], labelled),
            paste(valid_u, valid_l, labelled),
            labelled,
        )

    def after_step(self, progress: Progress) -> None:
        """Move the teacher; in the first stage it is the student."""
        ema_update(self.teacher, self.student, self.config.ema_decay if progress.stage == "mix" else 0.0)

    def always_in_eval(self) -> Iterable[nn.Module]:
        """Return the teacher where `teacher_mode` says so."""
        return (self.teacher,) if self.config.teacher_mode == "eval" else ()

    def predict(self, image: Tensor) -> Tensor:
        """Return the student's class probabilities (B, K, X, Y, Z)."""
        return self.student(image).softmax(1)
