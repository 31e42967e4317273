"""Entropy minimisation: on unlabelled crops the student makes up its mind.

Paper:  Grandvalet & Bengio, NIPS 2004, "Semi-supervised Learning by Entropy Minimization"; over log K, and for voxels:
        Vu, Jain, Bucher, Cord & Perez, CVPR 2019, arXiv:1811.12833 (ADVENT, its direct form without a critic).
Volume: as the baseline of SSL4MIS, https://github.com/HiLab-git/SSL4MIS/tree/06df604, in slices and volumes alike.
Differs from the paper: the weight is that of SSL4MIS, .1 with a ramp; ADVENT's is .001, between two domains. The
entropy is that of unlabelled crops; SSL4MIS takes it over labelled ones too, which their labels make sure already
(`crops = "all"`). A voxel in full doubt gets no gradient, and one near it is pushed to whatever it leans to, right or
wrong: the term hardens what the labels have taught and adds nothing that they have not.
Shapes: B volumes, C channels, K classes, X Y Z voxels; _l labelled, _u unlabelled; p probabilities.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor

from semivox.methods.base import Method, MethodConfig
from semivox.nets.build import MakeNet
from semivox.ops.dice import dice_ce
from semivox.ops.ramps import sigmoid_rampup
from semivox.ops.uncertainty import entropy_loss
from semivox.types import Batch, Progress, Terms


class Config(MethodConfig):
    """Entropy minimisation's fields."""

    weight: float = Field(0.1, ge=0)
    """final weight of the entropy; it ramps up as exp(-5 (1 - fraction)^2)."""
    crops: Literal["unlabelled", "all"] = "unlabelled"
    """whose entropy falls: that of unlabelled crops, or of all, as in SSL4MIS."""


class EntropyMinimisation(Method):
    """L = L_seg(x_l, y_l) + w(t) * mean of -sum_k p_k log p_k / log K over the voxels of x_u."""

    config: Config
    family, paper = "entropy", "Grandvalet & Bengio, NIPS 2004"

    def __init__(self, make_net: MakeNet, config: Config) -> None:
        super().__init__(make_net, config)
        self.student = make_net()

    def forward(self, batch: Batch, progress: Progress) -> Terms:
        """Return the supervised loss and, where there are unlabelled crops, the entropy."""
        view = self.augment(batch, progress)
        logits, valid = self.student(view.image_l), view.valid_l
        terms = Terms({"supervised": dice_ce(logits, view.label_l, valid)})
        if view.image_u is not None and view.valid_u is not None:
            logits_u, valid_u = self.student(view.image_u), view.valid_u
            if self.config.crops == "all":
                logits_u, valid_u = torch.cat([logits, logits_u]), torch.cat([valid, valid_u])
            ramp = sigmoid_rampup(progress.fraction)
            terms.losses["entropy"] = self.config.weight * ramp * entropy_loss(logits_u, valid_u)
            if progress.logged:
                terms.shown["entropy_ramp"] = torch.tensor(ramp)
        return terms

    def predict(self, image: Tensor) -> Tensor:
        """Return the student's class probabilities (B, K, X, Y, Z)."""
        return self.student(image).softmax(1)
