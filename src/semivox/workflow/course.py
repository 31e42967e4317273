"""What a run will do, decided once: how many steps fit the time, by a few steps and a prediction that are timed."""

import json
import tempfile
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

from semivox.benchmarking.pace import clocked
from semivox.data.volume import read_image
from semivox.errors import RunError
from semivox.files import UNFINISHED, read_object, write_atomic
from semivox.methods import method_class, method_module
from semivox.prediction.predictor import Predictor
from semivox.training.start import train

LEAST = 200
"""Steps that a training takes, whatever the time."""
Kind = TypeVar("Kind")
SHARE = 0.85
"""Part of the time that is planned for: a machine is not equally fast all day."""


@dataclass(frozen=True)
class Course:
    """What was decided; whoever goes on with a run keeps to it.

    Attributes:
        method: that makes the masks.
        second: method of the second opinion.
        members: runs of `method`, with seeds from 0 on, whose mean makes the masks.
        folds: of the cross-validations inside the label budget; 0 for none.
        steps: of every training.
        minutes: that all of it is expected to take; 0 where nothing was timed.
    """

    method: str
    second: str
    members: int
    folds: int
    steps: int
    minutes: float = 0.0

    def trainings(self, folder: Path) -> dict[Path, dict[str, Any]]:
        """Return the run folders with their method, folds and seed, in the order in which they are trained."""
        seeds = {f"{self.method}-{seed}": {"method": self.method, "seed": seed} for seed in range(self.members)}
        second = {self.second: {"method": self.second, "seed": 0}}
        both = (self.method, self.second) if self.folds else ()
        parts = {f"folds-{name}": {"method": name, "seed": 0, "folds": self.folds} for name in both}
        wanted = seeds | second | parts
        return {folder / "runs" / name: {"folds": 0, **words} for name, words in wanted.items()}


def refuse_foreign(output: Path, known: Collection[str]) -> None:
    """Refuse a folder for results that holds something else than `known`, its lock and hidden files.

    Raises:
        RunError: it does.
    """
    names = {path.name for path in output.iterdir()} if output.is_dir() else set()
    if found := sorted(name for name in names if name[0] != "." and name not in {*known, "lock"}):
        raise RunError(f"{output} holds {found[0]}: name an empty or a new folder with -o")


def keep(course: Any, file: Path) -> None:
    """Write what was decided, a dataclass of plain values.

    Raises:
        RunError: the file cannot be written.
    """
    write_atomic(file, lambda handle: handle.write(json.dumps(asdict(course), indent=1).encode()))


def kept(file: Path, asked: Mapping[str, Any], kind: type[Kind] = Course) -> Kind | None:  # type: ignore[assignment]
    """Return what was decided before; None where nothing was.

    Args:
        file: that `keep` wrote.
        asked: what is wanted now, by the course's names.
        kind: the dataclass that was written.

    Raises:
        RunError: the file is damaged, or other things were asked for then.
    """
    advice = "name another folder with -o"
    try:
        found = read_object(file, advice=advice)
    except FileNotFoundError:
        return None
    try:
        course = kind(**found)
    except TypeError:
        raise RunError(f"{file} is damaged: {advice}") from None
    for name, value in asked.items():
        if getattr(course, name) != value:
            raise RunError(
                f"{file.parent} was started with {name} = {getattr(course, name)}, found {value}: give the same words, "
                f"or {advice}"
            )
    return course


@dataclass(frozen=True)
class Pace:
    """What a method takes here: seconds of a mean step, and of the prediction of a scan."""

    step: float
    scan: float


def measured(method: str, scan: tuple[Path, ...], *, config: Path, place: Path, words: Mapping[str, Any]) -> Pace:
    """Return a method's pace, from a few steps and one scan.

    Args:
        method: its name.
        scan: the files of an unlabelled scan.
        config: of the training.
        place: an existing folder, for a run that goes again.
        words: further arguments of `train`.
    """
    module = method_module(method)
    stages = method_class(module).stages(module.Config())
    with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=place) as folder:
        run = Path(folder) / "run"

        def begin(settings: Mapping[str, Any], on_row: Callable[..., None]) -> None:
            train(output=run, method=method, config=config, settings=settings, on_row=on_row, **words)

        seconds = clocked(stages, {}, begin)
        predictor = Predictor(run, device=words.get("device", "auto"))
        started = time.monotonic()
        predictor.predict(read_image(scan))
        taken = time.monotonic() - started
    return Pace(sum((stage.share or 1.0) * seconds[stage.name] for stage in stages), taken)


def fitting_steps(seconds: float, course: Course, paces: Mapping[str, Pace], scans: int, labelled: int) -> int:
    """Return how many steps of every training, in tens, fill a time, `LEAST` at least."""
    each = [_trainings(course, name) * pace.step for name, pace in paces.items()]
    return steps_in(seconds, sum(each), besides=_predicting(course, paces, scans, labelled))


def steps_in(seconds: float, each: float, *, besides: float) -> int:
    """Return how many steps of every training, in tens, `SHARE` of a time holds; `LEAST` at least.

    Args:
        seconds: that all may take.
        each: seconds that a step of all trainings takes.
        besides: seconds that are not training.
    """
    return max(LEAST, int((SHARE * seconds - besides) / each) // 10 * 10)


def expected_seconds(course: Course, paces: Mapping[str, Pace], scans: int, labelled: int) -> float:
    """Return how long a course takes."""
    training = sum(_trainings(course, name) * pace.step for name, pace in paces.items()) * course.steps
    return training + _predicting(course, paces, scans, labelled)


def _trainings(course: Course, method: str) -> int:
    return (course.members if method == course.method else 1) + course.folds


def _predicting(course: Course, paces: Mapping[str, Pace], scans: int, labelled: int) -> float:
    own, second = (paces[name].scan for name in (course.method, course.second))
    folds = (own + second) * labelled if course.folds else 0.0
    return scans * (own * course.members + second) + folds
