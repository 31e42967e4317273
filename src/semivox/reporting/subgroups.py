"""Scores within subgroups of the cases that a protocol names: they describe, and no test is made of them."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from semivox.data.patients import patient_of
from semivox.scoring.comparison import compare, summarise
from semivox.scoring.scores import Group


@dataclass(frozen=True)
class SubgroupRow:
    """One method within one subgroup; NaN where there is nothing, or no control.

    Attributes:
        subgroup, group: their names.
        cases: number of cases, or of patients.
        mean, sd: over them.
        control: what the difference is from, "" where there is none.
        difference, low, high: mean paired difference with its 95 % interval.
    """

    subgroup: str
    group: str
    cases: int
    mean: float
    sd: float
    control: str
    difference: float
    low: float
    high: float


def subgroup_rows(
    groups: Sequence[Group], controls: Mapping[str, str], subgroups: Mapping[str, Sequence[str]], metric: str
) -> Iterator[SubgroupRow]:
    """Yield each method in each subgroup that has a scored case, by the mean over each case's classes.

    Args:
        groups: of runs.
        controls: the control of every group that has one, by name.
        subgroups: names of cases, or of patients where the runs' split knows them, by the subgroup's name.
        metric: column of scores.csv that all groups have.
    """
    for name, members in subgroups.items():
        within = {group.name: part for group in groups if (part := _restricted(group, {*members}))}
        for group in within.values():
            own, control = summarise(group, metric), within.get(controls.get(group.name, ""))
            told = (own.cases, own.mean, own.sd)
            if control is None:
                yield SubgroupRow(name, group.name, *told, "", math.nan, math.nan, math.nan)
                continue
            found = compare(group, control, metric)
            yield SubgroupRow(name, group.name, *told, control.name, found.difference, found.low, found.high)


def _restricted(group: Group, members: set[str]) -> Group | None:
    """Return a group with the rows of these cases or patients alone; None where it has none."""
    runs = [
        replace(run, rows=tuple(
            row for row in run.rows if members & {row.case, patient_of(row.case, group.patients, unknown=row.case)}
        )) for run in group.runs
    ]  # fmt: skip
    runs = [run for run in runs if run.rows]
    return replace(group, runs=tuple(runs)) if runs else None
