"""UniMatch: what the student is sure of in a crop it finds in two strong views of it and behind half of its features.

Paper:  Yang, Qi, Feng, Zhang & Shi, CVPR 2023, arXiv:2208.09910.
Code:   https://github.com/LiheYoung/UniMatch/tree/0324f3d (what it does is told below; none is used).
Volume: that of its experiments on ACDC, in slices; here volumes too, where a box runs through all slices.
Needs a net whose encoder and decoder can be called apart: `unet`, `vnet` or `smp:NAME`.
Differs from the paper:
  The scale. Published, (L_x + .25 L_s1 + .25 L_s2 + .5 L_fp) / 2; here twice that, so that the supervised loss is that
  of all methods. No ramp, as published.
  As released for ACDC, pseudo labels train by Dice alone (for photographs by cross-entropy), here by that of the
  foreground classes over the whole batch. Until some foreground is sure both terms stay near their weights, with no
  gradient to speak of; in our short runs they have a tenth of the supervised one up to twice as much from then on.
  Labels are made without dropout, in a forward of their own; `label_mode = "train"` leaves it on, as released. The
  student itself labels and predicts, without an average.
  Views. All three share one geometry (`geometry`); the strong ones have strong random intensities, and half of them a
  box of the next crop of the batch, with its labels and their doubt. `intensity` is that of labelled crops.
Shapes: B volumes, C channels, K classes, X Y Z voxels; _l labelled, _u unlabelled; p probabilities; q pseudo label.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from semivox.methods.base import Method, MethodConfig
from semivox.nets.build import MakeNet
from semivox.ops.dice import dice_ce, soft_dice_loss
from semivox.ops.features import channel_drop
from semivox.ops.mixing import mix, partner, some_boxes
from semivox.ops.perturb import intensity
from semivox.ops.uncertainty import pseudo_labels
from semivox.types import Batch, Progress, Terms

AREA = (0.02, 0.4)
"""part of a slice that a box takes, from and to, as released."""


class Config(MethodConfig):
    """UniMatch's fields."""

    weight_strong: float = Field(0.5, ge=0)
    """of the mean loss of both strong views, against 1 of the supervised loss; as published."""
    weight_features: float = Field(0.5, ge=0)
    """of the loss behind features with channels left out; as published."""
    confidence: float = Field(0.95, ge=0, le=1)
    """tau, the student's probability from which a voxel counts."""
    cutmix: float = Field(0.5, ge=0, le=1)
    """share of the strong views that get a box of another one."""
    channel_dropout: float = Field(0.5, ge=0, lt=1)
    """part of the channels of every feature of the encoder that is left out."""
    label_mode: Literal["eval", "train"] = "eval"
    """whether the student's dropout is off where it makes labels."""


class UniMatch(Method):
    """L = L_seg(x_l, y_l) + w_s (D(strong_1 x_u, q) + D(strong_2 x_u, q)) / 2 + w_f D(dropped x_u, q), D where sure."""

    config: Config
    family, paper = "pseudo labels", "Yang et al., CVPR 2023"

    def __init__(self, make_net: MakeNet, config: Config) -> None:
        super().__init__(make_net, config)
        self.student = make_net()

    def forward(self, batch: Batch, progress: Progress) -> Terms:
        """Return the supervised loss and, where there are unlabelled crops, those on pseudo labels."""
        view = self.augment(batch, progress)
        terms = Terms({"supervised": dice_ce(self.student(view.image_l), view.label_l, view.valid_l)})
        if view.clean_u is not None and view.valid_u is not None:
            confidence, q = pseudo_labels(self.student, view.clean_u, mode=self.config.label_mode)
            sure = view.valid_u & (confidence >= self.config.confidence)
            strong = torch.stack([self._strong(view, view.clean_u, q, sure, progress, number) for number in (1, 2)])
            features = self._dropped(view.clean_u, q, sure, progress)
            terms.losses["strong"] = self.config.weight_strong * strong.mean()
            terms.losses["features"] = self.config.weight_features * features
            if progress.logged:
                terms.shown["sure"] = sure.sum() / view.valid_u.sum().clamp(min=1)
        return terms

    def _strong(self, view: Batch, image: Tensor, q: Tensor, sure: Tensor, progress: Progress, number: int) -> Tensor:
        """Return the loss of one strong view, in which boxes bring their labels along."""
        generator, valid = progress.generator(f"strong_{number}"), view.valid_u
        shaded = intensity(image, generator, "strong", valid=valid)
        boxes = some_boxes(q.shape, self.config.cutmix, generator, area=AREA, slice_axis=view.slice_axis)
        if valid is not None:
            boxes = boxes & valid & partner(valid)
        return _dice(self.student(mix(shaded, boxes)), mix(q, boxes), mix(sure, boxes))

    def _dropped(self, image: Tensor, q: Tensor, sure: Tensor, progress: Progress) -> Tensor:
        """Return the loss behind the encoder's features without a random part of their channels."""
        generator, share = progress.generator("features"), self.config.channel_dropout
        dropped = {name: channel_drop(x, generator, share) for name, x in self.student.encode(image).items()}
        return _dice(self.student.decode(dropped).logits, q, sure)

    def predict(self, image: Tensor) -> Tensor:
        """Return the student's class probabilities (B, K, X, Y, Z)."""
        return self.student(image).softmax(1)


def _dice(logits: Tensor, q: Tensor, sure: Tensor) -> Tensor:
    return soft_dice_loss(logits.float().softmax(1), q, sure)
