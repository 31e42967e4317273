"""What MONA, ARCO and ACTION share: both stages' words, their networks, heads and memory, and most of their fields.

You et al., arXiv:2209.13476 and NeurIPS 2023, arXiv:2302.01735. In the paper and in the released code ARCO is MONA with
another sampler, without the equivariance and without MONA's strong photometric views; ACTION, arXiv:2206.02307, is what
both grew from. Each of them says in its own file what its second stage is made of.
"""

from collections.abc import Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn

from semivox.errors import ConfigError
from semivox.methods.base import Method, MethodConfig
from semivox.methods.base_anatomical_fields import AnatomicalConfig
from semivox.nets.build import MakeNet
from semivox.nets.embedding import PixelHead, RelationHead
from semivox.nets.memory import Anatomy, Part, Relation
from semivox.ops.anatomy import Draws
from semivox.ops.contrast import effective_rank, mean_variance
from semivox.ops.dice import dice_ce
from semivox.ops.ema import ema_update, make_teacher
from semivox.ops.freeze import unused
from semivox.ops.mixing import box_masks, class_masks, mix, partner
from semivox.ops.perturb import intensity
from semivox.ops.ramps import run_decay, warmup_decay
from semivox.ops.sampling import grid_or_default
from semivox.ops.slices import strided
from semivox.ops.uncertainty import entropy, likeliest, most_certain, most_certain_of_each, pseudo_cross_entropy
from semivox.types import Batch, Progress, Stage, Terms

PRETRAIN = 0.3
"""share of the run's steps that the first stage takes."""
RELEASED_BELOW, RELEASED_RANKS = 0.97, (3, 20)
"""What the released code asks of a negative: the teacher's probability of its class, and that class's rank from 0 (from
the first number to below the second)."""


class Mixed(NamedTuple):
    """Unlabelled images with parts of each other.

    Attributes:
        image: (B, C, *spatial) as the student sees them.
        taught: (B, C, *spatial) as the teacher sees them.
        q: (B, *spatial) int64 pseudo label.
        confidence: (B, *spatial) the teacher's probability of it.
        valid: (B, *spatial) bool.
    """

    image: Tensor
    taught: Tensor
    q: Tensor
    confidence: Tensor
    valid: Tensor


class AnatomicalMethod(Method):
    """Relational pre-training, then fine-tuning by what `_finetune` of a method says."""

    config: AnatomicalConfig

    def __init__(self, make_net: MakeNet, config: AnatomicalConfig) -> None:
        super().__init__(make_net, config)
        _check_memory(config)
        self.grid = grid_or_default(config.grid, make_net.dims, make_net.slice_axis)
        flat = make_net.dims == 2
        self.student = make_net()
        self.teacher = make_teacher(self.student)
        with make_net.seeded("relation"):
            latent = config.latent or (512 if flat else 128)
            self.relation = Relation(RelationHead(self.student, latent), config.memory)
        with make_net.seeded("anatomy"):
            draws = Draws(
                config.sampler, config.anchors, config.keys, config.negative_source, config.negatives, config.tau
            )
            own_images = config.neighbours > 0 and config.neighbours_head == "own"
            head = PixelHead(self.student, config.width or (128 if flat else 64), own_images=own_images)
            self.anatomy = Anatomy(head, make_net.classes, draws, bank=config.bank, memory=config.memory)

    @classmethod
    def stages(cls, config: MethodConfig) -> tuple[Stage, ...]:
        """Return relational pre-training and anatomical contrastive fine-tuning."""
        return (
            Stage("pretrain", share=PRETRAIN, trains=("student", "relation.student")),
            Stage(
                "finetune",
                share=1 - PRETRAIN,
                trains=("student", "anatomy.student"),
                optimizer="previous" if config.schedule_over == "run" else "fresh",
            ),
        )

    def forward(self, batch: Batch, progress: Progress) -> Terms:
        """Return the terms of the stage."""
        view = self.augment(batch, progress)
        return self._pretrain(view, progress) if progress.stage == "pretrain" else self._finetune(view, progress)

    def _pretrain(self, view: Batch, progress: Progress) -> Terms:
        config = self.config
        terms = Terms({"supervised": 2 * dice_ce(self.student(view.image_l), view.label_l, view.valid_l)})
        if view.image_u is None or view.valid_u is None:
            # Nothing else reaches this head.
            terms.losses["supervised"] = terms.losses["supervised"] + unused(self.relation.student)
            return terms
        x_s, x_t = (
            intensity(image, progress.generator(f"view_{net}"), "weak", valid=view.valid_u)
            for net, image in (("student", view.image_u), ("teacher", self._taught(view, view.image_u)))
        )
        features = self.student.encode(x_s)
        student = features, self.student.decode(features)
        with torch.no_grad():
            features = self.teacher.encode(x_t)
            teacher = features, self.teacher.decode(features)
        of_images, of_windows = self.relation.losses(
            student, teacher, view.valid_u, tau_s=config.tau_student, tau_t=config.tau_teacher
        )
        terms.losses["global"] = config.weight_global * of_images
        terms.losses["local"] = config.weight_local * of_windows
        return terms

    def _finetune(self, view: Batch, progress: Progress) -> Terms:
        """Return the terms of the second stage."""
        raise NotImplementedError

    def _labelled(self, view: Batch, progress: Progress) -> tuple[Terms, Part]:
        """Return the supervised term, and the labelled images for the contrast."""
        part = self._part(view.image_l, view.label_l, view.valid_l, progress, labelled=True)
        return Terms({"supervised": 2 * dice_ce(part.student.logits, view.label_l, view.valid_l)}), part

    def _contrast(self, terms: Terms, parts: list[Part], progress: Progress) -> None:
        """Add the contrast of pixels and the nearness of neighbours, if there are any; show what has collapsed."""
        config = self.config
        contrast, near = self.anatomy.losses(
            parts,
            progress.generator("pixels"),
            grid=self.grid,
            mirror=config.mirror,
            neighbours=config.neighbours,
        )
        terms.losses["contrast"] = config.weight_contrast * contrast.loss
        if near is not None:
            terms.losses["neighbours"] = config.weight_neighbours * near
        if progress.logged:
            for k, fill in enumerate(self.anatomy.banks.fill):
                found = contrast.queries[k] if contrast.valid[k] else contrast.queries[k, :0]
                terms.shown |= {f"class{k}_variance": mean_variance(found), f"class{k}_rank": effective_rank(found)}
                terms.shown[f"class{k}_fill"] = fill

    def _taught(self, view: Batch, image: Tensor) -> Tensor:
        """Return the unlabelled crops as the teacher sees them, where the student sees `image`."""
        return image if view.clean_u is None or self.config.teacher_view == "released" else view.clean_u

    @torch.no_grad()
    def _mixed(self, view: Batch, image: Tensor, valid: Tensor, progress: Progress) -> Mixed:
        """Return unlabelled images with their pseudo labels, mixed with their partners'."""
        taught = self._taught(view, image)
        confidence, q = likeliest(self.teacher(taught))
        generator = progress.generator("mix")
        if self.config.mix == "none":
            return Mixed(image, taught, q, confidence, valid)
        if self.config.mix == "box":
            mask = box_masks(q.shape, generator, slice_axis=view.slice_axis)
        else:
            mask = class_masks(partner(q), self.student.classes, generator)
        mask = mask & partner(valid)
        valid = mix(valid, mask)
        image, taught = (mix(x, mask) * valid.unsqueeze(1) for x in (image, taught))
        return Mixed(image, taught, mix(q, mask), mix(confidence, mask), valid)

    def _pseudo_error(self, logits: Tensor, mixed: Mixed) -> Tensor:
        """Return L_unsup of the student's logits against the pseudo labels."""
        config = self.config
        if config.pseudo == "released":
            return pseudo_cross_entropy(logits, mixed.q, mixed.confidence, config.confidence, mixed.valid)
        return dice_ce(logits, mixed.q, mixed.valid & (mixed.confidence >= config.confidence))

    def _part(
        self,
        image: Tensor,
        label: Tensor,
        valid: Tensor,
        progress: Progress,
        *,
        labelled: bool,
        taught: Tensor | None = None,
    ) -> Part:
        """Return what both nets make of images, and the roles of their pixels: labelled ones are sure.

        The teacher sees `taught`, if it is given, in place of `image`.
        """
        student = self.student.decode(self.student.encode(image))
        with torch.no_grad():
            teacher = self.teacher.decode(self.teacher.encode(image if taught is None else taught))
            roles = self._roles(student.logits, teacher.logits, label, valid, progress, labelled=labelled)
        return Part(student, teacher, valid, *roles)

    def _roles(
        self, logits_s: Tensor, logits_t: Tensor, label: Tensor, valid: Tensor, progress: Progress, *, labelled: bool
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the pixels that are anchors, make prototypes, are remembered: their class, or K where they do not."""
        config, strides = self.config, self.anatomy.student.strides
        y, on, logits_s, logits_t = (strided(x, strides) for x in (label, valid, logits_s, logits_t))
        p_t = logits_t.float().softmax(1)
        p_own = p_t.gather(1, y.unsqueeze(1)).squeeze(1)
        doubt = entropy(logits_s.float().softmax(1))
        share = max(config.alpha * (1 - progress.fraction), config.alpha_floor)
        if labelled:
            sure = on
        elif config.anchors_from == "classes":
            sure = most_certain_of_each(doubt, y, self.student.classes, share, on)
        else:
            sure = most_certain(doubt, share, on)
        anchors = sure & (p_own > config.anchor_above) & (p_own <= config.anchor_below)
        keys = on
        if config.negatives == "released":
            # Least certain, not the teacher's choice, and of low rank: there is none of labelled pixels.
            rank = (p_t > p_own.unsqueeze(1)).sum(1)
            unlike = (p_own < RELEASED_BELOW) & (rank >= RELEASED_RANKS[0]) & (rank < RELEASED_RANKS[1])
            keys = torch.zeros_like(on) if labelled else most_certain(-doubt, share, on) & unlike
        none = torch.full_like(y, self.student.classes)
        return torch.where(anchors, y, none), torch.where(sure, y, none), torch.where(keys, y, none)

    def after_step(self, progress: Progress) -> None:
        """Move the teachers and remember the step."""
        config = self.config
        over_run = config.schedule_over == "run"
        decay = config.ema_decay
        if decay is None:
            decay = run_decay(progress.steps, 10)
        decay = warmup_decay(progress.total_step if over_run else progress.step, decay)
        ema_update(self.teacher, self.student, decay)
        (self.relation if progress.stage == "pretrain" else self.anatomy).after_step(decay)

    def always_in_eval(self) -> Iterable[nn.Module]:
        """Return the teacher where `teacher_mode` says so."""
        return (self.teacher, self.relation.teacher, self.anatomy.teacher) if self.config.teacher_mode == "eval" else ()

    def predict(self, image: Tensor) -> Tensor:
        """Return the student's class probabilities (B, K, X, Y, Z)."""
        return self.student(image).softmax(1)


def _check_memory(config: AnatomicalConfig) -> None:
    if config.neighbours > config.memory:
        raise ConfigError(
            f"method.neighbours = {config.neighbours}, but method.memory = {config.memory} images are remembered: "
            "take fewer neighbours or remember more"
        )
