"""The curves of a report, from the logs of its runs: losses, and what tells of collapse; inline SVG text."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from semivox.reporting.figures import INK, MUTED, SERIES, new_figure, style, svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Log = Sequence[Mapping[str, Any]]
"""The parsed lines of a log.jsonl: "step", "stage", "total", "losses", "shown"."""

BINS = 200
"""Points of a curve: a long log is averaged in as many bins."""
COLLAPSE = {
    "variance": "variance of the features",
    "rank": "effective rank of the features",
    "fill": "fill of the bank",
}
"""What tells of collapse, by the last word of the names under "shown": ``class1_variance``, ``slice_rank``."""


def draw_losses(logs: Mapping[str, Sequence[Log]]) -> str:
    """Return an SVG with a panel per group: the total and each loss term against the step, as they were summed.

    A group whose terms are ramped has a second panel beside it, in which each of them is divided by its ramp.

    Args:
        logs: per group, the log of each run.
    """
    ramped = [group for group, runs in logs.items() if any(map(has_ramps, runs))]
    columns = 2 if ramped else min(2, len(logs))
    lines = len(logs) if ramped else -(-len(logs) // columns)
    figure = new_figure(9.6, 2.7 * lines)
    panels = figure.subplots(lines, columns, squeeze=False)
    colours = {"total": INK} | _colours(_names(logs, "losses"))
    firsts = panels[:, 0] if ramped else panels.ravel()  # a second panel stands beside the first of its group
    for panel in panels.ravel():
        panel.set_axis_off()
    for panel, (group, runs) in zip(firsts, logs.items(), strict=False):
        totals = [{"total": [_number(line.get("total")) for line in log]} for log in runs]
        summed = [total | _series(log, "losses") for total, log in zip(totals, runs, strict=True)]
        _draw_losses(panel, group, runs, summed, colours)
    for line, (group, runs) in enumerate(logs.items()):
        if group in ramped:
            undone = [_without_ramps(log) for log in runs]
            _draw_losses(panels[line, 1], f"{group}, without ramps", runs, undone, colours)
            panels[line, 1].get_legend().remove()  # the first panel's says the same
    return svg(figure)


def _draw_losses(
    axes: "Axes",
    title: str,
    runs: Sequence[Log],
    curves: Sequence[Mapping[str, Sequence[float]]],
    colours: Mapping[str, str],
) -> None:
    axes.set_axis_on()
    _draw_runs(axes, runs, curves, colours)
    axes.set_title(title, loc="left", fontsize=10, color=INK)
    axes.set_ylabel("loss")


def has_ramps(log: Log) -> bool:
    """Return whether a log tells by what the time in training weakened its terms."""
    return any(_ramps(line) for line in log)


def draw_collapse(logs: Mapping[str, Sequence[Log]]) -> str:
    """Return an SVG with a line of panels per group, one for each kind of `COLLAPSE`; "" where no log has any.

    A variance is drawn on a logarithmic scale, so that one that falls to nothing is seen beside one that is small.

    Args:
        logs: per group, the log of each run.
    """
    names = [name for name in _names(logs, "shown") if _kind(name)]
    kinds = [kind for kind in COLLAPSE if any(_kind(name) == kind for name in names)]
    shown = {group: runs for group, runs in logs.items() if any(map(_kind, _names({group: runs}, "shown")))}
    if not shown:
        return ""
    figure = new_figure(9.6, 2.6 * len(shown))
    panels = figure.subplots(len(shown), len(kinds), squeeze=False)
    colours = _colours([_whose(name) for name in names])
    for row, (group, runs) in zip(panels, shown.items(), strict=True):
        for panel, kind in zip(row, kinds, strict=True):
            curves = [_series(log, "shown") for log in runs]
            curves = [{_whose(name): y for name, y in curve.items() if _kind(name) == kind} for curve in curves]
            _draw_runs(panel, runs, curves, colours)
            if kind == "variance" and any((np.array(y) > 0).any() for curve in curves for y in curve.values()):
                panel.set_yscale("log")
                panel.yaxis.set_major_formatter("{x:g}")  # matplotlib's own is a formula, and texts are none here
            panel.set_ylabel(COLLAPSE[kind])
        row[0].set_title(group, loc="left", fontsize=10, color=INK)
    return svg(figure)


def _draw_runs(
    axes: "Axes",
    runs: Sequence[Log],
    curves: Sequence[Mapping[str, Sequence[float]]],
    colours: Mapping[str, str],
) -> None:
    """Draw the curves of one group's runs; only the first run is named in the legend and marks its stages."""
    for number, (log, series) in enumerate(zip(runs, curves, strict=True)):
        first = number == 0
        steps, bounds = _running_steps(log)
        for name, values in series.items():
            x, y = _binned(steps, np.array(values))
            width = 1.5 if name == "total" else 1.2
            label, alpha = (name, 0.95) if first else (None, 0.4)
            axes.plot(x, y, label=label, alpha=alpha, color=colours[name], linewidth=width)
        for stage, start in bounds[1:] if first else []:
            axes.axvline(start, color=MUTED, linewidth=0.8, linestyle=":")
            axes.annotate(stage, (start, 1), xycoords=("data", "axes fraction"), xytext=(3, -9), color=MUTED,
                          fontsize=8, textcoords="offset points")  # fmt: skip
    style(axes, "y")
    axes.set_xlabel("step")
    if curves and curves[0]:
        axes.legend(frameon=False, fontsize=8, labelcolor=INK, loc="best")


def _names(logs: Mapping[str, Sequence[Log]], key: str) -> list[str]:
    """Return the names under "losses" or "shown", in order of their first appearance."""
    lines = (line for runs in logs.values() for log in runs for line in log)
    return list(dict.fromkeys(name for line in lines for name in _of(line, key)))


def _series(log: Log, key: str) -> dict[str, list[float]]:
    """Return the values under "losses" or "shown" by name, a number per line of the log."""
    return {name: [_number(_of(line, key).get(name)) for line in log] for name in _names({"": [log]}, key)}


def _ramps(line: Mapping[str, Any]) -> dict[str, float]:
    """Return the ramp of each loss term of a line of the log that has one: ``consistency_ramp`` of ``consistency``."""
    shown = {term: _number(_of(line, "shown").get(f"{term}_ramp")) for term in _of(line, "losses")}
    return {term: ramp for term, ramp in shown.items() if ramp > 0}


def _without_ramps(log: Log) -> dict[str, list[float]]:
    """Return the terms by name, each over its ramp, and their total."""
    lines = [{t: _number(loss) / _ramps(line).get(t, 1) for t, loss in _of(line, "losses").items()} for line in log]
    undone: Log = [{"losses": terms} for terms in lines]
    return {"total": [sum(terms.values()) for terms in lines]} | _series(undone, "losses")


def _kind(name: str) -> str:
    """Return the kind of `COLLAPSE` that a quantity is of, or ""."""
    last = name.rpartition("_")[2]
    return last if last in COLLAPSE else ""


def _whose(name: str) -> str:
    """Return whose quantity it is: ``class1`` of ``class1_variance``."""
    return name.rpartition("_")[0] or name


def _colours(names: Sequence[str]) -> dict[str, str]:
    return {name: SERIES[number % len(SERIES)] for number, name in enumerate(dict.fromkeys(names))}


def _running_steps(log: Log) -> tuple[NDArray[np.float64], list[tuple[str, float]]]:
    """Return the steps counted on through the stages, and where each stage starts."""
    steps: list[float] = []
    bounds: list[tuple[str, float]] = []
    offset = 0.0
    for line in log:
        step, stage = _number(line.get("total_step", line.get("step"))), str(line.get("stage", ""))
        if not bounds or bounds[-1][0] != stage:
            last = steps[-1] if steps else 0.0
            offset = last if step <= last else 0.0
            bounds.append((stage, step + offset))
        steps.append(step + offset)
    return np.array(steps), bounds


def _binned(x: NDArray[np.float64], y: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    known = np.isfinite(x) & np.isfinite(y)
    x, y = x[known], y[known]
    if len(x) <= BINS:
        return x, y
    parts = np.array_split(np.arange(len(x)), BINS)
    return np.array([x[part].mean() for part in parts]), np.array([y[part].mean() for part in parts])


def _of(line: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = line.get(key)
    return found if isinstance(found, Mapping) else {}


def _number(value: object) -> float:
    return float(value) if isinstance(value, int | float) else float("nan")
