"""FixMatch: what the student is sure of in a crop it learns to find in a strongly shaded one.

Paper:  Sohn et al., NeurIPS 2020, arXiv:2001.07685.
Volume: slices or volumes alike; compare the baseline of SSL4MIS, https://github.com/HiLab-git/SSL4MIS/tree/06df604.
Differs from the paper:
  Voxels for images. The weak view is the crop with a random geometry (`geometry`) and its own intensities, the strong
  one the same crop with strong random intensities: labels need not move between them. `intensity` is that of labelled
  crops. The loss on labels is (Dice + CE) / 2, that on pseudo labels cross-entropy alone.
  Labels are made without dropout, since ours takes half of the channels at two places of a net; `label_mode = "train"`
  leaves it on, as the one forward of the paper would. The student itself labels, and predicts: no average of it, which
  the paper takes for its evaluation.
  Mended, of SSL4MIS: voxels in doubt are ignored, not taught as background, and they are those of a low probability,
  not of a low value after a scaling by the batch's extremes; its ramp, complementary loss and Dice are left out.
  In our short runs the term has a tenth to a third of the supervised gradient once the net is sure of some voxels; with
  too few steps to be sure of any, as with four classes there, it has none.
Shapes: B volumes, C channels, K classes, X Y Z voxels; _l labelled, _u unlabelled; p probabilities; q pseudo label.
"""

from typing import Literal

from pydantic import Field
from torch import Tensor

from semivox.methods.base import Method, MethodConfig
from semivox.nets.build import MakeNet
from semivox.ops.dice import dice_ce, masked_cross_entropy
from semivox.ops.perturb import intensity
from semivox.ops.uncertainty import pseudo_labels
from semivox.types import Batch, Progress, Terms


class Config(MethodConfig):
    """FixMatch's fields."""

    weight: float = Field(1.0, ge=0)
    """lambda_u, of the loss on pseudo labels; 1 as published, from the first step on: the threshold is its ramp."""
    confidence: float = Field(0.95, ge=0, le=1)
    """tau, the student's probability from which a voxel counts."""
    label_mode: Literal["eval", "train"] = "eval"
    """whether the student's dropout is off where it makes labels."""


class FixMatch(Method):
    """L = L_seg(x_l, y_l) + w * mean of [max p(x_u) >= tau] CE(p(strong x_u), argmax p(x_u)) over all voxels of x_u."""

    config: Config
    family, paper = "pseudo labels", "Sohn et al., NeurIPS 2020"

    def __init__(self, make_net: MakeNet, config: Config) -> None:
        super().__init__(make_net, config)
        self.student = make_net()

    def forward(self, batch: Batch, progress: Progress) -> Terms:
        """Return the supervised loss and, where there are unlabelled crops, that on pseudo labels."""
        view = self.augment(batch, progress)
        terms = Terms({"supervised": dice_ce(self.student(view.image_l), view.label_l, view.valid_l)})
        if view.clean_u is not None and view.valid_u is not None:
            confidence, q = pseudo_labels(self.student, view.clean_u, mode=self.config.label_mode)
            sure = view.valid_u & (confidence >= self.config.confidence)
            shaded = intensity(view.clean_u, progress.generator("strong"), "strong", valid=view.valid_u)
            share = sure.sum() / view.valid_u.sum().clamp(min=1)  # Eq. 4 is the mean over all, those in doubt too
            match = masked_cross_entropy(self.student(shaded).float(), q, sure)
            terms.losses["match"] = self.config.weight * share * match
            if progress.logged:
                terms.shown["sure"] = share
        return terms

    def predict(self, image: Tensor) -> Tensor:
        """Return the student's class probabilities (B, K, X, Y, Z)."""
        return self.student(image).softmax(1)
