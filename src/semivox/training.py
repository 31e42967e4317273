"""Training: a folder of scans and a method in, a run folder out."""

import platform
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from semivox.building import make_fabric, make_method, make_method_config
from semivox.config import Config, StageConfig, for_method, parse_settings, read_config, resolve_config, validated
from semivox.data.caching import cache_size, default_cache
from semivox.data.checking import check_pool
from semivox.data.dataset import Dataset, read_dataset
from semivox.data.preparation import PreparedCase, prepare_dataset
from semivox.data.recipe import Recipe
from semivox.data.splitting import Split, training_split, write_split
from semivox.data.stream import Stream
from semivox.errors import ConfigError, DatasetError
from semivox.loop import Loop, Row
from semivox.methods import method_class, method_module
from semivox.methods.base import Method, MethodConfig
from semivox.planning import fingerprint, make_plan, make_recipe
from semivox.relabelling import Relabelling, check_stages, part_count
from semivox.resuming import completed, refuse_other_config, refuse_other_scans, reopen
from semivox.run import RunFolder, create_run, open_run, refuse_run
from semivox.types import Stage


@dataclass(frozen=True)
class Outcome:
    """What became of a training.

    Attributes:
        run: the run folder.
        finished: False when the time budget or a signal stopped it; ``resume=True`` goes on.
        interrupted: it was a signal.
    """

    run: Path
    finished: bool
    interrupted: bool = False


def train(
    data: Path,
    *,
    output: Path,
    method: str | None = None,
    split: Path | Split | None = None,
    config: str | None = None,
    settings: Sequence[str] | Mapping[str, Any] = (),
    resume: bool = False,
    seconds: float | None = None,
    unlabelled: Path | None = None,
    cache: Path | None = None,
    device: str = "auto",
    on_row: Callable[[Row, int], None] | None = None,
    on_prepared: Callable[[str, int, int], None] | None = None,
) -> Outcome:
    """Train a method and leave a self-contained run folder.

    Args:
        data: nnU-Net or Medical Decathlon folder.
        output: the run folder to make, or to go on with when `resume` is set.
        method: name of a method or dotted name of a module; by default mean_teacher, or supervised where nothing is
            unlabelled.
        split: lists of cases; by default every label is used and every other scan is unlabelled.
        config: name of a shipped config or path of a TOML file; by default the plan.
        settings: ``key=value`` words, or nested values, that win over the config.
        resume: go on from the last checkpoint of `output`; with none, start.
        seconds: time budget; the run stops behind a checkpoint.
        unlabelled: folder of further unlabelled scans.
        cache: folder of prepared arrays.
        device: "auto", "cpu" or "cuda".
        on_row: called with every row of the log and the steps of all stages.
        on_prepared: called with (case, done, all) while scans are prepared.

    Raises:
        DatasetError, ConfigError, UnknownMethodError, GeometryError, RunError: with what to do.
    """
    if resume and (output / "run.json").exists():
        run = open_run(output)
        refuse_other_config(run, method=method, config=config, settings=settings)
        dataset, lists = reopen(run, data, split=split, unlabelled=unlabelled)
    else:
        refuse_run(output)
        dataset = read_dataset(data, unlabelled=unlabelled)
        lists = training_split(dataset, split)
        _refuse_faults(dataset, lists)
        run = _new_run(dataset, lists, output, method, config, settings, unlabelled, device)
    fabric = make_fabric(run.config, device)
    method_config = make_method_config(run.config)
    stages = resolve_stages(run.config, method_config)
    _refuse_few_unlabelled(run.config, stages, lists)

    def fresh(stage: str) -> Method:
        return make_method(run.config, run.facts, stage=stage)

    first = fresh(stages[0].name)  # before the scans are prepared, since its config may be refused
    recipe = Recipe.from_json(run.facts["recipe"])
    needs = method_class(method_module(run.config.method_name)).needs
    cases = prepare_dataset(dataset, lists, recipe, cache or default_cache(), targets=needs, progress=on_prepared)
    if fabric.is_global_zero and not run.path.joinpath("run.json").exists():
        write_split(lists, run.split_file)
        facts = {**run.facts, "scans": {name: case.content for name, case in cases.items()}}
        run = create_run(output, config=run.config, sources=run.facts["sources"], facts=facts)
    elif "scans" in run.facts:
        refuse_other_scans(run, cases)
    fabric.barrier()
    pool = [cases[name] for name in lists.unlabelled]
    relabelling = Relabelling(run.config, stages, pool, output / "pseudo")
    loop = Loop(
        fabric,
        first,
        fresh=fresh,
        stages=stages,
        make_stream=lambda stage: make_stream(
            run.config, stage, cases, lists, needs, fabric.global_rank, relabelling=relabelling
        ),
        relabelling=relabelling,
        run=run,
        seconds=seconds,
        on_row=on_row,
    )
    return Outcome(output, loop.train(), interrupted=loop.interrupted.is_set())


def prepare(
    data: Path,
    *,
    method: str | None = None,
    split: Path | Split | None = None,
    config: str | None = None,
    settings: Sequence[str] | Mapping[str, Any] = (),
    unlabelled: Path | None = None,
    cache: Path | None = None,
    on_prepared: Callable[[str, int, int], None] | None = None,
) -> tuple[Path, int]:
    """Fill the cache with what `train` would need of the same arguments.

    Returns:
        The cache folder and its size in bytes.
    """
    dataset = read_dataset(data, unlabelled=unlabelled)
    lists = training_split(dataset, split)
    _refuse_faults(dataset, lists)
    run = _new_run(dataset, lists, Path(), method, config, settings, unlabelled, "auto")
    folder = cache or default_cache()
    needs = method_class(method_module(run.config.method_name)).needs
    prepare_dataset(dataset, lists, Recipe.from_json(run.facts["recipe"]), folder, targets=needs, progress=on_prepared)
    return folder, cache_size(folder)


def resolve_stages(config: Config, method_config: MethodConfig) -> tuple[Stage, ...]:
    """Return a method's stages with every number set: from ``stages.NAME.*``, the method, or the flat keys.

    Raises:
        ConfigError: ``stages`` names a stage that the method does not have, or its stages cannot follow each other.
    """
    stages = method_class(method_module(config.method_name)).stages(method_config)
    check_stages(stages)
    unknown = set(config.stages) - {stage.name for stage in stages}
    if unknown:
        names = ", ".join(stage.name for stage in stages)
        raise ConfigError(f"key 'stages.{min(unknown)}': {config.method_name} has the stages {names}")

    def number(key: str, stage: Stage) -> int:
        own = getattr(config.stages.get(stage.name, StageConfig()), key)
        values = (own, getattr(stage, key), getattr(config, key))
        return next(value for value in values if value is not None)

    return tuple(
        replace(
            stage,
            steps=number("steps", stage),
            batch_labelled=number("batch_labelled", stage),
            batch_unlabelled=number("batch_unlabelled", stage),
        )
        for stage in stages
    )


def make_stream(
    config: Config,
    stage: Stage,
    cases: Mapping[str, PreparedCase],
    lists: Split,
    needs: frozenset[str],
    rank: int,
    *,
    relabelling: Relabelling | None = None,
) -> Stream:
    """Return the crops of a stage: unlabelled ones from its part of the pool, with its pseudo labels.

    Without `relabelling`, they come from the whole pool, without pseudo labels.

    Raises:
        RunError: a pseudo label is missing.
    """
    return Stream(
        [cases[name] for name in lists.labelled],
        relabelling.pool(stage.pool) if relabelling else [cases[name] for name in lists.unlabelled],
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
        pseudo=relabelling.labels(stage) if relabelling else None,
    )


def _refuse_faults(dataset: Dataset, lists: Split) -> None:
    faults = [fault for fault in check_pool(dataset, lists) if fault.severity == "error"]
    if faults:
        more = f" (and {len(faults) - 1} more: run `semivox check`)" if len(faults) > 1 else ""
        raise DatasetError(f"{faults[0]}{more}")


def _new_run(
    dataset: Dataset,
    lists: Split,
    output: Path,
    method: str | None,
    config: str | None,
    settings: Sequence[str] | Mapping[str, Any],
    unlabelled: Path | None,
    device: str,
) -> RunFolder:
    """Return a run that is not on disk yet."""
    given = read_config(config) if config else {}
    values = settings if isinstance(settings, Mapping) else parse_settings(settings)
    validated(Config, values, where="--set")
    name = method or _named(values) or _named(given) or ("mean_teacher" if lists.unlabelled else "supervised")
    tables = given.get("methods", {})
    given = for_method(given, name)
    for known in (name, *tables):
        method_module(known)  # a table for a method that does not exist would be passed over silently
    facts_of_pool = fingerprint(dataset, lists)
    from_data = {"slice_axis": facts_of_pool.slice_axis, "method": {"name": name}}
    layers: list[tuple[str, Mapping[str, Any]]] = [("data", from_data)]
    if not config:
        plan = make_plan(
            facts_of_pool,
            method=name,
            memory=None,
            device="cuda" if torch.cuda.is_available() and device != "cpu" else "cpu",
            labelled=len(lists.labelled),
            unlabelled=len(lists.unlabelled),
            fixed=values,
        )
        layers.append(("plan", plan.values))
    layers += [(config or "config", given), ("--set", values)]
    if method:
        layers.append(("--method", {"method": {"name": method}}))
    resolved, sources = resolve_config(layers)
    resolved = completed(resolved)
    facts = {
        "method": name,
        "data": str(dataset.folder.resolve()),
        "unlabelled": str(unlabelled.resolve()) if unlabelled else None,
        "channels": list(dataset.channels),
        "classes": list(dataset.classes),
        "recipe": make_recipe(dataset, lists, resolved, facts_of_pool).to_json(),
        "split": lists.digest,
        "sources": sources,
        "command": " ".join(["semivox", *sys.argv[1:]]),
        "versions": {"semivox": version("semivox"), "python": platform.python_version(), "torch": torch.__version__},
    }
    return RunFolder(output, resolved, facts)


def _named(values: Mapping[str, Any]) -> str | None:
    method = values.get("method", {})
    if not isinstance(method, Mapping):
        raise ConfigError(f"key 'method' is a table of the method's fields, found {method!r}: set method.name")
    return method.get("name")


def _refuse_few_unlabelled(config: Config, stages: Sequence[Stage], lists: Split) -> None:
    drawn = max(stage.batch_unlabelled or 0 for stage in stages)
    if drawn and not lists.unlabelled:
        raise DatasetError(
            f"{config.method_name} draws {drawn} unlabelled crops a step, but the split has no unlabelled scans: "
            "add some with --unlabelled DIR, or train --method supervised"
        )
    parts = part_count(stages)
    if 0 < len(lists.unlabelled) < parts:
        raise DatasetError(
            f"{config.method_name} cuts the unlabelled scans into {parts} parts, but the split has only "
            f"{len(lists.unlabelled)}: add some with --unlabelled DIR"
        )
