"""The record beside masks, prediction.json: which weights and options made them, of which scans.

Several predictions may write into one folder at once, such as an array's jobs: each changes the record in its turn.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from semivox.data.patients import patient_of
from semivox.data.splitting import read_split
from semivox.errors import ConfigError, RunError
from semivox.files import file_digest, in_turn, read_object, write_atomic
from semivox.prediction.exposure import Exposure
from semivox.prediction.predictor import Options, Predictor

NAME = "prediction.json"
MAPS = ("probabilities", "uncertainty")
"""What may lie beside a mask, as CASE_KIND.nii.gz."""


def make_record(
    predictors: Sequence[Predictor], found: Mapping[str, tuple[Path, ...]], options: Options | None, exposure: Exposure
) -> dict[str, Any]:
    """Return what prediction.json says: all that tells where masks come from."""
    first = predictors[0].run
    split = read_split(first.split_file)
    return {
        "run": [str(p.run.path.resolve()) for p in predictors],
        "method": first.facts["method"],
        "group": first.config.label or first.facts["method"],
        "seed": first.config.seed,
        "split": first.facts["split"],
        "patients": split.patients,
        "labelled": len({patient_of(case, split.patients, unknown=case) for case in split.labelled}),
        "draw": split.seed or 0,
        "weights": [file_digest(p.checkpoint) for p in predictors],
        "step": [p.step for p in predictors],
        "steps": [p.steps for p in predictors],
        "finished": all(p.finished for p in predictors),
        "options": vars(options or Options()),
        "trained_on": {case: kind for case in found if (kind := exposure.of(case))},
        "images": {case: [str(path.resolve()) for path in files] for case, files in found.items()},
        "start": _start(first.facts),
        "command": " ".join(["semivox", *sys.argv[1:]]),
        "train_command": first.facts["command"],
        "config": first.config.model_dump(mode="json"),
        "versions": first.facts["versions"],
    }


def _start(facts: Mapping[str, Any]) -> str | None:
    """Return which kind of run the first one began from; None where it began anew."""
    found = facts.get("start")
    return f"{found['method']} of {found['labelled']} labelled" if found else None


def write_record(targets: Mapping[str, Path], output: Path, record: dict[str, Any], *, overwrite: bool) -> None:
    """Write prediction.json; what it said of further masks of the same weights and options is kept.

    With `overwrite`, the masks that will be made anew and their maps go first: what a stop or a failure left behind
    would stand under weights that did not make it.

    Raises:
        ConfigError: masks of other weights, options or scans would stay beside the new ones, under one record.
        RunError: the record that is there cannot be read, or the folder cannot be written.
    """
    _make_folder(output)
    with in_turn(output):
        _write_record(targets, output / NAME, record, overwrite=overwrite)


def _write_record(targets: Mapping[str, Path], file: Path, record: dict[str, Any], *, overwrite: bool) -> None:
    before = _read_record(file)
    images = before["images"] | record["images"]
    foreign = [path for case, path in targets.items() if case not in before["images"] and path.exists()]
    if foreign and not overwrite:
        raise ConfigError(
            f"{foreign[0]} was not made by `semivox predict`, or {file.name} was lost: name another folder with -o, or "
            "replace it with --overwrite"
        )
    for case, path in targets.items():
        source = before["images"].get(case, record["images"][case])
        if source != record["images"][case] and path.exists() and not overwrite:
            raise ConfigError(
                f"{path} is the mask of {source}, found another scan of that name: name another folder with -o, or "
                "replace it with --overwrite"
            )
    if _made_by(before, record) != _made_by(record, record):
        if not overwrite or images.keys() != record["images"].keys():
            raise ConfigError(
                f"{file.parent} holds masks of other weights or options: name another folder with -o, or make the same "
                "scans' masks anew with --overwrite"
            )
        images = record["images"]
    known = before["images"].keys() if "trained_on" in before else set()  # by content, which is more than by name
    seen = {case: kind for case, kind in record["trained_on"].items() if case not in known}
    seen |= {case: kind for case, kind in before.get("trained_on", {}).items() if case in images}
    _write(record | {"images": images, "trained_on": seen}, file)
    if overwrite:
        maps = [f"{case}_{kind}" for case in targets for kind in MAPS]
        gone = [file.with_name(f"{name}.nii.gz") for name in maps if name not in images]
        for path in (*targets.values(), *gone):
            path.unlink(missing_ok=True)


def _made_by(record: Mapping[str, Any], otherwise: Mapping[str, Any]) -> list[Any]:
    """Return what decides about a mask's voxels: weights, options, and how the run's config predicts.

    What a record of before does not say is taken from `otherwise`.
    """
    config = record.get("config", otherwise["config"])
    windows = config.get("predict") if isinstance(config, dict) else None
    if isinstance(windows, dict):
        windows = {key: value for key, value in windows.items() if key != "batch"}
    return [record.get("weights", otherwise["weights"]), record.get("options", otherwise["options"]), windows]


def note_training(case: str, kind: str, output: Path) -> None:
    """Say in prediction.json how the weights' training saw a case: "labelled", "unlabelled" or "" for not at all.

    Raises:
        RunError: the record cannot be read or written.
    """
    with in_turn(output):
        record = _read_record(output / NAME)
        seen = record.get("trained_on") or {}
        if seen.get(case, "") != kind:
            record["trained_on"] = {name: own for name, own in (seen | {case: kind}).items() if own}
            _write(record, output / NAME)


def drop_from_record(cases: Sequence[str], output: Path) -> None:
    """Take cases without a mask out of prediction.json; a record of nothing goes.

    Raises:
        RunError: the record cannot be read or written.
    """
    if not cases:
        return
    file = output / NAME
    with in_turn(output):
        record = _read_record(file)
        record["images"] = {case: files for case, files in record["images"].items() if case not in cases}
        if record["images"]:
            _write(record, file)
        else:
            file.unlink(missing_ok=True)


def _write(record: Mapping[str, Any], file: Path) -> None:
    write_atomic(file, lambda handle: handle.write(json.dumps(record, indent=1).encode()))


def _make_folder(output: Path) -> None:
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"cannot use {output} for masks ({error.strerror}): name another folder with -o") from error


def _read_record(file: Path) -> dict[str, Any]:
    """Return what prediction.json says; without the file, that there are no masks."""
    hint = "remove it with its masks, or name another folder with -o"
    try:
        found = read_object(file, advice=hint)
    except FileNotFoundError:
        return {"images": {}}
    if not isinstance(found.get("images"), dict) or not {"weights", "options"} <= found.keys():
        raise RunError(f"{file}: found no record of `semivox predict`, expected images, weights and options: {hint}")
    return found
