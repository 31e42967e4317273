"""Relabelling: which part of the unlabelled pool a stage sees, with which pseudo labels, and how new ones are made.

A method's stages name parts of the pool by index; the pool has 1 + the largest index named parts. The n-th stage that
relabels makes generation n. Generation n of a case is what the n-th relabelling left the case with: its new label where
its part was relabelled, else the newest one before. A stage that keeps only a share of its cases says which in
pseudo/kept_STAGE.csv.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray

from semivox.config.keys import Config
from semivox.data.preparation import PreparedCase
from semivox.data.pseudo import Key, Label, PseudoLabels, PseudoStore, partition
from semivox.errors import ConfigError, RunError, nearest
from semivox.files import write_table
from semivox.methods.base import Method
from semivox.ops.windows import slide
from semivox.types import Stage, seed_from


class Relabelling:
    """The pseudo labels of one run.

    Args:
        config: of the run.
        stages: resolved and checked by `check_stages`.
        unlabelled: the whole unlabelled pool.
        folder: where the store lies.
    """

    def __init__(
        self, config: Config, stages: Sequence[Stage], unlabelled: Sequence[PreparedCase], folder: Path
    ) -> None:
        self.config, self.stages, self.store = config, tuple(stages), PseudoStore(folder)
        self.unlabelled = list(unlabelled)
        self.parts = part_count(stages)
        self.part_of = partition([case.name for case in self.unlabelled], self.parts, seed=config.seed)

    def pool(self, part: str | int) -> list[PreparedCase]:
        """Return the cases of a part, or of "all" parts, in the pool's order."""
        return [case for case in self.unlabelled if part in ("all", self.part_of[case.name])]

    def given(self, stage: Stage) -> tuple[list[PreparedCase], PseudoLabels | None]:
        """Return the unlabelled cases that a stage trains on, and the pseudo labels that it reads, or None.

        Raises:
            RunError: a label is missing in the store.
        """
        cases = self.pool(stage.pool)
        if stage.reads is None:
            return cases, None
        if stage.keep < 1:
            cases = self._kept(stage, cases)
        keys = [self._newest(case, stage.reads) for case in cases]
        return cases, PseudoLabels(self.store, keys, [case.image.shape[1:] for case in cases])

    def agreements(self, stage: Stage) -> dict[str, float]:
        """Return how well the label that a stage reads agrees with the one before it, of each case of its pool.

        Raises:
            RunError: a label is missing in the store.
        """
        found = {}
        for case in self.pool(stage.pool):
            newest = self._newest(case, stage.reads or 0)
            before = self._newest(case, newest.generation - 1)
            found[case.name] = agreement(self.store.read(newest)[0], self.store.read(before)[0])
        return found

    def _kept(self, stage: Stage, cases: Sequence[PreparedCase]) -> list[PreparedCase]:
        """Return the stage's share of cases, those that agree best, and write down what was kept."""
        agreements = self.agreements(stage)
        best = sorted(agreements, key=lambda name: (-agreements[name], name))
        kept = set(best[: math.ceil(stage.keep * len(best))])
        write_table(
            self.store.folder / f"kept_{stage.name}.csv",
            ("case", "agreement", "kept"),
            [{"case": name, "agreement": f"{agreements[name]:.4f}", "kept": int(name in kept)} for name in best],
        )
        return [case for case in cases if case.name in kept]

    def _newest(self, case: PreparedCase, generation: int) -> Key:
        """Return where a case's newest label lies that was made up to a generation."""
        part = self.part_of[case.name]
        return Key(case.name, part, _source(self.stages, part, generation) or 0)

    def place(self, index: int) -> dict[str, int]:
        """Return what a stage's checkpoints hold: generations made before it, its part (-1 for all), count of parts."""
        stage = self.stages[index]
        part = stage.pool if isinstance(stage.pool, int) else -1
        return {"generation": _made(self.stages[:index]), "part": part, "parts": self.parts}

    def rewind(self, state: Mapping[str, Any] | None) -> None:
        """Cut the store back to a checkpoint, or empty it; only where no other process is relabelling.

        A checkpoint at a stage's end vouches for the labels that its weights have made since.

        Raises:
            RunError: the method's stages are no longer those that the checkpoint was made with.
        """
        if state is None:
            self.store.cut(0)
            return
        index = state["stage"]
        expected = self.place(index) if index < len(self.stages) else {}
        found = {key: state.get(key) for key in ("generation", "part", "parts")}
        if found != expected:
            raise RunError(
                f"the checkpoint's pseudo labels are {found}, the stages of {self.config.method_name} now ask for "
                f"{expected}: the method has changed since; train into a new run folder"
            )
        ended = state["step"] == self.stages[index].steps and self.stages[index].relabel is not None
        self.store.cut(expected["generation"] + ended)

    def relabel(self, index: int, method: Method, fabric: Fabric, must_stop: Callable[[], bool]) -> bool:
        """Make the labels that a stage's end asks for, where they are missing; the processes share the cases.

        Args:
            index: of the stage.
            method: with the stage's last weights; predicts in evaluation mode, and gets its modes back.
            fabric: that the method was set up with.
            must_stop: asked between cases; the same answer in every process.

        Returns:
            True when every label is there; False when `must_stop` said so before.
        """
        stage = self.stages[index]
        if stage.relabel is None:
            return True
        cases = self.pool(stage.relabel)
        generation = _made(self.stages[: index + 1])
        with _evaluating(method):
            for start in range(0, len(cases), fabric.world_size):
                if start and must_stop():
                    return False
                for case in cases[start + fabric.global_rank :][:1]:
                    key = Key(case.name, self.part_of[case.name], generation)
                    self.store.keep(key, partial(self._label, case, stage, method, fabric))
        fabric.barrier()
        return True

    def _label(self, case: PreparedCase, stage: Stage, method: Method, fabric: Fabric) -> Label:
        """Return the most probable class of every voxel and its probability."""
        # A prediction that draws, such as with dropout, is a function of the case, not of those labelled before it.
        torch.manual_seed(seed_from(self.config.seed, stage.name, "relabel", case.name))
        windows = self.config.predict
        with fabric.autocast():
            p = slide(
                torch.from_numpy(np.array(case.image)),
                method.predict,
                patch=self.config.patch,
                step_size=windows.step_size,
                stride=windows.stride,
                blend=windows.blend,
                batch=windows.batch,
                device=fabric.device,
                mirror=tuple(range(self.config.dims)) if windows.mirror else (),
            )
        weight, label = p.max(0)
        return label.to(torch.uint8).numpy(), weight.half().numpy()


def agreement(label: NDArray[np.uint8], other: NDArray[np.uint8]) -> float:
    """Return the mean Dice between two labels over the classes that either has, without background; 1 where none has.

    Args:
        label: class indices.
        other: of the same shape.
    """
    classes = np.union1d(label, other)
    scores = [
        2 * ((label == index) & (other == index)).sum() / ((label == index).sum() + (other == index).sum())
        for index in classes[classes > 0]
    ]
    return float(np.mean(scores)) if scores else 1.0


def part_count(stages: Sequence[Stage]) -> int:
    """Return the number of parts of the unlabelled pool: 1 + the largest index that a stage names."""
    named = [part for stage in stages for part in (stage.pool, stage.relabel) if isinstance(part, int)]
    return 1 + max(named, default=0)


def check_stages(stages: Sequence[Stage]) -> None:
    """Refuse stages that cannot follow each other.

    Raises:
        ConfigError: two of one name, a start from a stage that is not earlier, a pool or relabelling that is no part,
            pseudo labels that no earlier stage makes, or a share of cases to keep by labels that do not exist.
    """
    for index, stage in enumerate(stages):
        earlier = [other.name for other in stages[:index]]
        if stage.name in earlier:
            raise ConfigError(f"two stages are named '{stage.name}': give each its own name")
        starts = ("previous", "fresh", *earlier)
        if stage.start not in starts:
            raise ConfigError(
                f"stage '{stage.name}' starts from '{stage.start}', expected an earlier stage: "
                f"{nearest(stage.start, starts)}"
            )
        for key, part in (("pool", stage.pool), ("relabel", stage.relabel)):
            if not (part == "all" or (isinstance(part, int) and part >= 0) or (key == "relabel" and part is None)):
                raise ConfigError(f"stage '{stage.name}': {key} = {part!r}, expected 'all' or an index from 0")
        _check_reads(stages, index)
        _check_keep(stages, index)


def _check_keep(stages: Sequence[Stage], index: int) -> None:
    """Refuse a stage that keeps cases by their agreement where there is nothing to compare."""
    stage = stages[index]
    if not 0 < stage.keep <= 1:
        raise ConfigError(f"stage '{stage.name}': keep = {stage.keep}, expected a share above 0, up to 1")
    if stage.keep == 1:
        return
    for part in range(part_count(stages)):
        newest = _source(stages, part, stage.reads or 0)
        twice = newest is not None and _source(stages, part, newest - 1) is not None
        if stage.pool in ("all", part) and not twice:
            raise ConfigError(
                f"stage '{stage.name}' keeps the cases whose pseudo labels agree, but part {part} of its pool is not "
                "relabelled twice before it: let two earlier stages relabel it, or set keep = 1"
            )


def _check_reads(stages: Sequence[Stage], index: int) -> None:
    """Refuse a stage whose pseudo labels are not all there when it begins."""
    stage = stages[index]
    if ("pseudo" in stage.uses) != (stage.reads is not None):
        raise ConfigError(
            f"stage '{stage.name}': uses = {sorted(stage.uses)} and reads = {stage.reads}: expected 'pseudo' in uses "
            "where a generation is read, and only there"
        )
    if stage.reads is None:
        return
    made = _made(stages[:index])
    if not 1 <= stage.reads <= made:
        raise ConfigError(
            f"stage '{stage.name}' reads generation {stage.reads} of pseudo labels, but the stages before it make "
            f"{made}: expected 1 to {made}" if made else
            f"stage '{stage.name}' reads pseudo labels, but no stage before it relabels"
        )  # fmt: skip
    for part in range(part_count(stages)):
        if stage.pool in ("all", part) and _source(stages, part, stage.reads) is None:
            raise ConfigError(
                f"stage '{stage.name}' reads generation {stage.reads} of pool {stage.pool!r}, but part {part} is not "
                "relabelled up to then: let an earlier stage relabel it"
            )


def _made(stages: Sequence[Stage]) -> int:
    """Return the number of generations that stages make."""
    return sum(stage.relabel is not None for stage in stages)


def _source(stages: Sequence[Stage], part: int, generation: int) -> int | None:
    """Return the newest generation, up to one, in which a part was relabelled."""
    made = [stage.relabel for stage in stages if stage.relabel is not None][:generation]
    return max((number for number, relabelled in enumerate(made, 1) if relabelled in ("all", part)), default=None)


@contextmanager
def _evaluating(method: Method) -> Iterator[None]:
    """Put a method in evaluation mode; give every module its own mode back at the end."""
    modes = {module: module.training for module in method.modules()}
    method.eval()
    try:
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode
