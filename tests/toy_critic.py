"""A user's own method file: a student and a critic, each with its optimiser, and one backward of all terms."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional as F

from semivox.methods.base import Method, MethodConfig
from semivox.ops.dice import dice_ce
from semivox.types import Batch, Progress, Stage, Terms


class Config(MethodConfig):
    """The shared fields."""


class ToyCritic(Method):
    """The critic tells labelled predictions from unlabelled ones; the student makes them alike."""

    def __init__(self, make_net: Any, config: Config) -> None:
        super().__init__(make_net, config)
        self.student = make_net()
        with make_net.seeded("critic"):
            self.critic = nn.Sequential(
                nn.Conv3d(make_net.classes, 4, 3, stride=2), nn.ReLU(), nn.Flatten(), nn.LazyLinear(1)
            )
            self.critic(torch.zeros(1, make_net.classes, 8, 8, 16))

    @classmethod
    def stages(cls, config: MethodConfig) -> tuple[Stage, ...]:
        return (Stage("train", trains=("student", "critic")),)

    def optimizers(self, stage: Stage) -> list[torch.optim.Optimizer]:
        return [
            torch.optim.SGD(self.student.parameters(), lr=0.01, momentum=0.9),
            torch.optim.Adam(self.critic.parameters(), lr=0.001),
        ]

    def forward(self, batch: Batch, progress: Progress) -> Terms:
        logits_l, logits_u = self.student(batch.image_l), self.student(batch.image_u)
        p_l, p_u = logits_l.softmax(1), logits_u.softmax(1)
        fixed = {name: weight.detach() for name, weight in self.critic.named_parameters()}
        fooled = functional_call(self.critic, fixed, (p_u,))
        told_l, told_u = self.critic(p_l.detach()), self.critic(p_u.detach())
        return Terms(
            {
                "supervised": dice_ce(logits_l, batch.label_l, batch.valid_l),
                "adversarial": 0.1 * F.softplus(-fooled).mean(),
                "critic": F.softplus(-told_l).mean() + F.softplus(told_u).mean(),
            }
        )

    def predict(self, image: Tensor) -> Tensor:
        return self.student(image).softmax(1)
