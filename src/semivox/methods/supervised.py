"""Supervised: the labelled crops alone; the control that every other method is measured against.

Paper:  none. The network and the loss of the others, with the same augmentation and steps, and nothing unlabelled.
Volume: as the lower and upper bound of Yu et al., MICCAI 2019, arXiv:1907.07034.
Differs from the paper: papers train this control with turns and flips only; here it has the full augmentation.
Shapes: B volumes, C channels, K classes, X Y Z voxels; _l labelled; p probabilities.
"""

from torch import Tensor

from semivox.methods.base import Method, MethodConfig
from semivox.nets.build import MakeNet
from semivox.ops.dice import dice_ce
from semivox.types import Batch, Progress, Stage, Terms


class Config(MethodConfig):
    """The shared fields alone."""


class Supervised(Method):
    """L = (CE + Dice) / 2 on labelled crops."""

    family = "supervised"

    def __init__(self, make_net: MakeNet, config: Config) -> None:
        super().__init__(make_net, config)
        self.student = make_net()

    @classmethod
    def stages(cls, config: MethodConfig) -> tuple[Stage, ...]:
        """Return one stage that draws no unlabelled crop."""
        return (Stage("train", batch_unlabelled=0, uses=frozenset({"labels"})),)

    def forward(self, batch: Batch, progress: Progress) -> Terms:
        """Return the supervised loss."""
        view = self.augment(batch, progress)
        return Terms({"supervised": dice_ce(self.student(view.image_l), view.label_l, view.valid_l)})

    def predict(self, image: Tensor) -> Tensor:
        """Return the class probabilities (B, K, X, Y, Z) of the one network."""
        return self.student(image).softmax(1)
