"""A user's own method file: offline self-training on two halves of the pool, each labelled by the other's."""

from typing import Any

import torch
from torch import Tensor, nn

from semivox.methods.base import Method, MethodConfig
from semivox.ops.dice import dice_ce
from semivox.types import Batch, Progress, Stage, Terms

PSEUDO = frozenset({"labels", "pseudo"})
SEEN: list[tuple[str, Batch]] = []


class Config(MethodConfig):
    """The shared fields."""


class ToySelfTraining(Method):
    """Labels alone, for the first pseudo labels; then the first half, which relabels the second; then the second."""

    def __init__(self, make_net: Any, config: Config) -> None:
        super().__init__(make_net, config)
        with make_net.seeded("student"):
            self.student = nn.Sequential(
                nn.Conv3d(make_net.channels, 4, 3, padding=1),
                nn.BatchNorm3d(4),
                nn.Dropout3d(0.2),
                nn.Conv3d(4, make_net.classes, 1),
            )

    @classmethod
    def stages(cls, config: MethodConfig) -> tuple[Stage, ...]:
        return (
            Stage("all", steps=3, batch_unlabelled=0, uses=frozenset({"labels"}), relabel="all"),
            Stage("odd", steps=2, start="all", uses=PSEUDO, pool=0, relabel=1, reads=1),
            Stage("even", steps=3, start="all", uses=PSEUDO, pool=1, reads=2),
        )

    def forward(self, batch: Batch, progress: Progress) -> Terms:
        losses = {"supervised": dice_ce(self.student(batch.image_l), batch.label_l, batch.valid_l)}
        SEEN.append((progress.stage, batch))
        if batch.image_u is not None:
            losses["pseudo"] = dice_ce(self.student(batch.image_u), batch.label_u, batch.valid_u)
        shown = torch.tensor(float(all(module.training for module in self.modules())))
        return Terms(losses, {"training": shown})

    def predict(self, image: Tensor) -> Tensor:
        # Drawn, so that labels depend on the generators' state if the loop lets them.
        logits = 5 * self.student(image)
        return (logits + torch.randn(*logits.shape[:2], 1, 1, 1, device=image.device)).softmax(1)
