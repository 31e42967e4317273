"""Going on with a run: refused where data, split or config are not those that it was started with."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from semivox.config.keys import Config, resolve_config
from semivox.config.toml import flatten
from semivox.data.dataset import Dataset, read_dataset
from semivox.data.preparation import PreparedCase
from semivox.data.splitting import Split, check_split, read_split, training_split
from semivox.errors import RunError
from semivox.methods import load_own
from semivox.runs.building import make_method_config
from semivox.runs.checkpoint import whole_number
from semivox.runs.folder import RunFolder
from semivox.runs.trust import admit_method
from semivox.training.request import Request
from semivox.types import Stage


def reopen(run: RunFolder, request: Request) -> tuple[Dataset, Split]:
    """Return the data set, sealed, and the split of a run that goes on.

    Raises:
        DatasetError: the data set cannot be used, or lacks cases of the run.
        RunError: its channels or classes, or the split, are not those of the run.
    """
    extra = request.unlabelled or (Path(named) if (named := run.facts.get("unlabelled")) else None)
    dataset = read_dataset(request.data, unlabelled=extra)
    lists = read_split(run.split_file)
    check_split(lists, dataset, sealed=False)
    recipe = run.facts["recipe"]
    _refuse(run, "channels", run.facts["channels"], list(dataset.channels))
    _refuse(run, "classes", run.facts["classes"], list(dataset.classes))
    _refuse(run, "label values", list(recipe["label_values"]), list(dataset.label_values))
    _refuse(run, "ignore label", recipe["ignore"], dataset.ignore)
    _refuse(run, "split (digest)", run.facts["split"], lists.digest)
    if request.split is not None:
        _refuse(run, "split (digest)", run.facts["split"], training_split(dataset, request.split).digest)
    return dataset.sealed(lists.labelled), lists


def readmit_method(run: RunFolder, request: Request, *, trust: bool) -> None:
    """Load the method of a run that goes on: the file that is given again, or else the run's own copy.

    Raises:
        RunError: another method is given, or the same file with another content; or the copy may not run, see
            `admit_method`.
    """
    own, digest = request.own, run.config.method_digest
    if own and digest:
        _refuse(run, "method.sha256", digest, own.digest)
        load_own(own)  # what a user names is the user's own word
    elif request.method:
        _refuse(run, "method", run.config.method_name, request.method_name)
    admit_method(run, trust=trust)


def refuse_other_config(run: RunFolder, request: Request) -> None:
    """Refuse values that would make another run of it; the same command with ``--resume`` passes.

    Raises:
        ConfigError: a value that no run can have.
        RunError: a value is not the run's.
    """
    given = request.given_for(run.config.method_name)
    layers = [("run", run.config.model_dump()), (request.config or "config", given), ("--set", request.values)]
    now, _ = resolve_config(layers)
    known = flatten(completed(run.config).model_dump(mode="json"))  # fields that came since have their defaults
    for key, value in flatten(completed(now).model_dump(mode="json")).items():
        _refuse(run, key, known.get(key), value)


def contents(cases: Mapping[str, PreparedCase]) -> dict[str, dict[str, str]]:
    """Return what run.json says of the prepared cases: hashes of the scans and of the labels that training reads."""
    labels = {name: case.label_content for name, case in cases.items() if case.label_content is not None}
    return {"scans": {name: case.content for name, case in cases.items()}, "labels": labels}


def refuse_other_contents(run: RunFolder, cases: Mapping[str, PreparedCase]) -> None:
    """Refuse scans that were replaced, and labels that were edited, since the run started.

    Raises:
        RunError: a scan or a label has other voxels.
    """
    now = contents(cases)
    for kind, what in (("scans", "scan"), ("labels", "label")):
        for name, content in run.facts.get(kind, {}).items():  # runs of before have no labels there
            _refuse(run, f"content of the {what} '{name}'", content, now[kind].get(name))


def refuse_other_precision(run: RunFolder, precision: str) -> None:
    """Refuse a device on which the run would go on in another precision, as "auto" would let it.

    Raises:
        RunError: it was started in another one.
    """
    known = run.facts.get("precision", precision)
    if known != precision:
        where = "--device cpu, or on the GPU it was started on" if known == "32" else "on a GPU as it was started on"
        place = run.facts.get("gpu") or run.facts.get("device")
        raise RunError(
            f"{run.path} was started in precision {known} on {place}, here it would go on in {precision}: "
            f"resume it with {where}, or start a new run with another -o"
        )


def refuse_no_place(state: Mapping[str, Any], path: Path, stages: Sequence[Stage]) -> None:
    """Refuse a checkpoint whose numbers are no place in a run's resolved stages.

    Raises:
        RunError: a number is missing, or beyond the steps of its stage or of all.
    """
    index, step = whole_number(state, "stage", path), whole_number(state, "step", path, low=1)
    total_step = whole_number(state, "total_step", path, low=1)
    if index >= len(stages):  # the method has changed since, as the places of the pseudo labels will say
        return
    steps = [stage.steps or 0 for stage in stages]
    total = state.get("steps", sum(steps))
    if step > steps[index] or sum(steps[:index]) + step != total_step or total != sum(steps):
        raise RunError(
            f"checkpoint {path} is of step {step} in stage {index}, {total_step} of {total} in all: no place in the "
            f"{sum(steps)} steps that its config asks for; restore config.toml, or delete the checkpoint"
        )


def notes_on(run: RunFolder) -> tuple[str, ...]:
    """Return what a run of before does not say, and so cannot be compared."""
    unsaid = {"scans": "scans", "labels": "labels", "precision": "precision and device"}
    lacking = [what for key, what in unsaid.items() if key not in run.facts]
    notes = []
    if lacking:
        notes += [f"{run.path} does not say with which {' and '.join(lacking)} it was started: no change is noticed"]
    fields = {key: value for key, value in completed(run.config).method.items() if value is not None}
    if new := sorted(fields.keys() - run.config.method.keys()):
        values = ", ".join(f"method.{key} = {fields[key]}" for key in new)
        notes += [f"{run.path} was started before its method had these fields, and goes on with {values}"]
    return tuple(notes)


def completed(config: Config) -> Config:
    """Return the config with every field of its method, checked.

    Raises:
        ConfigError: a field that the method does not have, or a value of the wrong kind.
    """
    fields = make_method_config(config).model_dump(mode="json")
    named = {key: value for key, value in config.method.items() if key in ("name", "sha256")}
    return config.model_copy(update={"method": named | fields})


def _refuse(run: RunFolder, what: str, known: object, found: object) -> None:
    if known != found:
        raise RunError(
            f"{run.path} was started with {what} = {known!r}, found {found!r}: a run goes on only as it was started; "
            "give it what it had, or start a new run with another -o"
        )
