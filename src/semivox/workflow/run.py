"""One command from a folder of scans to ranked masks: check, plan, train, predict, quality, a page to look at.

::

    OUT/data/            where scans and labels came as two folders: links to them; of DICOM: what was imported
        config.toml      the plan, by which all trainings go
        course.json      what was decided: steps, members, folds
        runs/            a run folder for each member and for the second opinion, and with --folds the cross-validations
        masks/           of every scan without a label; of DICOM series also as DICOM segmentations
        quality.csv      each mask's estimated Dice
        index.html       the page to review the masks on, the likely worst first; review/ has what it shows
"""

import tempfile
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from semivox.benchmarking.cross_validation import cross_validate
from semivox.data.checking import check_dataset
from semivox.data.dataset import Dataset, read_dataset
from semivox.data.faults import refuse_errors
from semivox.errors import DatasetError
from semivox.exchange.encoding import maker_of
from semivox.exchange.segmenting import write_beside
from semivox.files import locked_folder, refuse_no_folder, write_atomic
from semivox.planning.fingerprint import is_ct
from semivox.planning.plan import plan_dataset
from semivox.prediction.files import predict
from semivox.quality.estimate import estimate_quality
from semivox.reviewing.page import FOLDER, write_page
from semivox.training.start import train
from semivox.workflow.course import Course, Pace, expected_seconds, fitting_steps, keep, kept, measured, refuse_foreign
from semivox.workflow.source import Source, gone_if_refused, source_of
from semivox.workflow.told import Told

METHOD, SECOND = "averaged_match", "supervised"
KNOWN = {
    "data", "config.toml", "course.json", "runs", "masks", "quality.csv", "index.html", FOLDER, "review.json",
}  # fmt: skip
"""What OUT may hold."""


def run(
    data: Path | str | None = None,
    *,
    output: Path | str,
    images: Path | str | None = None,
    labels: Path | str | None = None,
    seconds: float | None = None,
    members: int = 1,
    folds: int = 0,
    cache: Path | str | None = None,
    device: str = "auto",
    told: Told | None = None,
) -> Path:
    """Train on all labels of a folder, mask every scan without one, and rank the masks; killed, the same call goes on.

    Two methods are trained: the default one, whose masks are written, and `supervised`, for a second opinion on them.

    Args:
        data: nnU-Net or Medical Decathlon folder, or one of DICOM series and segmentations; or else:
        images: a folder of scans, and
        labels: the labels that there are, named as their scans; a dataset.json is written to OUT/data.
        output: folder of everything, see above.
        seconds: that all of it may take; it is kept by choosing steps. Without, the plan's steps.
        members: runs of the default method, of which the mean makes the masks.
        folds: cross-validate both methods inside the label budget, so that Dice is estimated with a bound.
        cache: folder of prepared arrays.
        device: "auto", "cpu" or "cuda".
        told: whom to tell what goes on.

    Returns:
        OUT/index.html.

    Raises:
        DatasetError: the folder has faults, or no scan without a label.
        ConfigError, GeometryError, RunError: with what to do.
        PredictionError: some scans could not be predicted.
        KeyboardInterrupt: a signal stopped a training behind a checkpoint; the same call goes on.
    """
    output, told = Path(output), told or Told()
    refuse_no_folder(output)
    refuse_foreign(output, KNOWN)
    with gone_if_refused(output / "data"):
        source = source_of(data, images, labels, output, on_case=_cases(told, "imported"), on_note=told.note)
        dataset = _checked(source.folder, told)
        scans = _unlabelled(dataset)
        words: dict[str, Any] = {"data": source.folder, "cache": cache, "device": device}
        config = output / "config.toml"
        plan = None if config.exists() else plan_dataset(source.folder, method=METHOD, cache=cache, device=device)
    with locked_folder(output, doing="run"):
        if plan:
            write_atomic(config, lambda file: file.write(f"{plan.text()}\n".encode()))
            told.say(f"a training takes {plan.memory / 1e9:.1f} GB of memory, the cache {plan.cache / 1e9:.2f} GB")
            for text in plan.warnings:
                told.note(text)
        asked = {"members": members, "folds": folds}
        course = kept(output / "course.json", asked) or _decided(
            dataset, scans, config, Course(METHOD, SECOND, steps=0, **asked), seconds=seconds, words=words, told=told
        )
        keep(course, output / "course.json")
        told.say(_summary(course, len(dataset.labelled), len(scans)))
        for place, own in course.trainings(output).items():
            _train(place, own, course.steps, config, words, told)
        return _masks_and_page(dataset, scans, course, output, device, told, source)


def planned(
    data: Path | str | None = None,
    *,
    images: Path | str | None = None,
    labels: Path | str | None = None,
    seconds: float | None = None,
    members: int = 1,
    folds: int = 0,
    device: str = "auto",
) -> str:
    """Return what `run` would do, with its cost, in words; nothing is timed, trained or left on the disk.

    Raises:
        DatasetError, ConfigError: as `run`.
    """
    with tempfile.TemporaryDirectory() as place:
        folder = source_of(data, images, labels, Path(place)).folder
        dataset = read_dataset(folder)
        scans, trainings = _unlabelled(dataset), members + 1 + 2 * folds
        plan = plan_dataset(folder, method=METHOD, device=device, seconds=seconds and seconds / trainings)
    course = Course(METHOD, SECOND, members, folds, plan.values["steps"])
    minutes = course.steps * plan.seconds * trainings / 60
    cost = f"{minutes:.0f} minutes of training, within a factor of four: `run` times a few steps before it decides"
    return "\n".join([plan.text(), "", _summary(course, len(dataset.labelled), len(scans)), cost])


def _checked(folder: Path, told: Told) -> Dataset:
    """Return the data set in a folder.

    Raises:
        DatasetError: it has faults.
    """
    told.say(f"checking {folder}")
    refuse_errors(check_dataset(folder, progress=_cases(told, "checked")))
    return read_dataset(folder)


def _unlabelled(dataset: Dataset) -> dict[str, tuple[Path, ...]]:
    """Return the files of every scan without a label.

    Raises:
        DatasetError: there is none, or no scan with one.
    """
    found = {name: case.images for name, case in dataset.cases.items() if case.label is None}
    if not found or not dataset.labelled:
        raise DatasetError(
            f"{dataset.folder}: found {len(dataset.labelled)} scans with and {len(found)} without a label, expected "
            "both; put scans without a label into imagesTr or imagesUn"
        )
    return found


def _decided(
    dataset: Dataset,
    scans: Mapping[str, Sequence[Path]],
    config: Path,
    course: Course,
    *,
    seconds: float | None,
    words: Mapping[str, Any],
    told: Told,
) -> Course:
    """Return the course with its steps and the minutes that it will take, as timed on this machine."""
    told.say("timing a few steps of both methods")
    sizes = sorted(scans, key=lambda case: sum(path.stat().st_size for path in scans[case]))
    scan, count = tuple(scans[sizes[len(sizes) // 2]]), len(dataset.labelled)
    paces: dict[str, Pace] = {
        name: measured(name, scan, config=config, place=config.parent, words=words)
        for name in (course.method, course.second)
    }
    planned = int(tomllib.loads(config.read_text())["steps"])
    steps = planned if seconds is None else fitting_steps(seconds, course, paces, len(scans), count)
    course = replace(course, steps=steps)
    expected = expected_seconds(course, paces, len(scans), count)
    if seconds is not None and expected > seconds:
        told.note(f"{expected / 60:.0f} minutes are needed for {steps} steps, the least, and {len(scans)} masks")
    return replace(course, minutes=round(expected / 60, 1))


def _summary(course: Course, labelled: int, scans: int) -> str:
    members = f"{course.members} runs of {course.method}" if course.members > 1 else course.method
    folds = f", both {course.folds} times more for out-of-fold scores" if course.folds else ""
    time = f", about {course.minutes:.0f} minutes on this machine" if course.minutes else ""
    return (
        f"{labelled} labelled and {scans} unlabelled scans: {members}, and {course.second} for a second "
        f"opinion{folds}, {course.steps} steps each; then {scans} masks{time}"
    )


def _train(
    place: Path, own: Mapping[str, Any], steps: int, config: Path, words: Mapping[str, Any], told: Told
) -> None:
    """Train a run, or a cross-validation; what is at its end stays as it is."""
    told.say(f"training {place.name}")
    further: dict[str, Any] = {"folds": own["folds"]} if own["folds"] else {}
    outcome = (cross_validate if own["folds"] else train)(
        output=place,
        method=own["method"],
        config=config,
        settings={"steps": steps, "seed": own["seed"]},
        resume=True,
        on_row=lambda row, total: told.row(place.name, row, total),
        on_prepared=_cases(told, "prepared"),
        on_note=told.note,
        **words,
        **further,
    )
    if not outcome.finished:
        raise KeyboardInterrupt


def _masks_and_page(
    dataset: Dataset,
    scans: Mapping[str, Sequence[Path]],
    course: Course,
    output: Path,
    device: str,
    told: Told,
    source: Source,
) -> Path:
    runs = list(course.trainings(output))
    own, second, folds = runs[: course.members], runs[course.members], runs[course.members + 1 :]
    told.say(f"predicting {len(scans)} scans")
    files = [path for paths in scans.values() for path in paths]
    masks, told_case = output / "masks", _cases(told, "predicted")
    written = predict(own, files, output=masks, device=device, on_case=told_case, on_note=_unseen(told))
    if source.series:
        write_beside(written, source.series, maker=maker_of(own))
    told.say("asking for second opinions")
    rows = estimate_quality(
        [second],
        masks,
        output=output / "quality.csv",
        out_of_fold=folds,
        coverage=_coverage(len(dataset.labelled) - len(dataset.machine_made)) if folds else 0.8,
        device=device,
        on_case=_cases(told, "compared"),
        on_note=told.note,
    )
    summary = _summary(course, len(dataset.labelled), len(scans))
    return write_page(
        rows,
        scans,
        masks,
        output / "index.html",
        title=dataset.name,
        summary=summary,
        channels=dataset.channels,
        ct=[is_ct(name) for name in dataset.channels],
        on_case=_cases(told, "drawn"),
    )


def _coverage(labelled: int) -> float:
    """Return the coverage of a bound: .8, or as much as so many calibration cases promise."""
    return min(0.8, labelled / (labelled + 1))


def _cases(told: Told, what: str) -> Callable[[str, int, int], None]:
    return lambda case, done, total: told.case(what, case, done, total)


def _unseen(told: Told) -> Callable[[str], None]:
    """Return what passes notes on, but for the one that is meant here: scans that were trained on without labels."""
    return lambda text: None if "without their labels" in text else told.note(text)
