"""Training: a folder of scans and a method in, a run folder out."""

import math
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from lightning_fabric import Fabric

from semivox.config.keys import Config
from semivox.data.caching import cache_size
from semivox.data.preparation import PreparedCase, prepare_dataset
from semivox.data.recipe import Recipe
from semivox.data.splitting import Split, write_split
from semivox.data.stream import Stream
from semivox.files import locked_folder, remove_unfinished
from semivox.methods import OwnMethod, load_own, method_class
from semivox.methods.base import Method
from semivox.runs.building import make_fabric, make_method, make_method_config, module_of
from semivox.runs.folder import RunFolder, create_run, open_run, refuse_run
from semivox.runs.trust import keep_method
from semivox.tracking.listening import tracked
from semivox.tracking.trackers import refuse_tracker
from semivox.training.assembly import Draft, draft_run, refuse_few_unlabelled, resolve_stages
from semivox.training.first_weights import give_weights, keep_weights, kept_weights, refuse_another_start
from semivox.training.loop import Loop, Row
from semivox.training.opening import opening
from semivox.training.provenance import changes_since, circumstances
from semivox.training.ranks import together
from semivox.training.relabelling import Relabelling
from semivox.training.request import Request, make_request
from semivox.training.resuming import (
    contents,
    notes_on,
    readmit_method,
    refuse_other_config,
    refuse_other_contents,
    refuse_other_precision,
    reopen,
)
from semivox.types import Stage


@dataclass(frozen=True)
class Outcome:
    """What became of a training.

    Attributes:
        run: the run folder.
        finished: False when the time budget or a signal stopped it; ``resume=True`` goes on.
        interrupted: it was a signal.
        rank: number of this process among those that trained together; 0 speaks for all.
    """

    run: Path
    finished: bool
    interrupted: bool = False
    rank: int = 0


def train(
    data: Path | str,
    *,
    output: Path | str,
    method: Path | str | OwnMethod | None = None,
    split: Path | str | Split | None = None,
    config: Path | str | None = None,
    settings: Sequence[str] | Mapping[str, Any] = (),
    start: Path | str | None = None,
    resume: bool = False,
    trust: bool = False,
    seconds: float | None = None,
    unlabelled: Path | str | None = None,
    cache: Path | str | None = None,
    device: str = "auto",
    track: str | None = None,
    on_start: Callable[[Mapping[str, str]], None] | None = None,
    on_row: Callable[[Row, int], None] | None = None,
    on_prepared: Callable[[str, int, int], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> Outcome:
    """Train a method and leave a self-contained run folder.

    Args:
        data: nnU-Net or Medical Decathlon folder.
        output: the run folder to make, or to go on with when `resume` is set.
        method: name of a method, or the file of one's own (a path, or the dotted name of its module); by default
            averaged_match, or supervised where nothing is unlabelled.
        split: lists of cases; by default every label is used and every other scan is unlabelled.
        config: name of a shipped config or path of a TOML file; by default the plan.
        settings: ``key=value`` words, or nested values, that win over the config.
        start: run folder whose nets the run begins from, where both have the same net; its split must not have trained
            on labels of what is held out here. Without a config, net, grid and patch are those of that run.
        resume: go on from the last checkpoint of `output`; with none, start.
        trust: let a run that goes on run its own copy of a method that semivox does not ship.
        seconds: time budget, preparation included; the run stops behind a checkpoint.
        unlabelled: folder of further unlabelled scans.
        cache: folder of prepared arrays.
        device: "auto", "cpu" or "cuda".
        track: "tensorboard" or "mlflow": the log also in its files in the run folder; needs the extra of that name.
        on_start: called first, with what the training sees and where it goes: texts by their name.
        on_row: called with every row of the log and the steps of all stages.
        on_prepared: called with (case, done, all) while scans are prepared.
        on_note: called, before that, with a sentence on everything that does not stop a new run and should be known.

    Raises:
        DatasetError, ConfigError, UnknownMethodError, MethodError, GeometryError, RunError: with what to do.
        MissingExtraError: the tracker's package is not installed.
    """
    deadline = math.inf if seconds is None else time.monotonic() + seconds
    output = Path(output)
    refuse_tracker(track)
    request = make_request(data, method, split, config, settings, unlabelled, cache, device, start)
    goes_on = resume and (output / "run.json").exists()
    with together():  # no process makes the run before all have seen that it is not there
        draft = _reopened(output, request, trust=trust) if goes_on else _drafted(output, request)
    fabric = make_fabric(draft.run.config, device)
    # plans differ where GPUs differ in free memory, and a method's file may be edited between two reads
    run, own = fabric.broadcast((draft.run, draft.own))
    draft = draft._replace(run=run, own=own)
    speaks = fabric.is_global_zero
    with ExitStack() as held:
        with together():
            if own:
                load_own(own)
            stages = resolve_stages(run.config, make_method_config(run.config))
            refuse_few_unlabelled(run.config, stages, draft.lists)
            first = make_method(run.config, run.facts, stage=stages[0].name)  # its config may be refused
            begun = [give_weights(first, draft.first)] if draft.first else []
            if speaks and on_start:
                on_start(opening(draft, stages, processes=fabric.world_size))
            _say([*draft.notes, *([] if goes_on else begun)], on_note if speaks else None)
            if speaks:
                held.enter_context(locked_folder(output, doing="trained into"))
                remove_unfinished(output, age=-1)  # the run is locked: they are of killed processes
                if not goes_on:
                    refuse_run(output)  # again: another process may have made one since
        cases = _prepared_in_turn(fabric, draft, request.cache_folder, on_prepared)
        with together():
            if goes_on:
                refuse_other_contents(run, cases)
            elif speaks:
                draft = draft._replace(run=_written(draft, cases))
        with together():
            on_row = held.enter_context(tracked(track if speaks else None, draft.run, on_row, on_note))
            loop = _make_loop(fabric, first, draft, stages, cases, deadline=deadline, on_row=on_row)
            state = loop.rewind()
        finished = loop.train(state)
    return Outcome(output, finished, interrupted=loop.interrupted.is_set(), rank=fabric.global_rank)


def _drafted(output: Path, request: Request) -> Draft:
    """Return a new run, which says where it is trained."""
    refuse_run(output)
    draft = draft_run(request, output)
    run = draft.run
    now = {"started": datetime.now(UTC).isoformat(timespec="seconds"), **circumstances(run.config, request.device)}
    return draft._replace(run=replace(run, facts={**run.facts, **now}))


def _reopened(output: Path, request: Request, *, trust: bool) -> Draft:
    """Return a run that goes on, with a note on everything that is no longer as it was."""
    run = open_run(output)
    readmit_method(run, request, trust=trust)
    refuse_other_config(run, request)
    refuse_another_start(run, request.start)
    now = circumstances(run.config, request.device)
    refuse_other_precision(run, now["precision"])
    notes = (*notes_on(run), *changes_since(run, now))
    return Draft(run, *reopen(run, request), notes, first=kept_weights(run))


def prepare(
    data: Path | str,
    *,
    method: Path | str | None = None,
    split: Path | str | Split | None = None,
    config: Path | str | None = None,
    settings: Sequence[str] | Mapping[str, Any] = (),
    unlabelled: Path | str | None = None,
    cache: Path | str | None = None,
    on_prepared: Callable[[str, int, int], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> tuple[Path, int]:
    """Fill the cache with what `train` would need of the same arguments.

    Returns:
        The cache folder and its size in bytes.
    """
    request = make_request(data, method, split, config, settings, unlabelled, cache)
    draft = draft_run(request, Path())
    _say(draft.notes, on_note)
    _prepared(draft, request.cache_folder, on_prepared)
    return request.cache_folder, cache_size(request.cache_folder)


def make_stream(
    config: Config,
    stage: Stage,
    cases: Mapping[str, PreparedCase],
    lists: Split,
    needs: frozenset[str],
    rank: int,
    *,
    relabelling: Relabelling | None = None,
    pin: bool = False,
) -> Stream:
    """Return the crops of a stage: unlabelled ones from its cases of the pool, with its pseudo labels.

    Without `relabelling`, they come from the whole pool, without pseudo labels. `pin` batches for a GPU.

    Raises:
        RunError: a pseudo label is missing.
    """
    pool, pseudo = relabelling.given(stage) if relabelling else ([cases[name] for name in lists.unlabelled], None)
    return Stream(
        [cases[name] for name in lists.labelled],
        pool,
        patch=config.patch,
        batch_labelled=stage.batch_labelled or 0,
        batch_unlabelled=stage.batch_unlabelled or 0,
        seed=config.seed,
        stage=stage.name,
        rank=rank,
        dims=config.dims,
        slice_axis=config.slice_axis,
        foreground=config.foreground,
        needs=needs,
        pseudo=pseudo,
        pin=pin,
    )


def _say(notes: Sequence[str], on_note: Callable[[str], None] | None) -> None:
    if on_note:
        for note in notes:
            on_note(note)


def _needs(config: Config) -> frozenset[str]:
    return method_class(module_of(config)).needs


def _prepared(
    draft: Draft, cache: Path, on_prepared: Callable[[str, int, int], None] | None
) -> dict[str, PreparedCase]:
    recipe, needs = Recipe.from_json(draft.run.facts["recipe"]), _needs(draft.run.config)
    return prepare_dataset(draft.dataset, draft.lists, recipe, cache, targets=needs, progress=on_prepared)


def _prepared_in_turn(
    fabric: Fabric, draft: Draft, cache: Path, on_prepared: Callable[[str, int, int], None] | None
) -> dict[str, PreparedCase]:
    """Return the prepared cases; one process of each machine makes them, the others then find them made."""
    cases: dict[str, PreparedCase] = {}
    for turn in (True, False):
        with together():
            if (fabric.local_rank == 0) == turn:
                cases = _prepared(draft, cache, on_prepared if fabric.is_global_zero else None)
    return cases


def _written(draft: Draft, cases: Mapping[str, PreparedCase]) -> RunFolder:
    """Return the run, which is on disk from now on."""
    run = draft.run
    write_split(draft.lists, run.split_file)
    if draft.own:
        keep_method(run.path, draft.own)
    start = {"start": keep_weights(draft.first, run.path)} if draft.first else {}
    facts = {**run.facts, **contents(cases), **start}
    return create_run(run.path, config=run.config, sources=run.facts["sources"], facts=facts)


def _make_loop(
    fabric: Fabric,
    first: Method,
    draft: Draft,
    stages: tuple[Stage, ...],
    cases: Mapping[str, PreparedCase],
    *,
    deadline: float,
    on_row: Callable[[Row, int], None] | None,
) -> Loop:
    run, lists = draft.run, draft.lists

    def fresh(stage: str) -> Method:
        method = make_method(run.config, run.facts, stage=stage)
        if draft.first:  # what begins anew begins where the run did
            give_weights(method, draft.first)
        return method

    relabelling = Relabelling(run.config, stages, [cases[name] for name in lists.unlabelled], run.path / "pseudo")
    pin = fabric.device.type == "cuda"
    return Loop(
        fabric,
        first,
        fresh=fresh,
        stages=stages,
        make_stream=lambda stage: make_stream(
            run.config, stage, cases, lists, _needs(run.config), fabric.global_rank, relabelling=relabelling, pin=pin
        ),
        relabelling=relabelling,
        run=run,
        deadline=deadline,
        on_row=on_row,
    )
