"""Entropy minimisation: on unlabelled crops the student is asked to make up its mind.

A method of one's own is one file, with a card like this one, a Config and one subclass of Method:

    semivox train DATA --method own_method.py -o RUN
    semivox predict RUN SCANS -o MASKS --trust

The run keeps the file. Whoever goes on with the run elsewhere runs that copy, and says by --trust that he wants to.

Paper:  Grandvalet & Bengio, NIPS 17 (2004), "Semi-supervised Learning by Entropy Minimization".
Differs from the paper: a class per voxel instead of per image; the weight ramps up, since the entropy of a net that
knows nothing yet would only harden its first guess.
Shapes: B volumes, C channels, K classes, X Y Z voxels; _l labelled, _u unlabelled; p probabilities.
"""

import math

from pydantic import Field
from torch import Tensor

from semivox.methods.base import Method, MethodConfig
from semivox.nets.build import MakeNet
from semivox.ops.dice import dice_ce
from semivox.ops.ramps import sigmoid_rampup
from semivox.types import Batch, Progress, Terms


class Config(MethodConfig):
    """The shared fields, and one more: ``--set method.weight=0.05``."""

    weight: float = Field(0.1, ge=0)
    """final weight of the entropy; it ramps up as exp(-5 (1 - fraction)^2)."""


class EntropyMinimisation(Method):
    """L = L_seg(x_l, y_l) + w(t) * mean entropy of p(x_u), over ln K."""

    config: Config

    def __init__(self, make_net: MakeNet, config: Config) -> None:
        super().__init__(make_net, config)
        self.student = make_net()

    def forward(self, batch: Batch, progress: Progress) -> Terms:
        """Return the supervised loss and, where there are unlabelled crops, their entropy."""
        view = self.augment(batch, progress)
        losses = {"supervised": dice_ce(self.student(view.image_l), view.label_l, view.valid_l)}
        if view.image_u is not None:
            weight = self.config.weight * sigmoid_rampup(progress.fraction)
            losses["entropy"] = weight * mean_entropy(self.student(view.image_u), view.valid_u)
        return Terms(losses)

    def predict(self, image: Tensor) -> Tensor:
        """Return class probabilities (B, K, X, Y, Z)."""
        return self.student(image).softmax(1)


def mean_entropy(logits: Tensor, valid: Tensor) -> Tensor:
    """Return the mean entropy of logits (B, K, X, Y, Z) over the valid voxels (B, X, Y, Z), in [0, 1]."""
    log_p = logits.float().log_softmax(1)
    entropy = -(log_p.exp() * log_p).sum(1) / math.log(logits.shape[1])  # (B, X, Y, Z)
    return (entropy * valid).sum() / valid.sum().clamp(min=1)
