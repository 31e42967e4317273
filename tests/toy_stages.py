"""A user's own method file, loaded by its dotted name: three stages, each with another start, and a teacher."""

from typing import Any

import torch
from torch import Tensor

from semivox.methods.base import Method, MethodConfig
from semivox.ops.dice import dice_ce, masked_mse
from semivox.ops.ema import ema_update, make_teacher
from semivox.types import Batch, Progress, Stage, Terms


class Config(MethodConfig):
    """The shared fields."""


class ToyStages(Method):
    """Labels alone; then a fresh start with a teacher; then AdamW from the first stage's end."""

    begun: Tensor

    def __init__(self, make_net: Any, config: Config) -> None:
        super().__init__(make_net, config)
        self.student = make_net()
        self.teacher = make_teacher(self.student)
        self.register_buffer("begun", torch.zeros(()))

    @classmethod
    def stages(cls, config: MethodConfig) -> tuple[Stage, ...]:
        return (
            Stage("first", steps=3, batch_unlabelled=0, uses=frozenset({"labels"})),
            Stage("second", start="fresh"),
            Stage("third", start="first"),
        )

    def begin_stage(self, stage: Stage) -> None:
        self.begun += 1
        self.teacher.load_state_dict(self.student.state_dict())

    def optimizers(self, stage: Stage) -> list[torch.optim.Optimizer]:
        if stage.name == "third":
            return [torch.optim.AdamW(self.student.parameters(), lr=1e-3)]
        return super().optimizers(stage)

    def forward(self, batch: Batch, progress: Progress) -> Terms:
        view = self.augment(batch, progress)
        terms = Terms({"supervised": dice_ce(self.student(view.image_l), view.label_l, view.valid_l)})
        if view.image_u is not None:
            with torch.no_grad():
                p_teacher = self.teacher(view.image_u).softmax(1)
            terms.losses["consistency"] = masked_mse(self.student(view.image_u).softmax(1), p_teacher, view.valid_u)
        terms.shown["begun"] = self.begun
        return terms

    def after_step(self, progress: Progress) -> None:
        ema_update(self.teacher, self.student, 0.9)

    def predict(self, image: Tensor) -> Tensor:
        return self.student(image).softmax(1)
