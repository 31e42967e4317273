"""What ATSO and self-training share: one net that learns from labels and from whole scans' pseudo labels, made offline.

Shapes: B volumes, C channels, K classes, X Y Z voxels; _l labelled, _u unlabelled.
"""

from pydantic import Field
from torch import Tensor

from semivox.methods.base import Method, MethodConfig
from semivox.nets.build import MakeNet
from semivox.ops.dice import dice_ce
from semivox.types import Batch, Progress, Terms


class OfflineConfig(MethodConfig):
    """What a pseudo label weighs."""

    weight: float = Field(1.0, ge=0)
    """of the loss on pseudo labels; 1, as that on labels, is chosen here."""


class Offline(Method):
    """L = L_seg(x_l, y_l) + w * L_seg(x_u, q), q the classes that an earlier net found in x_u."""

    config: OfflineConfig

    def __init__(self, make_net: MakeNet, config: OfflineConfig) -> None:
        super().__init__(make_net, config)
        self.student = make_net()

    def forward(self, batch: Batch, progress: Progress) -> Terms:
        """Return the supervised loss and, in a generation, that on pseudo labels."""
        view = self.augment(batch, progress)
        losses = {"supervised": dice_ce(self.student(view.image_l), view.label_l, view.valid_l)}
        if view.image_u is not None and view.label_u is not None:
            losses["pseudo"] = self.config.weight * dice_ce(self.student(view.image_u), view.label_u, view.valid_u)
        return Terms(losses)

    def predict(self, image: Tensor) -> Tensor:
        """Return the net's class probabilities (B, K, X, Y, Z)."""
        return self.student(image).softmax(1)
