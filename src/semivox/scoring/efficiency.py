"""What a method saves in labels: how many labelled cases its control needs for the same score, with an interval.

The control's curve is known at a few budgets. Between two of them its score is a straight line over the logarithm of
the number of labels, since twice as many bring about as much each time; beyond them nothing is known, and nothing is
said but "at least" or "fewer than".
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semivox.scoring.comparison import per_case
from semivox.scoring.interval import mean_interval, training_reach
from semivox.scoring.scores import Group
from semivox.scoring.trainings import by_training

PARTS = 32
"""Numbers of labels that are tried per doubling; between them the ends of the interval lie on a straight line."""
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Saving:
    """How many labels of the control a method with some labels is worth.

    Attributes:
        group: the method's display name.
        labelled: how many cases (or patients) it had with their labels.
        worth: so many of the control's reach the same mean; infinite where even its largest budget does not, 0 where
            already its smallest reaches more.
        low, high: the 95 % interval; 0 and infinite where it goes on below the smallest or above the largest budget.
        budgets: the control's, in order.
        over: what the interval is over, see `semivox.scoring.comparison.Summary`.
        cases: number of cases in it.
    """

    group: str
    labelled: int
    worth: float
    low: float
    high: float
    budgets: tuple[int, ...]
    over: str
    cases: int

    @property
    def times(self) -> float:
        """The saving as a factor: labels of the control for one of the method's."""
        return self.worth / self.labelled


def saving(method: Group, labelled: int, control: dict[int, Group], metric: str = "dice") -> Saving | None:
    """Return what a method with some labels is worth in labels of its control; None where they have no case in common.

    All are looked at over the same draws, seeds and cases. The interval holds every number of labels N at which the
    paired difference between the method and the control's interpolated score has an interval that contains 0: a test
    for each N, turned round, by the interval whose coverage benchmarks/statistics/hierarchical.py shows, where the
    bootstrap of the inverted curve has that of its column ``percentile``.

    Args:
        method: its runs with that budget, all draws and seeds.
        labelled: the budget.
        control: the control's runs by budget.
        metric: more of it is better.
    """
    budgets = sorted(control)
    groups = [method, *(control[budget] for budget in budgets)]
    word, units = by_training(*groups)
    scores = [[per_case(group, metric) for group in unit] for unit in units or [tuple(groups)]]
    cases = sorted(set.intersection(*({*found} for unit in scores for found in unit)))
    if not cases:
        return None
    table = np.array([[[found[case] for case in cases] for found in unit] for unit in scores])  # (T, 1 + B, C)
    mine, theirs = table[:, 0], np.moveaxis(table[:, 1:], 1, 0)
    worth = labels_for(float(mine.mean()), budgets, theirs.mean((1, 2)))
    low, high = worth_interval(mine, budgets, theirs)
    over = f"cases and {word}" if word else "cases"
    return Saving(method.name, labelled, worth, min(low, worth), max(high, worth), (*budgets,), over, len(cases))


def labels_for(score: float, budgets: Sequence[int], means: Sequence[float] | Array) -> float:
    """Return how many labels a curve of means over budgets needs to reach a score.

    The means are made monotone first (isotonic regression: neighbours that fall are replaced by their mean), since more
    labels do not harm in expectation: a curve that falls falls by chance, and would be crossed several times. Where it
    is level, the smallest number counts. So the answer is one number, never said to be more than the curve shows.

    By hand: means .5, .6, .7 at 2, 4, 8 reach .65 half way between 4 and 8 on the logarithm, at 5.66; means .5, .7, .6,
    .8 at 2, 4, 8, 16 are taken for .5, .65, .65, .8, and reach .65 at 4.

    Returns:
        0 where the first mean is more than the score, infinity where the last is less.
    """
    curve = monotone(means)
    if score < curve[0] - 1e-12:
        return 0.0
    if score > curve[-1] + 1e-12:
        return math.inf
    place = int(np.flatnonzero(curve >= score - 1e-12)[0])
    if place == 0:
        return float(budgets[0])
    part = (score - curve[place - 1]) / (curve[place] - curve[place - 1])
    return float(budgets[place - 1] * (budgets[place] / budgets[place - 1]) ** part)


def monotone(values: Sequence[float] | Array) -> Array:
    """Return the nearest (least squares) values that nowhere fall: the largest over starts of the least mean on.

    By hand: (.5, .7, .6, .8) -> (.5, .65, .65, .8).
    """
    found, n = np.asarray(values, dtype=np.float64), len(values)
    return np.array([
        max(min(found[start : end + 1].mean() for end in range(i, n)) for start in range(i + 1)) for i in range(n)
    ])  # fmt: skip


def worth_interval(mine: Array, budgets: Sequence[int], theirs: Array) -> tuple[float, float]:
    """Return the first number of labels at which the method is not shown to be above the control, and the last below.

    Args:
        mine: (trainings, cases) scores of the method.
        budgets: (B,) of the control, in order.
        theirs: (B, trainings, cases) scores of the control.

    Returns:
        0 for the low end where the control's smallest budget is not shown to be below, infinity for the high end where
        its largest is not shown to be above; a single case gives both.
    """
    if mine.shape[1] < 2:
        return 0.0, math.inf
    steps = sorted({*np.log2(budgets), *np.arange(np.log2(budgets[0]), np.log2(budgets[-1]), 1 / PARTS)})
    ends = np.array([_difference(mine, _curve_at(step, budgets, theirs)) for step in steps])
    above, below = ends[:, 0], ends[:, 1]  # below 0: not shown to be above; above 0: not shown to be below
    low = 0.0 if above[0] <= 0 else _crossing(steps, above, lambda end: end <= 0)
    high = math.inf if below[-1] >= 0 else _crossing(steps[::-1], below[::-1], lambda end: end >= 0)
    return (low if not math.isnan(low) else math.inf), (high if not math.isnan(high) else 0.0)


def _curve_at(step: float, budgets: Sequence[int], theirs: Array) -> Array:
    """Return the control's (trainings, cases) scores with 2 ** step labels, between two of its budgets."""
    logs = np.log2(budgets)
    place = min(max(int(np.searchsorted(logs, step)) - 1, 0), len(logs) - 2) if len(logs) > 1 else 0
    if len(logs) == 1:
        return theirs[0]
    part = (step - logs[place]) / (logs[place + 1] - logs[place])
    between: Array = (1 - part) * theirs[place] + part * theirs[place + 1]
    return between


def _difference(mine: Array, theirs: Array) -> tuple[float, float]:
    table = np.round(mine - theirs, 12)
    return mean_interval(table.mean(0), reach=training_reach(table))


def _crossing(steps: Sequence[float], ends: Array, reached: Callable[[float], bool]) -> float:
    """Return the number of labels at which an end of the interval first reaches 0; NaN where it nowhere does."""
    for place, end in enumerate(ends):
        if reached(float(end)):
            before, now = float(ends[place - 1]), float(end)
            part = before / (before - now) if before != now else 1.0
            return float(2 ** (steps[place - 1] + part * (steps[place] - steps[place - 1])))
    return math.nan
