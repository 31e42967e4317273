"""The label-efficiency curve as a page: Dice against labelled cases, and what each method's labels are worth."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from semivox.files import write_atomic
from semivox.reporting.downloads import csv_text
from semivox.reporting.figures import INK, SERIES, new_figure, style, svg
from semivox.reporting.report import page_template
from semivox.scoring.comparison import Summary
from semivox.scoring.efficiency import Saving

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@dataclass(frozen=True)
class Point:
    """A method's score with some labelled cases.

    Attributes:
        method: its name.
        labelled, unlabelled: numbers of cases, or of patients; None where it is not known.
        runs: how many trainings it is the mean of.
        score: mean Dice with its interval.
    """

    method: str
    labelled: int
    unlabelled: int | None
    runs: int
    score: Summary

    def record(self) -> dict[str, Any]:
        """Return the point's row of curve.csv."""
        s = self.score
        told = {"method": self.method, "labelled": self.labelled, "unlabelled": self.unlabelled, "runs": self.runs}
        return told | {"dice": s.mean, "sd": s.sd, "low": s.low, "high": s.high, "over": s.over, "cases": s.cases}


@dataclass(frozen=True)
class LabelCurve:
    """Dice against labelled cases, by method.

    Attributes:
        title: heading of the page.
        control: name of the method that savings are measured in labels of.
        points: by method and number of labelled cases, in order.
        savings: of every point of another method than the control.
    """

    title: str
    control: str
    points: tuple[Point, ...]
    savings: tuple[Saving, ...]

    @property
    def methods(self) -> tuple[str, ...]:
        """Names of the methods, in order."""
        return tuple(dict.fromkeys(point.method for point in self.points))

    @property
    def sentences(self) -> tuple[str, ...]:
        """What each number of labels is worth, in words."""
        rest = {(point.method, point.labelled): point.unlabelled for point in self.points}
        return tuple(sentence(found, rest.get((found.group, found.labelled))) for found in self.savings)

    def of(self, method: str) -> list[Point]:
        """Return a method's points."""
        return [point for point in self.points if point.method == method]


def sentence(found: Saving, unlabelled: int | None) -> str:
    """Return what some labels are worth, with its interval, and whether it is a saving."""
    more = "their unlabelled" if unlabelled is None else f"{unlabelled} unlabelled"
    text = f"With {found.group}, {found.labelled} labelled + {more} are worth {worth_text(found)} labelled"
    text = f"{text} {interval_text(found)}"
    if found.low > found.labelled:
        return f"{text}."
    return f"{text}: {'fewer than they are' if found.high < found.labelled else 'no saving shown'}."


def worth_text(found: Saving) -> str:
    """Return what labels are worth, such as ``8.2``, and no more than the control's budgets say."""
    if found.worth == math.inf:
        return f"at least {found.budgets[-1]}"
    return f"fewer than {found.budgets[0]}" if found.worth == 0 else number_text(found.worth)


def interval_text(found: Saving) -> str:
    """Return the interval of what labels are worth, such as ``[5.1, over 16]``."""
    names = {0.0: f"under {found.budgets[0]}", math.inf: f"over {found.budgets[-1]}"}
    low, high = (names.get(end) or number_text(end) for end in (found.low, found.high))
    return f"[{low}, {high}]"


def number_text(labels: float) -> str:
    """Return a number of labels: a decimal below 10, none above."""
    return f"{labels:.1f}" if labels < 9.95 else f"{labels:.0f}"


def write_curve(curve: LabelCurve, folder: Path) -> Path:
    """Write curve.html, curve.csv and savings.csv, and return the first's path.

    Raises:
        RunError: a file cannot be written.
    """
    savings = [vars(found) | {"budgets": " ".join(map(str, found.budgets)), "times": found.times}
               for found in curve.savings]  # fmt: skip
    tables = {"curve": [point.record() for point in curve.points], "savings": savings}
    html = page_template("curve.html").render(
        curve=curve, figure=draw_curve(curve), tables=tables, worth=worth_text, interval=interval_text
    )
    for name, records in tables.items():
        _write(folder / f"{name}.csv", csv_text(records))
    _write(folder / "curve.html", html)
    return folder / "curve.html"


def _write(path: Path, text: str) -> None:
    write_atomic(path, lambda file: file.write(text.encode("utf-8", "backslashreplace")))


def draw_curve(curve: LabelCurve) -> str:
    """Return an SVG: a line per method over the logarithm of the labels, and what each saving reaches to, dotted."""
    figure = new_figure(7.6, 4.4)
    axes = figure.subplots()
    colours = {method: SERIES[number % len(SERIES)] for number, method in enumerate(curve.methods)}
    for number, method in enumerate(curve.methods):
        # beside each other, so that intervals at one budget are seen apart
        _draw_method(axes, curve.of(method), colours[method], 1 + 0.03 * (number - (len(colours) - 1) / 2))
    means = {(point.method, point.labelled): point.score.mean for point in curve.points}
    for found in curve.savings:
        if 0 < found.worth < math.inf:
            height, colour = means[found.group, found.labelled], colours[found.group]
            axes.plot([found.labelled, found.worth], [height] * 2, ":", color=colour, linewidth=1.2)
            axes.plot([found.worth], [height], "|", color=colour, markersize=9)
    budgets = sorted({point.labelled for point in curve.points})
    axes.set_xscale("log", base=2)
    axes.set_xticks(budgets, [str(budget) for budget in budgets])
    axes.set_xticks([], minor=True)
    axes.set_xlim(budgets[0] / 1.2, budgets[-1] * 1.2)
    style(axes, "y")
    axes.set_xlabel("labelled")
    axes.set_ylabel("Dice")
    axes.legend(frameon=False, fontsize=9, labelcolor=INK, loc="lower right")
    return svg(figure)


def _draw_method(axes: "Axes", points: Sequence[Point], colour: str, aside: float) -> None:
    places = [point.labelled * aside for point in points]
    axes.plot(places, [point.score.mean for point in points], "o-", color=colour, label=points[0].method, markersize=5)
    for place, point in zip(places, points, strict=True):
        axes.plot([place] * 2, [point.score.low, point.score.high], color=colour, linewidth=1.8, alpha=0.6)
