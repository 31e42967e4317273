"""Mean ranks of several methods over the cases, and which of them no test tells apart: a critical-difference table."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from string import ascii_lowercase

import numpy as np
from numpy.typing import NDArray

from semivox.scoring.comparison import higher_is_better, holm, per_case, wilcoxon_p
from semivox.scoring.likeness import confounders
from semivox.scoring.scores import Group
from semivox.scoring.verdict import LEVEL

LEAST = 3
"""Methods from which on ranks say more than the one difference."""


@dataclass(frozen=True)
class Rank:
    """One method among those that were compared with the same control, and that control.

    Attributes:
        group: the group's display name.
        rank: mean over the cases, 1 for the best; ties share theirs.
        alike: letters, one for each set of neighbours in which no pair is told apart; who shares one is not.
        cases: number of cases that all of them were scored on.
        failed_cases: cases in which a run failed (a missing or an empty mask).
        failed_runs: runs that failed in a case.
        runs: number of runs.
    """

    group: str
    rank: float
    alike: str
    cases: int
    failed_cases: int
    failed_runs: int
    runs: int


@dataclass(frozen=True)
class Ranking:
    """The methods of one control, the best first, with p of Friedman's test that all are alike."""

    control: str
    p: float
    ranks: tuple[Rank, ...]


def rankings(groups: Sequence[Group], controls: Mapping[str, str], metric: str) -> list[Ranking]:
    """Return a ranking for every control that two comparable groups have, by the mean over each case's classes."""
    by_name = {group.name: group for group in groups if metric in group.metrics}
    found = []
    for control in dict.fromkeys(controls.values()):
        names = [name for name, other in controls.items() if other == control and {name, other} <= by_name.keys()]
        like = [by_name[name] for name in names if not confounders(by_name[name], by_name[control], metric)]
        if len(like) + 1 >= LEAST:
            found.append(_ranking([by_name[control], *like], control, metric))
    return [ranking for ranking in found if ranking.ranks]


def _ranking(groups: Sequence[Group], control: str, metric: str) -> Ranking:
    from scipy.stats import friedmanchisquare, rankdata

    scores = [per_case(group, metric) for group in groups]
    cases = sorted(set.intersection(*({*found} for found in scores)))
    if not cases:
        return Ranking(control, math.nan, ())
    table = np.array([[found[case] for case in cases] for found in scores])  # (groups, cases)
    table = np.round(table, 12)  # as in the tests of pairs: rounding noise is no rank
    means = rankdata(-table if higher_is_better(metric) else table, axis=0).mean(1)
    order = np.argsort(means, kind="stable")
    letters = _letters(table[order])
    ranks = (
        replace(_failures(groups[place], metric), rank=float(means[place]), alike=alike, cases=len(cases))
        for place, alike in zip(order, letters, strict=True)
    )
    same = bool((table == table[0]).all())
    return Ranking(control, 1.0 if same else float(friedmanchisquare(*table).pvalue), tuple(ranks))


def _letters(table: NDArray[np.float64]) -> list[str]:
    """Return the letters of (groups, cases) scores in order of their rank: one a maximal set of alike neighbours.

    Pairs are tested by Wilcoxon's signed-rank test, corrected by Holm's method over all pairs: unlike Nemenyi's
    critical difference, what tells two apart does not hang on which others were tried, but for that correction.
    """
    pairs = [*combinations(range(len(table)), 2)]
    p = holm([wilcoxon_p(table[a] - table[b]) for a, b in pairs])
    apart = {pair for pair, adjusted in zip(pairs, p, strict=True) if adjusted < LEVEL}
    ends = [max(e for e in range(s, len(table)) if not _any_apart(apart, s, e)) for s in range(len(table))]
    spans = [(start, end) for start, end in enumerate(ends) if start == 0 or end > ends[start - 1]]
    names = [ascii_lowercase[n] if n < len(ascii_lowercase) else f"({n + 1})" for n in range(len(spans))]
    return [
        "".join(name for name, (start, end) in zip(names, spans, strict=True) if start <= place <= end)
        for place in range(len(table))
    ]


def _any_apart(apart: set[tuple[int, int]], start: int, end: int) -> bool:
    return any(pair in apart for pair in combinations(range(start, end + 1), 2))


def _failures(group: Group, metric: str) -> Rank:
    """Return what a group failed in; its rank is not known yet."""
    failed = [{row.case for row in run.rows if row.failed and metric in row.values} for run in group.runs]
    return Rank(group.name, math.nan, "", 0, len(set().union(*failed)), sum(map(bool, failed)), len(group.runs))
