"""What a method is: the class that every method file fills in, and the config fields that all methods share."""

from typing import ClassVar, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from semivox.nets.build import MakeNet
from semivox.types import Batch, Progress, Stage, Terms


class MethodConfig(BaseModel):
    """The fields that every method shares: augmentation and optimisation. Frozen; an unknown key is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    geometry: Literal["none", "flips", "turns", "affine", "elastic"] = "affine"
    """random geometry of every crop: small rotations, scales and shifts; "turns" = quarter turns and flips, as the papers of the LA line."""
    intensity: Literal["none", "weak", "strong"] = "weak"
    """random intensity of every crop: gain, offset, gamma and noise; "strong" adds blur and a bias field."""
    optimizer: Literal["sgd", "adamw"] = "sgd"
    """stochastic gradient descent with Nesterov momentum, or AdamW."""
    lr: float = Field(0.01, gt=0)
    """learning rate at the start of a stage."""
    momentum: float = Field(0.9, ge=0, lt=1)
    """momentum of SGD."""
    nesterov: bool = True
    """Nesterov's form of momentum."""
    weight_decay: float = Field(1e-4, ge=0)
    """L2 penalty on all weights."""
    schedule: Literal["poly", "drop", "constant"] = "poly"
    """how the learning rate falls: (1 - fraction)^0.9, or a factor 0.1 at every fraction in `drops`."""
    drops: tuple[float, ...] = (0.5,)
    """fractions of a stage at which "drop" divides the learning rate by ten."""


class Method(nn.Module):
    """A method: its networks, its losses, and nothing of files, devices or loops.

    A subclass defines `forward` and `predict`, and overrides the rest where the paper asks for it. Everything that
    must survive a restart (teachers, queues, prototypes) is a submodule or a buffer: ``state_dict`` is the method.
    """

    needs: ClassVar[frozenset[str]] = frozenset()
    """what the data must supply beyond crops, by name: "distances"."""

    def __init__(self, make_net: MakeNet, config: MethodConfig) -> None:
        super().__init__()
        self.config = config

    @classmethod
    def stages(cls, config: MethodConfig) -> tuple[Stage, ...]:
        """Return the stages in order; by default one, which learns in the submodule ``student``."""
        return (Stage("train"),)

    def forward(self, batch: Batch, progress: Progress) -> Terms:
        """Return the loss terms of one step."""
        raise NotImplementedError

    def predict(self, image: Tensor) -> Tensor:
        """Return class probabilities (B, K, *spatial) of images (B, C, *spatial)."""
        raise NotImplementedError

    def begin_stage(self, stage: Stage) -> None:
        """Prepare a stage: runs once, after its weights are set and before its optimisers are made; never on a resume."""

    def after_step(self, progress: Progress) -> None:
        """Run after every optimiser step: the place of moving averages and queues."""

    def optimizers(self, stage: Stage) -> list[torch.optim.Optimizer]:
        """Return the optimisers of a stage; by default one over all that ``stage.trains`` names."""
        weights = [p for name in stage.trains for p in self.get_submodule(name).parameters()]
        config = self.config
        if config.optimizer == "adamw":
            return [torch.optim.AdamW(weights, lr=config.lr, weight_decay=config.weight_decay)]
        nesterov = config.nesterov and config.momentum > 0
        return [
            torch.optim.SGD(
                weights, lr=config.lr, momentum=config.momentum, nesterov=nesterov, weight_decay=config.weight_decay
            )
        ]

    def schedule(self, stage: Stage, fraction: float) -> float:
        """Return the factor on every learning rate at `fraction` of the stage."""
        if self.config.schedule == "poly":
            return float((1 - fraction) ** 0.9)
        if self.config.schedule == "drop":
            return float(0.1 ** sum(fraction >= drop for drop in self.config.drops))
        return 1.0
