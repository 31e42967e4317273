"""A user's own method file whose second loss term stops being a number at a step, or that raises there."""

from typing import Any

import torch
from torch import Tensor

from semivox.methods.base import Method, MethodConfig
from semivox.ops.dice import dice_ce
from semivox.types import Batch, Progress, Terms


class Config(MethodConfig):
    """Where it breaks."""

    breaks_at: int = 4
    """the first step without a number."""
    says: str = ""
    """what torch raises there instead."""


class ToyBroken(Method):
    """The supervised loss, and zero until it breaks."""

    config: Config

    def __init__(self, make_net: Any, config: Config) -> None:
        super().__init__(make_net, config)
        self.student = make_net()

    def forward(self, batch: Batch, progress: Progress) -> Terms:
        logits = self.student(batch.image_l)
        if self.config.says and progress.step >= self.config.breaks_at:
            raise (torch.OutOfMemoryError if "memory" in self.config.says else RuntimeError)(self.config.says)
        factor = torch.tensor(float("nan") if progress.step >= self.config.breaks_at else 0.0)
        return Terms({
            "supervised": dice_ce(logits, batch.label_l, batch.valid_l),
            "broken": factor * logits.mean(),
        })  # fmt: skip

    def predict(self, image: Tensor) -> Tensor:
        return self.student(image).softmax(1)
