"""Trainings that are told apart by draw of the labelled cases or by seed: so intervals may speak for others, too."""

from collections.abc import Mapping, Sequence

from semivox.scoring.interval import training_reach
from semivox.scoring.scores import Group
from semivox.scoring.verdict import SEEDS


def by_training(*groups: Group) -> tuple[str, list[tuple[Group, ...]]]:
    """Return what sets the groups' trainings apart, and the groups once for every draw, or seed, that all of them have.

    Draws come first: two seeds on the same labelled cases are alike in what those cases are, so that where three draws
    are known, each is one observation, its seeds averaged. With fewer draws it is the seeds, which then speak for other
    seeds on these labelled cases. With fewer than three of either it is ("", []): a spread of two says next to nothing.
    """
    for word, parts in (("draws", [g.by_draw for g in groups]), ("seeds", [g.by_seed for g in groups])):
        common = set.intersection(*({*by} for by in parts)) - {None}
        if len(common) >= SEEDS:
            return word, [tuple(by[value] for by in parts) for value in sorted(common, key=str)]
    return "", []


def reach_of(rows: Sequence[Mapping[str, float]]) -> float:
    """Return the reach of trainings, each {case: value}, over the cases that all of them have a value of."""
    cases = sorted(set.intersection(*({*row} for row in rows))) if rows else []
    return training_reach([[row[case] for case in cases] for row in rows]) if cases else 0.0
