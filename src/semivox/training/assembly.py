"""Assembly: a run, not on disk yet, from a data folder, a split, a plan and a config."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from semivox.config.keys import Config, StageConfig, resolve_config, validated
from semivox.config.toml import flatten, nest
from semivox.data.checking import check_pool
from semivox.data.dataset import Dataset, read_dataset
from semivox.data.faults import Fault
from semivox.data.listing import unlisted_fault
from semivox.data.pictures import is_picture
from semivox.data.splitting import Split, training_split
from semivox.errors import ConfigError, DatasetError
from semivox.methods import OwnMethod, load_own, method_class, own_method, shipped_module
from semivox.methods.base import MethodConfig
from semivox.planning.capacity import chosen_device, free_disk, memory_warnings
from semivox.planning.costs import Device
from semivox.planning.plan import fingerprint, make_plan, make_recipe
from semivox.runs.building import make_method_config, module_of
from semivox.runs.folder import RunFolder
from semivox.training.first_weights import FirstWeights, first_weights, refuse_another_net
from semivox.training.relabelling import check_stages, part_count
from semivox.training.request import Request
from semivox.training.resuming import completed
from semivox.types import Stage


class Draft(NamedTuple):
    """A run and what it is trained on.

    Attributes:
        run: as it will be, or is, on disk.
        dataset: where its cases are, sealed: with the labels that it trains on and no other.
        lists: which of them it sees.
        notes: what does not stop it and should be known.
        own: the file of its method, where the run is new and semivox does not ship the method.
        first: the nets that it begins from, where it does not begin anew.
    """

    run: RunFolder
    dataset: Dataset
    lists: Split
    notes: tuple[str, ...] = ()
    own: OwnMethod | None = None
    first: FirstWeights | None = None


def draft_run(request: Request, output: Path) -> Draft:
    """Return a new run, which will lie in `output`.

    Raises:
        DatasetError, ConfigError, UnknownMethodError, MethodError, GeometryError: with what to do.
        RunError: the run to begin from has another net, or was trained on what is held out.
    """
    own = request.own
    module = load_own(own) if own else None
    dataset = read_dataset(request.data, unlabelled=request.unlabelled)
    lists = training_split(dataset, request.split)
    dataset = dataset.sealed(lists.labelled)
    notes = [*_checked_pool(dataset, lists), *_unseen_copies(lists)]
    values, given = request.values, request.given
    validated(Config, values, where="--set")
    named = request.method_name or _named(values) or _named(given)
    name = named or ("averaged_match" if lists.unlabelled else "supervised")
    notes = [*_unasked(named, lists), *map(str, unlisted_fault(dataset.unlisted)), *notes]
    module = module or shipped_module(name)  # a config is data: only --method names a file that then runs
    _refuse_unknown_tables(given, name)
    first = first_weights(request.start, lists) if request.start else None
    began = dict(first.values) if first else {}
    found = fingerprint(dataset, lists)
    layers: list[tuple[str, Mapping[str, Any]]] = [
        ("data", {"slice_axis": found.slice_axis, "method": {"name": name}}),
    ]
    place = chosen_device(request.device if request.device == "cpu" else "auto")
    if not request.config:
        plan = make_plan(
            found,
            method=name,
            device=place,
            labelled=len(lists.labelled),
            unlabelled=len(lists.unlabelled),
            needs=method_class(module).needs,
            fixed=nest(flatten(began) | flatten(values)),
            disk=free_disk(request.cache_folder),
        )
        layers.append(("plan", plan.values))
        notes += plan.warnings
    layers += [(f"--start {request.start}", began)] if first else []
    layers += [(request.config or "config", request.given_for(name)), ("--set", values)]
    if request.method:
        layers.append(("--method", {"method": {"name": name} | ({"sha256": own.digest} if own else {})}))
    resolved, sources = resolve_config(layers)
    resolved = completed(resolved)
    if request.config:
        notes += _memory_warnings(resolved, dataset, place)
    if first:
        refuse_another_net(resolved, _circumstances(dataset, name), first)
    facts = {
        "unlabelled": str(request.unlabelled.resolve()) if request.unlabelled else None,
        "recipe": make_recipe(dataset, lists, resolved, found).to_json(),
        "split": lists.digest,
        "sources": sources,
        **_circumstances(dataset, name),
    }
    return Draft(RunFolder(output, resolved, facts), dataset, lists, tuple(dict.fromkeys(notes)), own, first)


def resolve_stages(config: Config, method_config: MethodConfig) -> tuple[Stage, ...]:
    """Return a method's stages with every number set: from ``stages.NAME.*``, the method, or the flat keys.

    Raises:
        ConfigError: ``stages`` names a stage that the method does not have, or its stages cannot follow each other.
    """
    stages = method_class(module_of(config)).stages(method_config)
    check_stages(stages)
    unknown = set(config.stages) - {stage.name for stage in stages}
    if unknown:
        names = ", ".join(stage.name for stage in stages)
        raise ConfigError(f"key 'stages.{min(unknown)}': {config.method_name} has the stages {names}")

    ends = [round(config.steps * sum(stage.share or 0 for stage in stages[: i + 1])) for i in range(len(stages))]
    shares = {stage.name: max(1, end - start) for stage, start, end in zip(stages, [0, *ends], ends, strict=False)}

    def number(key: str, stage: Stage) -> int:
        own = getattr(config.stages.get(stage.name, StageConfig()), key)
        share = shares[stage.name] if key == "steps" and stage.share else None
        values = (own, getattr(stage, key), share, getattr(config, key))
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


def refuse_few_unlabelled(config: Config, stages: Sequence[Stage], lists: Split) -> None:
    """Refuse stages that draw on unlabelled scans, or parts of them, that the split does not have.

    Raises:
        DatasetError: it has too few.
    """
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


def _checked_pool(dataset: Dataset, lists: Split) -> list[str]:
    """Return the warnings about the files of the pool, as one note; an error is refused."""
    faults = check_pool(dataset, lists)
    errors = [fault for fault in faults if fault.severity == "error"]
    if errors:
        raise DatasetError(_first_of(errors))
    return [_first_of(faults)] if faults else []


def _first_of(faults: Sequence[Fault]) -> str:
    more = f" (and {len(faults) - 1} more: run `semivox check`)" if len(faults) > 1 else ""
    return f"{faults[0]}{more}"


def _unseen_copies(lists: Split) -> list[str]:
    """Return a note where the split does not hold what copies of its held-out scans are recognised by."""
    if set(lists.held_out) <= set(lists.hashes):
        return []
    return [
        "copies of held-out scans in the pool cannot be recognised, since the split has no hashes of them: make it "
        "with `semivox split`, or run `semivox check --split`"
    ]


def _unasked(named: str | None, lists: Split) -> list[str]:
    """Return a note where no method was named and the usual one has nothing to learn from."""
    if named is not None or lists.unlabelled:
        return []
    return [
        "the method is supervised, since nothing is unlabelled: averaged_match and the other methods need scans "
        "without labels, in imagesTr, imagesUn or --unlabelled DIR"
    ]


def _refuse_unknown_tables(given: Mapping[str, Any], name: str) -> None:
    """Refuse a table for a method that does not exist, which would be passed over silently; none of them is run."""
    tables = given.get("methods", {})
    for known in tables if isinstance(tables, Mapping) else ():  # another kind is refused where it is read
        if known != name:
            own_method(known)


def _named(values: Mapping[str, Any]) -> str | None:
    method = values.get("method", {})
    if not isinstance(method, Mapping):
        raise ConfigError(f"key 'method' is a table of the method's fields, found {method!r}: set method.name")
    name = method.get("name")
    if not isinstance(name, str | None):
        raise ConfigError(f"key 'method.name' is the name of a method, found {name!r}: see `semivox methods`")
    return name


def _memory_warnings(config: Config, dataset: Dataset, place: Device) -> list[str]:
    """Return a warning where the device has less memory than a config that no plan made asks for."""
    stages = resolve_stages(config, make_method_config(config))
    return memory_warnings(
        config,
        channels=len(dataset.channels),
        classes=len(dataset.classes),
        labelled=max(stage.batch_labelled or 0 for stage in stages),
        unlabelled=max(stage.batch_unlabelled or 0 for stage in stages),
        device=place,
    )


def _circumstances(dataset: Dataset, method: str) -> dict[str, Any]:
    """Return which method is trained on what, by which command."""
    return {
        "method": method,
        "data": str(dataset.folder.resolve()),
        "channels": list(dataset.channels),
        "classes": list(dataset.classes),
        **({"segment_codes": dataset.segment_codes} if dataset.segment_codes else {}),
        "pictures": any(is_picture(case.images[0]) for case in dataset.cases.values()),
        "command": " ".join(["semivox", *sys.argv[1:]]),
    }
