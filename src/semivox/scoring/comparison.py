"""Means, intervals and paired tests of groups of runs: the statistics behind every table.

The unit of every test is the case: runs of one group (the same method and settings, other seeds) are averaged per case
first, so that three seeds on twenty cases are twenty observations, not sixty. Groups are compared over the seeds that
both have. Where the split knows patients, the unit is the patient: two frames of one heart are one observation.

An interval is over cases and, where there are three of either, over draws of the labelled cases or seeds, too.
"""

from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike, NDArray

from semivox.scoring.interval import mean_interval
from semivox.scoring.likeness import confounders
from semivox.scoring.scores import Group
from semivox.scoring.trainings import by_training, reach_of
from semivox.scoring.verdict import verdict

DISTANCES = ("hd", "asd", "assd")
CASES = "cases"


@dataclass(frozen=True)
class Summary:
    """One group's scores on one metric.

    Attributes:
        group: the group's display name.
        label: name of the class; None is the mean over each case's classes.
        metric: column of scores.csv.
        mean, sd, low, high: over cases; ``low`` and ``high`` bound the 95 % interval of the mean. NaN where there are
            too few cases.
        over: what the interval is over: "cases", or with enough trainings "cases and seeds" or "cases and draws".
        cases: number of cases in it.
        rows: number of scored (run, case, class).
        failures: how many of the rows ``evaluate`` called a failure; they are in the mean.
        excluded: how many of the rows have no score (class absent in truth and prediction); they are not in the mean.
    """

    group: str
    label: str | None
    metric: str
    mean: float
    sd: float
    low: float
    high: float
    cases: int
    rows: int
    failures: int
    excluded: int
    over: str = CASES


@dataclass(frozen=True)
class Comparison:
    """A paired difference, group minus control, over the cases that both were scored on.

    Attributes:
        group, control: display names.
        label: name of the class; None is the mean over each case's classes.
        metric: column of scores.csv.
        cases: number of pairs.
        left_out: cases that only one of the two was scored on.
        mean, control_mean: over the pairs.
        difference, low, high: mean difference and its 95 % interval.
        over: what the interval is over, see `Summary`.
        p: Wilcoxon signed-rank test, two-sided; NaN without pairs.
        p_holm: ``p`` corrected by Holm's method within its family (same metric and label, all compared groups).
        seeds: how many seeds (or draws and seeds) both were trained with, see `common_seeds`.
        confounders: what else than their methods the two differ in; with any, they are not comparable.
    """

    group: str
    control: str
    label: str | None
    metric: str
    cases: int
    left_out: int
    mean: float
    control_mean: float
    difference: float
    low: float
    high: float
    p: float
    p_holm: float
    seeds: int
    confounders: tuple[str, ...] = ()
    over: str = CASES

    @property
    def verdict(self) -> str:
        """The one word for it, see `semivox.scoring.verdict`."""
        return verdict(
            self.difference, (self.low, self.high), self.p_holm,
            seeds=self.seeds, higher_is_better=higher_is_better(self.metric), comparable=not self.confounders,
        )  # fmt: skip


def higher_is_better(metric: str) -> bool:
    """Return whether more is better: true for overlaps, false for distances."""
    return not metric.startswith(DISTANCES)


def wilcoxon_p(differences: ArrayLike) -> float:
    """Return the two-sided p of Wilcoxon's signed-rank test; zeros are dropped, and nothing but zeros gives 1.

    No difference at all (n = 0) gives NaN. SciPy chooses the exact distribution where it can.
    """
    from scipy.stats import wilcoxon

    sample = np.asarray(differences, dtype=np.float64)
    if len(sample) == 0:
        return float("nan")
    # Scores that agree to the last digits would be ranked by rounding noise.
    sample = np.round(sample, 12)
    sample = sample[sample != 0]
    return float(wilcoxon(sample).pvalue) if len(sample) else 1.0


def holm(p: ArrayLike) -> NDArray[np.float64]:
    """Return Holm's step-down adjustment of (m,) p values; NaNs stay NaN and do not count into m.

    By hand: (0.01, 0.04, 0.03) -> (0.03, 0.06, 0.06).
    """
    adjusted = np.array(p, dtype=np.float64)
    known = np.flatnonzero(~np.isnan(adjusted))
    order = known[np.argsort(adjusted[known], kind="stable")]
    steps = adjusted[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(steps))
    return adjusted


def paired_scores(first: Group, second: Group, metric: str, label: str | None = None) -> dict[str, tuple[float, float]]:
    """Return {case: (first, second)}, each case's means over the classes that both groups have a score of.

    Where both have runs of the same seeds, these alone count: a seed that one of them lacks is no difference between
    methods.
    """
    first, second = _with_common_seeds(first, second)
    mine, theirs = first.cells(metric, label), second.cells(metric, label)
    common = mine.keys() & theirs.keys()
    left, right = _per_case({key: mine[key] for key in common}), _per_case({key: theirs[key] for key in common})
    return {case: (left[case], right[case]) for case in left}


def common_seeds(first: Group, second: Group) -> int:
    """Return how many seeds, or draws and seeds, both were trained with; 1 where they share none: it is seen once.

    Where seeds are unknown, none known to be shared, it is how many the one with fewer has: runs that do not say their
    seed count as one, since nobody knows that they differ in it.
    """
    mine, theirs = ({run.training for run in group.runs} for group in (first, second))
    return len(mine & theirs - {None}) or (min(len(mine), len(theirs)) if None in mine | theirs else 1)


def _with_common_seeds(first: Group, second: Group) -> tuple[Group, Group]:
    common = {run.training for run in first.runs} & {run.training for run in second.runs} - {None}
    return _with_seeds(first, common), _with_seeds(second, common)


def _with_seeds(group: Group, trainings: AbstractSet[tuple[int, int] | None]) -> Group:
    """Return the group's runs of these draws and seeds; all of them where there is none, or no other."""
    kept = tuple(run for run in group.runs if run.training in trainings)
    return group if len(kept) in (0, len(group.runs)) else replace(group, runs=kept)


def compare(first: Group, second: Group, metric: str, label: str | None = None) -> Comparison:
    """Return the paired difference `first` minus `second`, a family of one: Holm's p is p."""
    pairs = paired_scores(first, second, metric, label)
    a, b = np.array(list(pairs.values())).reshape(-1, 2).T
    word, units = by_training(first, second)
    pairs_of = (paired_scores(mine, theirs, metric, label) for mine, theirs in units)
    rows = [{case: x - y for case, (x, y) in found.items()} for found in pairs_of]
    low, high = mean_interval(a - b, reach=reach_of(rows))
    p = wilcoxon_p(a - b)
    everyone = {case for case, _ in first.cells(metric, label).keys() | second.cells(metric, label).keys()}
    return Comparison(
        group=first.name, control=second.name, label=label, metric=metric,
        cases=len(pairs), left_out=len(everyone) - len(pairs), mean=_mean(a), control_mean=_mean(b),
        difference=_mean(a - b), low=low, high=high, p=p, p_holm=p,
        seeds=common_seeds(first, second), confounders=confounders(first, second, metric), over=_over(word),
    )  # fmt: skip


def per_case(group: Group, metric: str, label: str | None = None) -> dict[str, float]:
    """Return each case's score, averaged over the group's runs and then, for `label` None, over its classes."""
    return _per_case(group.cells(metric, label))


def summarise(group: Group, metric: str, label: str | None = None) -> Summary:
    """Return mean, sd, interval and counts of one group on one metric."""
    values = np.array(list(per_case(group, metric, label).values()))
    word, units = by_training(group)
    low, high = mean_interval(values, reach=reach_of([per_case(unit, metric, label) for (unit,) in units]))
    rows = [row for run in group.runs for row in run.rows if label in (None, row.label) and metric in row.values]
    return Summary(
        group=group.name, label=label, metric=metric, mean=_mean(values),
        sd=float(values.std(ddof=1)) if len(values) > 1 else float("nan"), low=low, high=high, cases=len(values),
        rows=len(rows), failures=sum(row.failed for row in rows),
        excluded=sum(bool(np.isnan(row.values[metric])) for row in rows), over=_over(word),
    )  # fmt: skip


def compare_all(pairs: Sequence[tuple[Group, Group]], metric: str, label: str | None = None) -> list[Comparison]:
    """Return the comparisons of one family, corrected by Holm's method; pairs that lack the metric are left out."""
    known = [compare(a, b, metric, label) for a, b in pairs if metric in a.metrics and metric in b.metrics]
    return [replace(c, p_holm=float(p)) for c, p in zip(known, holm([c.p for c in known]), strict=True)]


def compare_views(
    pairs: Sequence[tuple[Group, Group]], metrics: Sequence[str], labels: Sequence[str]
) -> list[Comparison]:
    """Return the comparisons of all families: the mean over classes, then each class where there are several."""
    views = (None, *(labels if len(labels) > 1 else ()))
    return [c for view in views for metric in metrics for c in compare_all(pairs, metric, view)]


def _per_case(cells: Mapping[tuple[str, str], float]) -> dict[str, float]:
    """Return each case's mean over its classes."""
    by_case: dict[str, list[float]] = {}
    for (case, _), value in sorted(cells.items()):
        by_case.setdefault(case, []).append(value)
    return {case: float(np.mean(values)) for case, values in by_case.items()}


def _over(word: str) -> str:
    return f"{CASES} and {word}" if word else CASES


def _mean(values: ArrayLike) -> float:
    """Return the mean; NaN without values."""
    values = np.asarray(values)
    return float(values.mean()) if values.size else float("nan")
