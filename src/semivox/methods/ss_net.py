"""SS-Net: masks stay as they are under the smallest change that would move them most, and classes gather in features.

Paper:  Wu, Wu, Wu, Ge & Cai, MICCAI 2022, arXiv:2203.01324. The attack is that of virtual adversarial training (Miyato
        et al., TPAMI 2019, arXiv:1704.03976), the separation that of Alonso et al., ICCV 2021, arXiv:2104.13415.
Code:   https://github.com/ycwu1997/SS-Net/tree/c0a8bf6 (read to learn what it does; none is used).
Volume: slices or volumes alike.
Differs from the paper:
  Attack. Its length is given by the voxel, whatever the crop: .01 in volumes and .0234 in slices, which are the
  published 10 for 112 x 112 x 80 voxels and 6 for 256 x 256; the trial step `xi`, published 10 in both, .01 and .039.
  It does not reach into padding. Dropout is on in all three passes, as released, each with a mask of its own.
  Change is measured by Dice with squares in the denominator, as in the released script for slices; that for volumes has
  none, and is above 0 between equal masks unless they are sure.
  Separation. `voxels` of the labelled and as many of the unlabelled crops are drawn in a step; released, all take part,
  which takes gigabytes. The prototypes are of this step and of foreground classes alone, as released: of a class's
  drawn voxels that the net has found, those of the highest score.
  What it does. In the middle of 40 to 60 steps on toy crops smoothness has 21 % of the supervised gradient and
  separation 2 to 5 %. The separation knows no negatives: one embedding for all voxels solves it, for any classes.
  The supervised loss is (CE + Dice) / 2; in the paper Dice alone. The student predicts.
Shapes: B images, C channels, K classes, X Y Z voxels, N drawn voxels, M prototypes, D channels of an embedding; _l
labelled, _u unlabelled; p probabilities; q pseudo label; f embeddings.
"""

import torch
from pydantic import Field
from torch import Tensor, nn

from semivox.methods.base import Method, MethodConfig
from semivox.nets.build import MakeNet
from semivox.nets.heads import mlp
from semivox.ops.adversarial import virtual_attack
from semivox.ops.contrast import prototype_distance
from semivox.ops.dice import dice_ce, soft_dice_between
from semivox.ops.fields import drawn_places
from semivox.ops.freeze import through_frozen
from semivox.ops.ramps import sigmoid_rampup
from semivox.ops.slices import listed
from semivox.types import Batch, Progress, Stage, Terms


class Config(MethodConfig):
    """SS-Net's fields."""

    weight_smoothness: float = Field(1.0, ge=0)
    """final weight of the attack's effect on all crops; it ramps up as exp(-5 (1 - fraction)^2)."""
    weight_separation: float = Field(0.1, ge=0)
    """final weight of the distance of voxels to the prototypes of their classes; on the same ramp."""
    epsilon: float | None = Field(None, ge=0)
    """root mean square of the attack, in deviations of the image; None: .0234 in slices, .01 in volumes."""
    xi: float | None = Field(None, gt=0)
    """the same of the trial step that finds its direction; None: .039 in slices, .01 in volumes."""
    voxels: int = Field(4096, ge=1)
    """voxels of the labelled, and of the unlabelled, crops that are drawn in a step."""
    prototypes: int = Field(32, ge=1)
    """M, prototypes of a class in a step."""
    width: int = Field(32, ge=1)
    """D, length of an embedding."""


class SSNet(Method):
    """L = L_seg(x_l, y_l) + w_1(t) Dice(p(x + attack), p(x)) + w_2(t) [L_sep(f_l, y_l) + L_sep(f_u, q)]."""

    config: Config
    family, paper = "adversaries", "Wu et al., MICCAI 2022"

    def __init__(self, make_net: MakeNet, config: Config) -> None:
        super().__init__(make_net, config)
        self.student, flat = make_net(), make_net.dims == 2
        self.epsilon = config.epsilon if config.epsilon is not None else (0.0234 if flat else 0.01)
        self.xi = config.xi or (0.039 if flat else 0.01)
        width, foreground = self.student.decoded_widths[-1], range(1, make_net.classes)
        with make_net.seeded("heads"):
            self.projector, self.predictor = mlp(width, config.width, config.width), mlp(config.width, config.width)
            self.scores = nn.ModuleList(mlp(config.width, config.width, 1) for _ in foreground)
            self.scores_prototypes = nn.ModuleList(mlp(config.width, config.width, 1) for _ in foreground)

    @classmethod
    def stages(cls, config: MethodConfig) -> tuple[Stage, ...]:
        """Return one stage, in which the student, its projector and predictor, and the scores learn."""
        return (Stage("train", trains=("student", "projector", "predictor", "scores", "scores_prototypes")),)

    def forward(self, batch: Batch, progress: Progress) -> Terms:
        """Return the supervised loss, smoothness and separation."""
        config, view = self.config, self.augment(batch, progress)
        decoded = self.student.decode(self.student.encode(view.image_l))
        terms = Terms({"supervised": dice_ce(decoded.logits, view.label_l, view.valid_l)})
        found = decoded.logits.argmax(1)
        f_l, y_l = self._drawn(decoded.features[-1], view.label_l, view.valid_l, progress, "voxels_l")
        right = torch.where(found == view.label_l, view.label_l, 0)  # classes that the net has found
        _, y_right = self._drawn(decoded.features[-1], right, view.valid_l, progress, "voxels_l")
        parts, smooth = [(f_l, y_l)], [(view.image_l, decoded.logits, view.valid_l)]
        if view.image_u is not None and view.valid_u is not None:
            decoded = self.student.decode(self.student.encode(view.image_u))
            q = decoded.logits.argmax(1)
            parts.append(self._drawn(decoded.features[-1], q, view.valid_u, progress, "voxels_u"))
            smooth.append((view.image_u, decoded.logits, view.valid_u))
        ramp = sigmoid_rampup(progress.fraction)
        image, logits, valid = (torch.cat(x) for x in zip(*smooth, strict=True))
        moved = self._smoothness(image, logits, valid, progress)
        apart = self._separation(f_l, y_right, parts)
        terms.losses["smoothness"] = config.weight_smoothness * ramp * moved
        terms.losses["separation"] = config.weight_separation * ramp * apart
        if progress.logged:
            terms.shown |= {"smoothness_ramp": torch.tensor(ramp), "separation_ramp": torch.tensor(ramp)}
            terms.shown["candidates"] = (y_right > 0).float().sum()
        return terms

    def _smoothness(self, image: Tensor, logits: Tensor, valid: Tensor, progress: Progress) -> Tensor:
        """Return how far masks are from what they are when the image is attacked."""
        p = logits.detach().float().softmax(1)

        def away(attacked: Tensor) -> Tensor:
            return soft_dice_between(through_frozen(self.student, attacked).float().softmax(1), p, valid)

        attack = virtual_attack(image, away, valid, progress.generator("attack"), xi=self.xi, size=self.epsilon)
        return soft_dice_between(self.student(image + attack).float().softmax(1), p, valid)

    def _drawn(
        self, features: Tensor, label: Tensor, valid: Tensor, progress: Progress, slot: str
    ) -> tuple[Tensor, Tensor]:
        """Return features (N, W) of voxels drawn from images, and their classes (N,), -1 of what is not valid."""
        drawn = drawn_places(valid.flatten(), self.config.voxels, progress.generator(slot))
        return listed(features)[drawn], label.where(valid, -1).flatten()[drawn]

    def _separation(self, f_l: Tensor, y_right: Tensor, parts: list[tuple[Tensor, Tensor]]) -> Tensor:
        """Return the mean distance of voxels to the prototypes of their classes, labelled and unlabelled ones alike."""
        with torch.autocast(f_l.device.type, enabled=False):
            with torch.no_grad():
                candidates = self.projector(f_l.float())
            embedded = [(self.predictor(self.projector(f.float())), y) for f, y in parts]
            losses = []
            for k, (score, score_prototypes) in enumerate(zip(self.scores, self.scores_prototypes, strict=True), 1):
                with torch.no_grad():
                    rank = score(candidates).squeeze(1).sigmoid().where(y_right == k, -1)
                    best = rank.topk(min(self.config.prototypes, len(rank)))
                m, there = candidates[best.indices], best.values >= 0
                w_m = score_prototypes(m).squeeze(1).sigmoid()
                for f, y in embedded:
                    w_f = score(f.detach()).squeeze(1).sigmoid()
                    losses.append(prototype_distance(f, w_f, y == k, m, w_m, there))
            return torch.stack(losses).sum() / len(self.scores)

    def predict(self, image: Tensor) -> Tensor:
        """Return the student's class probabilities (B, K, X, Y, Z)."""
        return self.student(image).softmax(1)
