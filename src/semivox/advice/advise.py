"""Advice on a data folder: a small trial inside the label budget, before anybody trains for hours.

::

    OUT/advice.md        the advice for people; advice.json its numbers
        config.toml      the plan, or the config, by which all trainings go
        trial.json       what was decided: draws, folds, steps
        runs/            a cross-validation for each method and draw, and of the control with fewer labels
"""

import tomllib
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from semivox.advice.domain import look_at_scans
from semivox.advice.finding import FEWEST, WORTH, find
from semivox.advice.labels import more_labels
from semivox.advice.page import NUMBERS, PAGE, Advice, write_advice
from semivox.advice.trial import Trial
from semivox.benchmarking.cross_validation import SCORES, cross_validate
from semivox.config.keys import Config, read_config, resolve_config
from semivox.config.toml import flatten, value_text
from semivox.data.checking import check_pool
from semivox.data.dataset import Dataset, read_dataset
from semivox.data.faults import refuse_errors
from semivox.data.folds import fold_splits
from semivox.data.patients import patient_of
from semivox.data.splitting import Split, training_split
from semivox.errors import ConfigError, DatasetError
from semivox.files import locked_folder, refuse_no_folder, write_atomic
from semivox.planning.plan import plan_dataset
from semivox.scoring.comparison import summarise
from semivox.scoring.scores import Group, read_scores
from semivox.workflow.course import keep, kept, measured, refuse_foreign
from semivox.workflow.told import Told

METHOD, CONTROL = "averaged_match", "supervised"
DRAWS, FOLDS = 5, 3
"""With five draws an interval reaches half as far as with three (Student's t of 4 and of 2 degrees of freedom), which
at equal cost is worth more than five folds for three."""
CONFIG, TRIAL = "config.toml", "trial.json"


def advise(
    data: Path | str,
    *,
    output: Path | str,
    split: Path | str | Split | None = None,
    config: Path | str | None = None,
    folds: int | None = None,
    draws: int = DRAWS,
    seconds: float | None = None,
    cache: Path | str | None = None,
    device: str = "auto",
    told: Told | None = None,
) -> Advice:
    """Find out whether unlabelled scans help here, what more labels would bring, and which scans are unlike.

    The labelled cases are cross-validated with the default method and with `supervised`, at equal steps, and with
    `supervised` on about half of the labels. Killed, the same call goes on.

    Args:
        data: nnU-Net or Medical Decathlon folder.
        output: folder of everything, see above.
        split: lists of cases, by default all of them; what it holds out is left alone.
        config: a shipped config or a TOML file; else a plan is made.
        folds: parts of each cross-validation; None: 3, or 2 where there are but two labelled cases or patients.
        draws: how often they are dealt anew; fewer than 3 tell nothing, see docs/decisions/0008.
        seconds: that all of it may take; it is kept by choosing steps. Without, the config's steps.
        cache: folder of prepared arrays.
        device: "auto", "cpu" or "cuda".
        told: whom to tell what goes on.

    Returns:
        What is advised; it is in OUT/advice.md, too.

    Raises:
        DatasetError: the folder has faults, fewer than two labelled cases, or no scan without a label.
        ConfigError, GeometryError, RunError: with what to do.
        KeyboardInterrupt: a signal stopped a training behind a checkpoint; the same call goes on.
    """
    output, told = Path(output), told or Told()
    refuse_no_folder(output)
    refuse_foreign(output, {CONFIG, TRIAL, PAGE, NUMBERS, "runs"})
    dataset, lists = _pool(data, split)
    trial = _trial(dataset, lists, folds, draws)
    refuse_errors(check_pool(dataset.sealed(lists.labelled), lists))
    words: dict[str, Any] = {"data": Path(data), "cache": cache, "device": device}
    file = output / CONFIG
    text = "" if file.exists() else _config_text(data, lists, config, cache=cache, device=device)
    with locked_folder(output, doing="advise"):
        if text:
            write_atomic(file, lambda handle: handle.write(text.encode()))
        known = kept(output / TRIAL, _asked(trial), Trial)
        if known is None:
            known = _timed(trial, dataset, lists, file, seconds=seconds, words=words, told=told)
            keep(known, output / TRIAL)
        for line in _cost(known, lists):
            told.say(line)
        for place, own in known.trainings(output).items():
            _cross_validate(place, own, known, lists, file, words, told)
        return _advice(known, dataset, lists, output, device, told)


def outlined(
    data: Path | str,
    *,
    split: Path | str | Split | None = None,
    config: Path | str | None = None,
    folds: int | None = None,
    draws: int = DRAWS,
    seconds: float | None = None,
    device: str = "auto",
) -> str:
    """Return what `advise` would do, with its cost, in words; nothing is timed, trained or left on the disk.

    Raises:
        DatasetError, ConfigError: as `advise`.
    """
    dataset, lists = _pool(data, split)
    trial = _trial(dataset, lists, folds, draws)
    plan = plan_dataset(data, split=lists, method=METHOD, device=device, seconds=seconds and seconds / trial.count)
    steps = int(read_config(str(config)).get("steps", Config().steps)) if config else plan.values["steps"]
    minutes = steps * plan.seconds * trial.count / 60
    memory = "" if config else f"; a training takes {plan.memory / 1e9:.1f} GB of memory"
    cost = (
        f"{minutes:.0f} minutes of training{memory}, within a factor of four: `advise` times a few steps before it "
        "decides"
    )
    return "\n".join([*_cost(replace(trial, steps=steps), lists), cost])


def _pool(data: Path | str, split: Path | str | Split | None) -> tuple[Dataset, Split]:
    """Return the data set and its lists.

    Raises:
        DatasetError: fewer than two labelled cases, or no unlabelled one.
    """
    dataset = read_dataset(data)
    lists = training_split(dataset, split)
    count = _count(lists, dataset.machine_made)
    if count < 2 or not lists.unlabelled:
        raise DatasetError(
            f"{dataset.folder}: found {count} labelled cases or patients and {len(lists.unlabelled)} "
            "unlabelled scans, expected 2 and 1 at least: label another, or put scans without a label into imagesUn"
        )
    return dataset, lists


def _count(lists: Split, machine_made: Collection[str] = ()) -> int:
    """Return how many labelled cases, or patients where the split knows them, have no machine-made label."""
    made = {patient_of(case, lists.patients, unknown=case) for case in machine_made}
    return len({patient_of(case, lists.patients, unknown=case) for case in lists.labelled} - made)


def _trial(dataset: Dataset, lists: Split, folds: int | None, draws: int) -> Trial:
    """Return what is to be trained; its steps are not known yet."""
    count = _count(lists, dataset.machine_made)
    folds = min(FOLDS, count) if folds is None else folds
    if draws < 1:
        raise ConfigError(f"draws: found {draws}, expected 1 or more; 3 are needed for a verdict")
    parts = fold_splits(lists, folds, machine_made=dataset.machine_made)
    if any(not part.unlabelled for part in parts):
        raise DatasetError(
            "a part of the cross-validation leaves no unlabelled scan but those of the patients that it holds out: put "
            "unlabelled scans of other patients into imagesUn"
        )
    least = min(_count(part) for part in parts)
    return Trial(METHOD, CONTROL, lists.digest, draws, folds, count, labelled=least, fewer=least // 2)


def _asked(trial: Trial) -> dict[str, Any]:
    return {key: getattr(trial, key) for key in ("split", "draws", "folds")}


def _config_text(
    data: Path | str, lists: Split, config: Path | str | None, *, cache: Path | str | None, device: str
) -> str:
    """Return the config of all trainings as TOML: the one that is named, or a plan for the default method."""
    if config is None:
        return f"{plan_dataset(data, split=lists, method=METHOD, device=device, cache=cache).text()}\n"
    given = read_config(str(config))
    resolve_config([(str(config), {key: value for key, value in given.items() if key != "methods"})])
    flat = flatten(given)
    return "".join(f"{key} = {value_text(value, where=key)}\n" for key, value in flat.items())


def _timed(
    trial: Trial,
    dataset: Dataset,
    lists: Split,
    config: Path,
    *,
    seconds: float | None,
    words: Mapping[str, Any],
    told: Told,
) -> Trial:
    """Return the trial with its steps, and the minutes that it will take as timed on this machine."""
    told.say("timing a few steps of both methods")
    sizes = {case: sum(path.stat().st_size for path in dataset.case(case).images) for case in lists.unlabelled}
    middle = sorted(sizes, key=lambda case: sizes[case])[len(sizes) // 2]
    scan = tuple(dataset.case(middle).images)
    further = {**words, "split": lists}
    paces = {
        name: measured(name, scan, config=config, place=config.parent, words=further)
        for name in (trial.method, trial.control)
    }
    counts = len(lists.labelled), len(lists.pool)
    planned = int(tomllib.loads(config.read_text()).get("steps", Config().steps))
    steps = planned if seconds is None else trial.fitting_steps(seconds, paces, *counts)
    trial = replace(trial, steps=steps, planned=planned)
    expected = trial.expected_seconds(paces, *counts)
    if seconds is not None and expected > seconds:
        told.note(f"{expected / 60:.0f} minutes are needed for {steps} steps, the least, of {trial.count} trainings")
    return replace(trial, minutes=round(expected / 60, 1))


def _cost(trial: Trial, lists: Split) -> list[str]:
    """Return what is done and what it costs, in words."""
    count = trial.cases
    fewer = f", and {trial.control} with {trial.fewer} of {trial.labelled} labels" if trial.fewer else ""
    time = f", about {trial.minutes:.0f} minutes on this machine" if trial.minutes else ""
    lines = [
        f"{count} labelled cases, {len(lists.unlabelled)} unlabelled scans: {trial.method} and {trial.control}{fewer}, "
        f"each in {trial.draws} cross-validations of {trial.folds} folds: {trial.count} trainings of {trial.steps} "
        f"steps{time}"
    ]
    if count < FEWEST:
        lines += [f"with {count} labels no verdict can come out, since a paired test needs {FEWEST}: numbers alone"]
    elif trial.draws < 3:
        lines += ["no verdict can come out of fewer than 3 draws: numbers alone"]
    return lines


def _cross_validate(
    place: Path,
    own: Mapping[str, Any],
    trial: Trial,
    lists: Split,
    config: Path,
    words: Mapping[str, Any],
    told: Told,
) -> None:
    """Train a cross-validation; what is at its end stays as it is."""
    if (place / SCORES).exists():
        return
    told.say(f"cross-validating {place.name}")
    outcome = cross_validate(
        output=place,
        folds=trial.folds,
        labelled=own["labelled"],
        method=own["method"],
        split=replace(lists, seed=own["draw"]),
        config=config,
        settings={"steps": trial.steps, "seed": own["draw"]},
        resume=True,
        on_row=lambda row, total: told.row(place.name, row, total),
        on_prepared=lambda case, done, total: told.case("prepared", case, done, total),
        on_case=lambda case, done, total: told.case("predicted", case, done, total),
        on_note=told.note,
        **words,
    )
    if not outcome.finished:
        raise KeyboardInterrupt


def _advice(trial: Trial, dataset: Dataset, lists: Split, output: Path, device: str, told: Told) -> Advice:
    """Return what the finished cross-validations say, and write it."""
    groups: dict[tuple[str, int | None], list[Path]] = {}
    for place, own in trial.trainings(output).items():
        groups.setdefault((own["method"], own["labelled"]), []).append(place)
    found = {
        key: Group(_name(key, trial), tuple(read_scores(place / SCORES) for place in places), lists.patients)
        for key, places in groups.items()
    }
    control, method = found[trial.control, None], found[trial.method, None]
    finding = find(method, control)
    labels = None
    if trial.fewer:
        helps = finding.word == "helps"
        counts = (trial.fewer, trial.labelled)
        fewer = found[trial.control, trial.fewer]
        labels = more_labels(control, fewer, counts, method=method if helps else None, gain=WORTH)
    told.say(f"comparing {len(lists.pool)} scans")
    net = next(place for place, own in trial.trainings(output).items() if own["method"] == trial.control) / "fold_0"
    looks = look_at_scans(
        net, dataset, lists, device=device, on_case=lambda case, done, total: told.case("looked at", case, done, total)
    )
    scores = tuple(summarise(group, "dice") for group in found.values())
    advice = Advice(finding, labels, tuple(looks), scores, trial)
    write_advice(advice, output)
    return advice


def _name(key: tuple[str, int | None], trial: Trial) -> str:
    method, labelled = key
    return f"{method}, {trial.labelled if labelled is None else labelled} labels"
