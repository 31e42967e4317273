"""The values that pass between the data, the loop and a method: Batch, Progress, Stage, Terms."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor


def seed_from(*parts: object) -> int:
    """Return a 63-bit seed that is a function of its parts alone: the same on every machine and in every process."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


class Batch:
    """One step's crops; a plain class, since Fabric would cast the tensors of a dict or dataclass to half precision.

    B volumes, C channels, K classes; spatial axes X Y Z in 3D, two of them in 2D.

    Attributes:
        image_l: (B, C, *spatial) float32, normalised; zero in padding.
        label_l: (B, *spatial) int64 class index; zero where ``valid_l`` is False.
        valid_l: (B, *spatial) bool; False in padding and where the label is to be ignored.
        targets_l: what the method's ``needs`` named: ``"distances"`` (B, K-1, 2, *spatial) float32, the distance in mm
            of every voxel to the outside of its class (zero outside it) and to its inside (zero inside it); and with
            it ``"largest"`` (B, K-1, 2), the largest of them in the whole volume.
        group_l: (B,) int64, which labelled half a crop comes from (all zero where there is one stream).
        case_l: (B,) int64 index into the split's labelled list.
        corner_l: (B, dims) int64 voxel of the prepared volume at the crop's first voxel; negative in padding.
        span_l: (B, 3, 2) float32, where the crop's first and last face lie along each axis of its scan, from 0 to 1;
            beyond in padding. In 2D the first axis is the one across the slices.
        image_u: like ``image_l``; None where the stage draws no unlabelled crops, as are the other ``_u``.
        clean_u: ``image_u`` as a teacher sees it: moved, but with its own intensities; None before `Method.augment`.
        valid_u, corner_u, span_u: as for the labelled ones.
        targets_u: what a method adds to be moved with the crops by `Method.augment`.
        case_u: (B,) int64 index into the unlabelled cases that the stage trains on, in the split's order.
        label_u: (B, *spatial) int64 pseudo label, zero in padding; None where the stage reads none.
        weight_u: (B, *spatial) float32 probability of that label, zero in padding; None where there is none.
        spacing: voxel size in mm along the crop's axes.
        slice_axis: the through-plane axis of a 3D crop (0, 1 or 2), counted among the spatial axes.
    """

    __slots__ = (
        "case_l", "case_u", "clean_u", "corner_l", "corner_u", "group_l", "image_l", "image_u", "label_l", "label_u",
        "slice_axis", "spacing", "span_l", "span_u", "targets_l", "targets_u", "valid_l", "valid_u", "weight_u",
    )  # fmt: skip

    def images(self) -> tuple[Tensor, Tensor]:
        """Return all images (B, C, *spatial), those of labelled crops first, and where they are valid."""
        if self.image_u is None or self.valid_u is None:
            return self.image_l, self.valid_l
        return torch.cat([self.image_l, self.image_u]), torch.cat([self.valid_l, self.valid_u])

    def __init__(
        self,
        *,
        image_l: Tensor,
        label_l: Tensor,
        valid_l: Tensor,
        spacing: tuple[float, ...],
        slice_axis: int,
        targets_l: dict[str, Tensor] | None = None,
        group_l: Tensor | None = None,
        case_l: Tensor | None = None,
        corner_l: Tensor | None = None,
        span_l: Tensor | None = None,
        image_u: Tensor | None = None,
        clean_u: Tensor | None = None,
        valid_u: Tensor | None = None,
        label_u: Tensor | None = None,
        weight_u: Tensor | None = None,
        case_u: Tensor | None = None,
        corner_u: Tensor | None = None,
        span_u: Tensor | None = None,
        targets_u: dict[str, Tensor] | None = None,
    ) -> None:
        self.image_l, self.label_l, self.valid_l = image_l, label_l, valid_l
        self.targets_l, self.targets_u = targets_l or {}, targets_u or {}
        self.group_l, self.case_l, self.corner_l = group_l, case_l, corner_l
        self.image_u, self.clean_u, self.valid_u = image_u, clean_u, valid_u
        self.label_u, self.weight_u = label_u, weight_u
        self.case_u, self.corner_u = case_u, corner_u
        self.span_l, self.span_u = span_l, span_u
        self.spacing, self.slice_axis = spacing, slice_axis

    def to(self, device: torch.device | str) -> "Batch":
        """Return the batch with every tensor on `device`, in the type of the list above.

        A stream gives labels, weights and distances as they are stored (uint8, float16), so that they travel small.
        """
        moved: dict[str, Any] = {name: getattr(self, name) for name in self.__slots__}
        for name, value in moved.items():
            if isinstance(value, Tensor):
                moved[name] = _wide(value.to(device, non_blocking=True))
        for targets in ("targets_l", "targets_u"):
            moved[targets] = {name: _wide(t.to(device, non_blocking=True)) for name, t in moved[targets].items()}
        return Batch(**moved)


_WIDE = {torch.uint8: torch.int64, torch.float16: torch.float32}


def _wide(x: Tensor) -> Tensor:
    return x.to(_WIDE.get(x.dtype, x.dtype))


@dataclass(frozen=True)
class Stage:
    """A part of a method's training, with its own steps, optimisers and data.

    Attributes:
        name: how config keys (``stages.NAME.*``), the log and checkpoints call it.
        steps: optimiser steps; None takes the run's ``steps``, or the `share` of them.
        share: part of the run's ``steps``; the shares of a method's stages sum to 1, so that it takes as many steps as
            a method with one stage.
        batch_labelled: labelled crops per step; None takes the run's ``batch_labelled``.
        batch_unlabelled: unlabelled crops per step, 0 for none; None takes the run's ``batch_unlabelled``.
        start: where its weights come from: "previous", "fresh" or the name of an earlier stage.
        optimizer: "fresh", or "previous" to go on with the moments of the stage before, where the same weights learn.
        trains: names of the method's submodules that learn; the rest is frozen.
        uses: which of "labels", "unlabelled", "pseudo" reach the losses.
        pool: "all", or the index of a seeded part of the unlabelled pool, which has 1 + the largest index named in the
            method's stages parts of equal size.
        relabel: None, "all" or a part: relabelled by ``predict``, in evaluation mode, when the stage ends.
        reads: the generation of pseudo labels it trains on, with "pseudo" in `uses`; or None. The n-th stage that
            relabels makes generation n (from 1); in it, cases of other parts keep their newest label before.
        keep: share of the pool's cases that it trains on, at least one: those whose label agrees best with the newest
            one of an earlier generation.
    """

    name: str
    steps: int | None = None
    share: float | None = None
    batch_labelled: int | None = None
    batch_unlabelled: int | None = None
    start: str = "previous"
    optimizer: Literal["fresh", "previous"] = "fresh"
    trains: tuple[str, ...] = ("student",)
    uses: frozenset[str] = frozenset({"labels", "unlabelled"})
    pool: str | int = "all"
    relabel: str | int | None = None
    reads: int | None = None
    keep: float = 1.0


class Progress:
    """Where a run stands, and the only source of a method's randomness. Not to be changed.

    A plain class like `Batch`: in mixed precision, Fabric walks through the dataclasses that a forward is given to cast
    their tensors, and raises on a frozen one.

    Attributes:
        stage: name of the stage.
        step: steps of this stage done before this one (0 at the first).
        steps: steps of this stage.
        total_step: steps of all stages done before this one.
        seed: the run's seed.
        rank: this process under DDP.
        device: where generators live; the CPU by default.
        logged: whether this step's row is logged; what is only shown need not be computed otherwise.
    """

    __slots__ = ("device", "logged", "rank", "seed", "stage", "step", "steps", "total_step")

    def __init__(
        self,
        stage: str,
        step: int,
        steps: int,
        total_step: int = 0,
        seed: int = 0,
        rank: int = 0,
        device: torch.device | None = None,
        logged: bool = True,
    ) -> None:
        self.stage, self.step, self.steps, self.total_step = stage, step, steps, total_step
        self.seed, self.rank, self.logged = seed, rank, logged
        self.device = torch.device("cpu") if device is None else device

    @property
    def fraction(self) -> float:
        """Step over steps of this stage, in [0, 1): what ramps and schedules read."""
        return self.step / self.steps

    def generator(self, slot: str) -> torch.Generator:
        """Return a generator on the device that (seed, stage, step, rank, slot) alone decide."""
        seed = seed_from(self.seed, self.stage, self.step, self.rank, slot)
        return torch.Generator(self.device).manual_seed(seed)


@dataclass
class Terms:
    """What a method's ``forward`` returns. Mutable, since Fabric writes into the dataclasses that a forward returns.

    Attributes:
        losses: scalar tensors by name; the loop sums, logs and back-propagates exactly these.
        shown: scalars that are only logged; ``TERM_ramp`` is the part of its weight, in (0, 1], that the loss TERM has
            by the time in training alone: divided by it, curves show what the term itself does.
    """

    losses: dict[str, Tensor]
    shown: dict[str, Tensor] = field(default_factory=dict)

    def total(self) -> Tensor:
        """Return the sum of the losses."""
        values: Iterator[Tensor] = iter(self.losses.values())
        total = next(values)
        for value in values:
            total = total + value
        return total
