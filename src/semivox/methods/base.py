"""What a method is: the class that every method file fills in, and the config fields that all methods share."""

from collections.abc import Callable, Iterable
from copy import copy
from typing import ClassVar, Literal, Self

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from semivox.errors import ConfigError
from semivox.nets.build import MakeNet
from semivox.ops.fields import per_item, uniform
from semivox.ops.mixing import box_masks, mix, partner
from semivox.ops.perturb import Warp, geometry, intensity
from semivox.types import Batch, Progress, Stage, Terms

Family = Literal[
    "supervised", "entropy", "consistency", "pseudo labels", "peers", "shapes", "adversaries", "contrast", "own"
]
"""Entropy: sure predictions. Consistency: one answer to several views. Pseudo labels: a teacher's classes as labels.
Peers: several nets or decoders teach each other. Shapes: distances beside masks. Adversaries: critics or attacks.
Contrast: embeddings that are alike or not."""


class MethodConfig(BaseModel):
    """The fields that every method shares: augmentation and optimisation. Frozen; an unknown key is refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    geometry: Literal["none", "flips", "turns", "affine", "wide", "elastic"] = "affine"
    """random geometry of every crop: small rotations, scales and shifts; "wide" = larger ones; "turns" = quarter turns
    and flips, as in the papers of the LA line."""
    rotation: float | None = Field(None, ge=0, le=180)
    """degrees about the slice axis, to either side, in place of the geometry's own: 180 where organs lie any way."""
    intensity: Literal["none", "weak", "strong"] = "weak"
    """random intensity of every crop: gain, offset, gamma and noise; "strong" adds blur and a bias field."""
    cutmix_labelled: float = Field(0.0, ge=0, le=1)
    """share of the labelled crops that get a box of another labelled crop, with its label."""
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
    """fractions at which "drop" divides the learning rate by ten."""
    schedule_over: Literal["stage", "run"] = "stage"
    """whether the learning rate starts anew with every stage, or falls once along all of them."""


class Method(nn.Module):
    """A method: its networks, its losses, and nothing of files, devices or loops.

    A subclass defines `forward` and `predict`, and overrides the rest where the paper asks for it. Everything that
    must survive a restart (teachers, queues, prototypes) is a submodule or a buffer: ``state_dict`` is the method.
    """

    family: ClassVar[Family] = "own"
    """what its further loss rests on; `semivox methods` sorts by it."""
    paper: ClassVar[str] = "none"
    """authors, venue and year in short; the card has it in full."""
    needs: ClassVar[frozenset[str]] = frozenset()
    """what the data must supply beyond crops, by name: "distances"; "labelled_halves" (see `Batch.group_l`)."""

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

    def always_in_eval(self) -> Iterable[nn.Module]:
        """Return the parts that stay in evaluation mode whatever mode the method is in; by default none."""
        return ()

    def train(self, mode: bool = True) -> Self:
        """Set the mode of all parts but `always_in_eval`."""
        super().train(mode)
        for part in self.always_in_eval():
            part.eval()
        return self

    def begin_stage(self, stage: Stage) -> None:
        """Prepare a stage: once, after its weights are set and before its optimisers are made; never on a resume."""

    def after_step(self, progress: Progress) -> None:
        """Run after every optimiser step: the place of moving averages and queues."""

    def augment(self, batch: Batch, progress: Progress) -> Batch:
        """Return the batch after one random geometry and intensity per crop, which masks, labels and targets follow.

        The labelled crops' draws do not depend on the unlabelled ones: a method whose other losses weigh nothing sees
        the crops that ``supervised`` sees.
        """
        view = copy(batch)
        view.image_l, _, warp = self._view(batch.image_l, batch.valid_l, batch, progress.generator("view_l"))
        view.valid_l = warp(batch.valid_l)
        view.label_l = warp(batch.label_l)
        view.targets_l = _in_voxels(batch.targets_l, batch.image_l.shape[2:], lambda x: warp(x, fill="border"))
        if self.config.cutmix_labelled:
            self._mix_labelled(view, progress.generator("mix_l"))
        if batch.image_u is not None and batch.valid_u is not None:
            generator = progress.generator("view_u")
            view.image_u, view.clean_u, warp = self._view(batch.image_u, batch.valid_u, batch, generator)
            view.valid_u = warp(batch.valid_u)
            view.targets_u = _in_voxels(batch.targets_u, batch.image_u.shape[2:], lambda x: warp(x, fill="border"))
            view.label_u = None if batch.label_u is None else warp(batch.label_u)
            view.weight_u = None if batch.weight_u is None else warp(batch.weight_u, mode="nearest")
        return view

    def _mix_labelled(self, view: Batch, generator: torch.Generator) -> None:
        """Give a share of the labelled crops a box of another one (CutMix), with all that is known of its voxels.

        Distances in the box are those that its voxels had: near its faces they see borders that it cut off.
        """
        boxes = box_masks(view.label_l.shape, generator, slice_axis=view.slice_axis)
        chosen = uniform((len(boxes),), generator) < self.config.cutmix_labelled
        boxes = boxes & per_item(chosen, boxes) & partner(view.valid_l)
        view.image_l, view.label_l, view.valid_l = (mix(x, boxes) for x in (view.image_l, view.label_l, view.valid_l))
        view.targets_l = _in_voxels(view.targets_l, boxes.shape[1:], lambda x: mix(x, boxes))

    def _view(
        self, image: Tensor, valid: Tensor, batch: Batch, generator: torch.Generator
    ) -> tuple[Tensor, Tensor, Warp]:
        """Return the configured view of some crops, moved and shaded; moved alone; and the geometry for the rest."""
        warp = geometry(
            image.shape,
            generator,
            self.config.geometry,
            spacing=batch.spacing,
            slice_axis=batch.slice_axis if image.ndim == 5 else None,
            rotation=self.config.rotation,
            device=image.device,
        )
        moved = warp(image)
        return intensity(moved, generator, self.config.intensity, valid=warp(valid)), moved, warp

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
        """Return the factor on every learning rate at `fraction` of the stage, or of the run by `schedule_over`."""
        if self.config.schedule == "poly":
            return float((1 - fraction) ** 0.9)
        if self.config.schedule == "drop":
            return float(0.1 ** sum(fraction >= drop for drop in self.config.drops))
        return 1.0


def refuse_no_rest(**shares: float) -> None:
    """Refuse shares of the steps, by their fields' names, that leave none for the fine-tuning.

    Raises:
        ConfigError: they do.
    """
    if sum(shares.values()) >= 1:
        told = " and ".join(f"method.{name} = {share}" for name, share in shares.items())
        raise ConfigError(f"{told} leave no step for the fine-tuning: take shares that sum to less than 1")


def _in_voxels(targets: dict[str, Tensor], size: torch.Size, change: Callable[[Tensor], Tensor]) -> dict[str, Tensor]:
    """Return the targets with a change of those that have a value for every voxel; the others know no place."""
    return {name: change(x) if x.shape[x.ndim - len(size) :] == size else x for name, x in targets.items()}
