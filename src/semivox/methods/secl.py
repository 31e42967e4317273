"""SECL: regions of a scan, or anatomical classes, find their like in other scans by the features of a teacher encoder.

Paper:  Xiang, Li, Wang, Xia, Zhang, 2021, arXiv:2105.12924 (self-ensembling contrastive learning).
A reconstruction: read as an abstract only. It says that an encoder-decoder learns from labelled images, that a contrast
pulls features of unlabelled images together within and apart between classes, that the teacher is the moving average of
the encoder, and that pairs come from structure that scans share (region-aware) or from pseudo labels made on the fly
(anatomical-aware; the better one). All else, numbers included, is chosen here.
Volume: slices or volumes alike; a cell of the region-aware grid is a box of a scan, in 2D too.
Differs from the paper: what differs is not known. Chosen are:
  Features are those of one level of the encoder, a quarter of the resolution, projected position by position
  (convolution, norm, ReLU, convolution) and scaled to length 1. A group of positions is embedded as their mean. Anchors
  are the student's, keys the teacher's; an anchor finds each of its positives among the keys of all other groups.
  Labelled images join, with their labels. Of unlabelled ones the teacher sees the crops with their own intensities.
  anatomical: groups are the classes of an image, its positives those of the same class in any image. Pseudo labels are
  those of the averaged net, whose decoder serves nothing else; the surest half of each class counts. With a threshold
  of .9 (`confidence = 0.9`) no unlabelled foreground had passed after 100 steps on ACDC with 3 labelled patients.
  region: groups are the cells of a grid over the whole scan, not over the crop: a random crop shows whichever cells it
  lies in, geometry moves places with the voxels, and a cell counts where the crop holds half of it. So scans must be
  cut and turned alike, as far as a cell is large; nothing checks it. Positives are the same cell of other scans, and in
  2D of slices in the same part of a scan. No prediction is needed. The place in the crop alone gives part of it away:
  with noise for images the loss on the phantom, 4.18 by chance and 3.51 with them, is 3.80; on whole slices of ACDC
  under the geometry "wide", 4.76 and 4.34, it is 4.75.
  Temperature. Two class means are soon apart: at .1 the anatomical contrast has a thousandth of the supervised gradient
  after 50 steps on the phantom; at .5 it has .08 of it then and .007 after 200; with ACDC's four classes a quarter.
  The supervised loss is (Dice + CE) / 2. The teacher is in evaluation mode. The student predicts.
Shapes: B images, K classes, X Y Z voxels, G groups, N positions of the features' grid, D length of an embedding; _l
labelled, _u unlabelled; _s student, _t teacher; p probabilities; q pseudo label.
"""

from collections.abc import Iterable
from copy import copy
from math import prod
from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from semivox.errors import ConfigError
from semivox.methods.base import Method, MethodConfig
from semivox.nets.build import MakeNet
from semivox.nets.heads import projection
from semivox.nets.net import Features
from semivox.ops.contrast import class_means, effective_rank, group_contrast, members, unit
from semivox.ops.dice import dice_ce
from semivox.ops.ema import ema_update, make_teacher
from semivox.ops.ramps import sigmoid_rampup, warmup_decay
from semivox.ops.regions import cell_sizes, places, scan_cells
from semivox.ops.sampling import grid_or_default
from semivox.ops.slices import strided
from semivox.ops.uncertainty import entropy, most_certain_of_each
from semivox.types import Batch, Progress, Stage, Terms

WEIGHTS = {"region": 0.1, "anatomical": 0.2}
"""Final weight of either contrast, chosen by short runs on slices of ACDC: ramped up, its gradient on the student is
about a tenth (region) or a quarter (anatomical) of the supervised one."""

SUREST = 0.5
"""Part of each pseudo class that counts where no confidence is asked for."""

COVERED = 0.5
"""Part of a cell of the scan that a crop must hold for the cell to count in it."""

Named = dict[str, Tensor]


class Config(MethodConfig):
    """SECL's fields; the paper's own numbers are not known."""

    contrast: Literal["region", "anatomical"] = "anatomical"
    """what finds its like: cells of a grid over the whole scan, or classes, by labels and pseudo labels."""
    weight: float | None = Field(None, ge=0)
    """final weight of the contrast, which ramps up as exp(-5 (1 - fraction)^2); None: region .1, anatomical .2."""
    tau: float = Field(0.5, gt=0)
    """temperature of the contrast."""
    confidence: float | None = Field(None, ge=0, le=1)
    """anatomical: the averaged net's probability from which an unlabelled voxel counts to its class; None: the surest
    half of each class counts. At .9 no foreground passes in the first hundreds of steps."""
    grid: tuple[int, ...] | None = None
    """region: cells along each axis of a scan, in 2D those across the slices first; None: 4 x 4, and 2 across."""
    stride: int = Field(4, ge=1)
    """the contrast reads the encoder's coarsest feature with at most so many voxels to a side of a position."""
    width: int = Field(128, ge=1)
    """D, length of an embedding."""
    ema_decay: float = Field(0.99, ge=0, lt=1)
    """decay of the teacher and its projection, reached by a warm start min(1 - 1/(step + 1), ema_decay)."""


class SECL(Method):
    """L = L_seg(x_l, y_l) + w(t) * InfoNCE of the student's means of groups with the teacher's, over all images."""

    config: Config
    family, paper = "contrast", "Xiang et al., 2021"

    def __init__(self, make_net: MakeNet, config: Config) -> None:
        super().__init__(make_net, config)
        self.region = config.contrast == "region"
        self.grid = grid_or_default(config.grid, 3, make_net.slice_axis if make_net.dims == 3 else 0)
        self.student = net = make_net()
        self.level = next((at for at in reversed(net.strides) if max(net.strides[at]) <= config.stride), "bottleneck")
        self.strides = net.strides[self.level]
        with make_net.seeded("head"):
            self.head = projection(net.dims, net.widths[self.level], config.width, config.width, net.norm)
        self.teacher, self.teacher_head = make_teacher(self.student), make_teacher(self.head)

    @classmethod
    def stages(cls, config: MethodConfig) -> tuple[Stage, ...]:
        """Return one stage, in which the student and its projection learn."""
        return (Stage("train", trains=("student", "head")),)

    def forward(self, batch: Batch, progress: Progress) -> Terms:
        """Return the supervised loss and the contrast."""
        config, view = self.config, self.augment(self._placed(batch) if self.region else batch, progress)
        features = self.student.encode(view.image_l)
        terms = Terms({"supervised": dice_ce(self.student.decode(features).logits, view.label_l, view.valid_l)})
        shown = terms.shown if progress.logged else {}
        parts = [self._part(features, view.image_l, view.label_l, view.valid_l, view.targets_l, shown)]
        if view.image_u is not None and view.clean_u is not None and view.valid_u is not None:
            features = self.student.encode(view.image_u)
            parts.append(self._part(features, view.clean_u, None, view.valid_u, view.targets_u, shown))
        anchors, keys, found = (torch.cat(of) for of in zip(*parts, strict=True))
        scans = [targets["scan"] for targets in (view.targets_l, view.targets_u) if "scan" in targets]
        weight = WEIGHTS[config.contrast] if config.weight is None else config.weight
        ramp = sigmoid_rampup(progress.fraction)
        contrast = group_contrast(anchors, keys, found, torch.cat(scans) if scans else None, tau=config.tau)
        terms.losses["contrast"] = weight * ramp * contrast
        if progress.logged:
            shown |= {"contrast_ramp": torch.tensor(ramp), "groups": found.sum(1).float().mean()}
            shown["rank"] = effective_rank(anchors[found])
        return terms

    def _placed(self, batch: Batch) -> Batch:
        """Return the batch with what the crops show of their scans, for `augment` to move along.

        Raises:
            ConfigError: it does not say where the crops lie.
        """
        placed = copy(batch)
        for kind in ("l", "u"):
            image, span, case = (getattr(batch, f"{what}_{kind}") for what in ("image", "span", "case"))
            if image is None:
                continue  # no crops of this kind
            if span is None or case is None:
                raise ConfigError(f"contrast = 'region' reads Batch.span_{kind} and case_{kind}: give both")
            coarse = [length // stride for length, stride in zip(image.shape[2:], self.strides, strict=True)]
            made = {
                "places": places(span, image.shape[2:]),
                "least": COVERED * cell_sizes(span, coarse, self.grid),
                "scan": case if kind == "l" else -1 - case,  # their lists are numbered apart
            }
            setattr(placed, f"targets_{kind}", getattr(batch, f"targets_{kind}") | made)
        return placed

    def _part(
        self, features: Features, image: Tensor, label: Tensor | None, valid: Tensor, targets: Named, shown: Named
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return the student's and the teacher's means of groups (B, G, D), and which there are; it sees `image`."""
        with torch.no_grad():
            taught = self.teacher.encode(image)
            on = strided(valid, self.strides)
            if self.region:
                ids = scan_cells(strided(targets["places"], self.strides), self.grid)
            elif label is not None:
                ids = strided(label, self.strides)
            else:
                ids, on = self._pseudo(taught, on, shown)
            groups = prod(self.grid) if self.region else self.student.classes
            ids = ids.where(on, groups).flatten(1)  # (B, N)
            found = members(ids, groups).sum(2) >= (targets["least"][:, None] if self.region else 1)
            z_t = unit(self.teacher_head(taught[self.level]).flatten(2).mT)
        z_s = unit(self.head(features[self.level]).flatten(2).mT)  # (B, N, D)
        return class_means(z_s, ids, groups), class_means(z_t, ids, groups), found

    def _pseudo(self, taught: Features, valid: Tensor, shown: Named) -> tuple[Tensor, Tensor]:
        """Return the averaged net's classes (B, *grid), and where it is sure of them; show how often it is."""
        classes, threshold = self.student.classes, self.config.confidence
        p = strided(self.teacher.decode(taught).logits, self.strides).float().softmax(1)
        confidence, q = p.max(1)
        if threshold is None:
            sure = most_certain_of_each(entropy(p), q, classes, SUREST, valid)
        else:
            sure = valid & (confidence >= threshold)
        for k in range(classes):
            shown[f"class{k}_sure"] = (sure & (q == k)).sum() / (valid & (q == k)).sum().clamp(min=1)
        return q, sure

    def after_step(self, progress: Progress) -> None:
        """Move the averaged net and its projection."""
        decay = warmup_decay(progress.step, self.config.ema_decay)
        ema_update(self.teacher, self.student, decay)
        ema_update(self.teacher_head, self.head, decay)

    def always_in_eval(self) -> Iterable[nn.Module]:
        """Return the averaged net and its projection."""
        return self.teacher, self.teacher_head

    def predict(self, image: Tensor) -> Tensor:
        """Return the student's class probabilities (B, K, X, Y, Z)."""
        return self.student(image).softmax(1)
