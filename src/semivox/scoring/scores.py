"""What evaluation wrote: a scores.csv with its scores.json, read, and runs that belong together."""

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from semivox.data.patients import patient_of
from semivox.errors import DatasetError
from semivox.files import read_object

METRICS = ("dice", "jaccard", "hd95", "hd", "asd", "assd", "nsd")
"""First words of the columns that hold scores; the others (sizes, flags) say how a row came about."""
SIZES = ("truth", "predicted")
"""First words of the columns that hold how large a class is, in ml, voxels or pixels."""
NO_FAILURE = {"", "0", "0.0", "false", "no", "none", "nan"}


@dataclass(frozen=True)
class Row:
    """The scores of one case and class.

    Attributes:
        case: name of the case.
        label: name of the class.
        value: the class's value in label files; None where the table has no whole number there.
        failed: whether evaluation called it a failure.
        values: scores by metric, NaN where undefined.
        sizes: of truth and prediction, by column (``truth_ml``); tables of other programs may have none.
        trained_on: how the run's training saw the case: "labelled", "unlabelled", or "" for not at all.
    """

    case: str
    label: str
    value: int | None
    failed: bool
    values: Mapping[str, float]
    sizes: Mapping[str, float] = field(default_factory=dict)
    trained_on: str = ""


@dataclass(frozen=True)
class Scores:
    """One scores.csv and what the scores.json beside it says (empty where there is none)."""

    path: Path
    rows: tuple[Row, ...]
    info: Mapping[str, Any]
    learned: tuple[Row, ...] = ()
    """The rows of cases whose labels the run was trained on; ``rows``, and so every number, goes without them."""

    @property
    def prediction(self) -> Mapping[str, Any]:
        """What prediction.json said of the masks: run, method, group, seed, images, command, config."""
        found = self.info.get("prediction")
        return found if isinstance(found, Mapping) else {}

    @property
    def group(self) -> str:
        """Display name of the method and its variant; the folder's name where nothing says it."""
        return _readable(self.prediction.get("group") or self.method)

    @property
    def method(self) -> str:
        """Name of the method; the folder's name where nothing says it."""
        return _readable(self.prediction.get("method") or self.path.parent.name or self.path.stem)

    @property
    def seed(self) -> int | None:
        """Seed of the run, where known."""
        return self._number("seed")

    @property
    def draw(self) -> int | None:
        """Which draw of the labelled cases the run was trained on; 0 are the first ones, None is not known."""
        return self._number("draw")

    @property
    def training(self) -> tuple[int, int] | None:
        """Draw and seed: what sets the runs of a group apart; None where the seed is not known."""
        return None if self.seed is None else (self.draw or 0, self.seed)

    @property
    def labelled(self) -> int | None:
        """How many cases, or patients, the run was trained on with their labels, where known."""
        return self._number("labelled")

    @property
    def split(self) -> str | None:
        """Digest of the split that the run was trained on, where known."""
        split = self.prediction.get("split")
        return str(split) if split else None

    @property
    def patients(self) -> str | None:
        """The regular expression that finds the patient in a case's name, where the split had one."""
        found = self.prediction.get("patients")
        return str(found) if found else None

    @property
    def miou(self) -> float:
        """The mIoU of all pictures together; NaN for scans."""
        found = self.info.get("miou")
        mean = found.get("mean") if isinstance(found, Mapping) else None
        return float(mean) if isinstance(mean, int | float) else math.nan

    @property
    def metrics(self) -> tuple[str, ...]:
        """The columns that hold scores."""
        return tuple(self.rows[0].values)

    def _number(self, key: str) -> int | None:
        """Return a whole number that prediction.json said, where it did."""
        found = self.prediction.get(key)
        return int(found) if isinstance(found, int | float) and math.isfinite(found) else None

    def locate(self, path: object) -> Path | None:
        """Return the existing file or folder that scores.json names, or its namesake beside scores.json; else None."""
        if not isinstance(path, str | Path) or not str(path):
            return None
        here = self.path.parent
        return next((p for p in (here / path, Path(path), here / Path(path).name) if p.exists()), None)


@dataclass(frozen=True)
class Group:
    """Runs of one method with one setting; they differ in their seed alone, or in the draw of the labelled cases, too.

    Attributes:
        name: how tables call it.
        runs: its runs.
        patients: the regular expression that finds the patient in a case's name; None where every case is one.
    """

    name: str
    runs: tuple[Scores, ...]
    patients: str | None = None

    @property
    def method(self) -> str:
        """Name of the method."""
        return self.runs[0].method

    @property
    def label(self) -> str:
        """The name that its runs bear; groups whose runs bear the same have longer ones."""
        return self.runs[0].group

    @property
    def finished(self) -> bool:
        """Whether every run came to its end, or does not say that it did not."""
        return all(run.prediction.get("finished") is not False for run in self.runs)

    @property
    def splits(self) -> frozenset[str | None]:
        """Digests of all splits that its runs were trained on."""
        return frozenset(run.split for run in self.runs)

    @property
    def metrics(self) -> tuple[str, ...]:
        """The metrics that every run has."""
        return tuple(m for m in self.runs[0].metrics if all(m in run.metrics for run in self.runs))

    @property
    def cases(self) -> frozenset[str]:
        """Names of all cases."""
        return frozenset(row.case for run in self.runs for row in run.rows)

    @property
    def labels(self) -> frozenset[str]:
        """Names of all classes."""
        return frozenset(row.label for run in self.runs for row in run.rows)

    @cached_property
    def by_draw(self) -> Mapping[int | None, "Group"]:
        """The runs of every draw of the labelled cases, all its seeds."""
        return {draw: self._with(run for run in self.runs if run.draw == draw) for draw in {r.draw for r in self.runs}}

    @cached_property
    def by_seed(self) -> Mapping[int | None, "Group"]:
        """The runs of every seed, all its draws."""
        return {seed: self._with(run for run in self.runs if run.seed == seed) for seed in {r.seed for r in self.runs}}

    def _with(self, runs: Iterable[Scores]) -> "Group":
        return replace(self, runs=tuple(runs))

    def cells(self, metric: str, label: str | None = None) -> dict[tuple[str, str], float]:
        """Return {(patient, class): mean over the runs and the patient's scans}; what is undefined in all is left out.

        Without `patients`, every case is a patient, and so is one that the expression does not match (an external set).
        """
        scans: dict[tuple[str, str], list[float]] = {}
        for (case, found), values in self._values.get(metric, {}).items():
            if label in (None, found):
                patient = patient_of(case, self.patients, unknown=case)
                scans.setdefault((patient, found), []).append(sum(values) / len(values))
        return {key: sum(means) / len(means) for key, means in scans.items()}

    @cached_property
    def _values(self) -> dict[str, dict[tuple[str, str], list[float]]]:
        """Every defined value by metric and (case, class)."""
        values: dict[str, dict[tuple[str, str], list[float]]] = {}
        for row in (row for run in self.runs for row in run.rows):
            for metric, value in row.values.items():
                if not math.isnan(value):
                    values.setdefault(metric, {}).setdefault((row.case, row.label), []).append(value)
        return values


def read_scores(path: Path) -> Scores:
    """Return one scores.csv with its scores.json.

    Raises:
        DatasetError: there is no such file, a column or every row is missing, or a score is no number.
    """
    path = Path(path)
    if not path.is_file():
        raise DatasetError(f"{path}: there is no such file; expected a scores.csv written by 'semivox evaluate'")
    try:
        rows = _read_rows(path)
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DatasetError(f"{path}: cannot be read ({error}); run 'semivox evaluate' again") from None
    if not rows:
        raise DatasetError(f"{path}: holds no scores, only its header; run 'semivox evaluate' again")
    counted, learned = (tuple(row for row in rows if (row.trained_on == "labelled") is kind) for kind in (False, True))
    if not counted:
        raise DatasetError(f"{path}: holds only cases that its run was trained on, expected others; score those")
    return Scores(path, counted, _read_info(path.with_suffix(".json")), learned)


def _read_rows(path: Path) -> tuple[Row, ...]:
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        columns = reader.fieldnames or []
        metrics, sizes = ([name for name in columns if name.split("_")[0] in words] for words in (METRICS, SIZES))
        if "case" not in columns or "label" not in columns or not metrics:
            raise DatasetError(
                f"{path}: found the columns {', '.join(columns) or 'none'}; expected case, label and at least one "
                "metric such as dice; write it with 'semivox evaluate'"
            )
        return tuple(_row(line, metrics, sizes, f"{path}, line {reader.line_num}") for line in reader)


def _row(line: Mapping[str, str | None], metrics: Sequence[str], sizes: Sequence[str], where: str) -> Row:
    numbers = (*metrics, *sizes)
    try:
        values = {column: float(line[column] or "nan") for column in numbers}
    except ValueError as error:
        raise DatasetError(f"{where}: {error}; expected a number or nothing in {', '.join(numbers)}") from None
    value = line["label"] or ""
    failure = (line.get("failure") or "").strip().lower()
    return Row(
        case=line["case"] or "",
        label=line.get("name") or value,
        value=int(value) if value.isdecimal() and len(value) < 10 else None,
        failed=failure not in NO_FAILURE,
        values={column: values[column] for column in metrics},
        sizes={column: values[column] for column in sizes},
        trained_on=line.get("trained_on") or "",
    )


def _readable(name: object) -> str:
    """Return a name as text that can be written and drawn: a folder's may be no UTF-8."""
    return str(name).encode("utf-8", "backslashreplace").decode()


def _read_info(path: Path) -> Mapping[str, Any]:
    try:
        return read_object(path, advice="run 'semivox evaluate' again", error=DatasetError)
    except FileNotFoundError:
        return {}
