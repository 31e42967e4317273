"""The table of cases: each case and class with its volumes and scores, the methods side by side."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from semivox.scoring.comparison import higher_is_better
from semivox.scoring.scores import Group, Row


@dataclass(frozen=True)
class Cell:
    """What one method made of one case and class, the mean over its runs; NaN where nothing is known.

    Attributes:
        truth, predicted: sizes in the unit of the table.
        values: scores by metric.
        failures: how many of its runs failed.
        runs: how many of them scored it.
    """

    truth: float
    predicted: float
    values: Mapping[str, float]
    failures: int
    runs: int


@dataclass(frozen=True)
class CaseTable:
    """Every case and class, in the order of the files.

    Attributes:
        unit: of the sizes: "ml", "voxels" or "pixels"; "" where no table has any.
        metrics: what is shown: the first overlap and the first distance; a download has all.
        rows: per (case, class), a cell of each group that scored it.
    """

    unit: str
    metrics: tuple[str, ...]
    rows: Mapping[tuple[str, str], Mapping[str, Cell]]

    @staticmethod
    def truth(cells: Mapping[str, Cell]) -> float:
        """Return how large the truth is; NaN where no group knows it."""
        return next((cell.truth for cell in cells.values() if not math.isnan(cell.truth)), math.nan)


def tabulate_cases(groups: Sequence[Group], metrics: Sequence[str]) -> CaseTable:
    """Return the table of all cases of these groups."""
    rows = [(group.name, row) for group in groups for run in group.runs for row in run.rows]
    columns = [column for _, row in rows for column in row.sizes if column.startswith("truth_")]
    unit = columns[0].removeprefix("truth_") if columns else ""
    found: dict[tuple[str, str], dict[str, list[Row]]] = {}
    for name, row in rows:
        found.setdefault((row.case, row.label), {}).setdefault(name, []).append(row)
    cells = {key: {name: _cell(own, unit) for name, own in by_group.items()} for key, by_group in found.items()}
    return CaseTable(unit, _first_of_each(metrics), cells)


def case_records(groups: Sequence[Group]) -> Iterator[dict[str, Any]]:
    """Yield every scored (method, run, case, class) with all that its scores.csv says of it."""
    for group in groups:
        for run in group.runs:
            for row in run.rows:
                where = {"method": group.name, "seed": run.seed, "case": row.case, "class": row.label}
                yield where | {**row.sizes, **row.values, "failure": int(row.failed)}


def size_text(size: float, unit: str) -> str:
    """Return a size for people: one decimal of ml (three digits below 1), whole voxels; a dash where unknown."""
    if math.isnan(size):
        return "–"
    return f"{size:,.0f}" if unit != "ml" else f"{size:,.1f}" if size >= 1 else f"{size:.3f}"


def _cell(rows: Sequence[Row], unit: str) -> Cell:
    sizes = [_mean(row.sizes.get(f"{which}_{unit}", math.nan) for row in rows) for which in ("truth", "predicted")]
    values = {metric: _mean(row.values[metric] for row in rows if metric in row.values) for metric in rows[0].values}
    return Cell(sizes[0], sizes[1], values, sum(row.failed for row in rows), len(rows))


def _first_of_each(metrics: Sequence[str]) -> tuple[str, ...]:
    kinds = {higher_is_better(metric): metric for metric in reversed(metrics)}
    return tuple(metric for metric in metrics if metric in kinds.values())


def _mean(values: Iterator[float]) -> float:
    known = [value for value in values if not math.isnan(value)]
    return fmean(known) if known else math.nan
