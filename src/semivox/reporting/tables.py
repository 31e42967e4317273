"""Scores of many runs -> all numbers of a report, as plain data and as Markdown."""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

from semivox.scoring.comparison import Comparison, Summary, compare_all, higher_is_better, per_case, summarise
from semivox.scoring.likeness import confounders, group_differences, group_scores, hd95_definitions, is_known, words
from semivox.scoring.scores import Group, read_scores

NAMES = {"dice": "Dice", "jaccard": "Jaccard", "hd95": "HD95", "hd": "HD", "asd": "ASD", "assd": "ASSD", "nsd": "NSD"}
UNITS = {"mm", "voxel", "pixel"}

@dataclass(frozen=True)
class RunMean:
    """One run's mean over cases; ``seed`` and ``draw`` are None where scores.json does not say them."""

    group: str
    seed: int | None
    metric: str
    mean: float
    cases: int
    draw: int | None = None


@dataclass(frozen=True)
class Tables:
    """All numbers of a report.

    Attributes:
        groups: display names, controls first.
        metrics: columns of scores.csv, Dice first.
        labels: class names.
        summaries: per group, label (None first) and metric.
        comparisons: every other group against its control.
        pairs: all pairs of groups.
        runs: each run's own mean.
        overlaps: the mIoU of every run by group, NaN where it has none; groups scored on scans are not in it.
        controls: the control of every group that has one.
        challengers: groups of another method than their control's; the rest is the same method with more labels, say.
        notes: what a reader must know before trusting the numbers, in sentences.
    """

    groups: tuple[str, ...]
    metrics: tuple[str, ...]
    labels: tuple[str, ...]
    summaries: tuple[Summary, ...]
    comparisons: tuple[Comparison, ...]
    pairs: tuple[Comparison, ...]
    runs: tuple[RunMean, ...]
    overlaps: Mapping[str, tuple[float, ...]]
    controls: Mapping[str, str]
    challengers: frozenset[str]
    notes: tuple[str, ...]

    def summary(self, group: str, metric: str, label: str | None = None) -> Summary:
        """Return the one summary of a group, metric and label."""
        key = (group, metric, label)
        return next(s for s in self.summaries if (s.group, s.metric, s.label) == key)

    def comparison(self, group: str, metric: str, label: str | None = None) -> Comparison | None:
        """Return a group's comparison with its control; None for a control and where there is none."""
        key = (group, metric, label)
        return next((c for c in self.comparisons if (c.group, c.metric, c.label) == key), None)


def summary_tables(scores: Sequence[Path], *, control: str | None = "supervised") -> Tables:
    """Return all numbers of a report on these scores.csv files.

    Args:
        scores: scores.csv files, each beside its scores.json.
        control: name of the group, or of the method, that the others are compared with. Where several groups are of
            this method (several label budgets), each group is compared with the one trained on the same splits.

    Raises:
        DatasetError: no file, or one that is no table of scores.
    """
    return tabulate(group_scores([read_scores(path) for path in scores]), control=control)


def tabulate(groups: Sequence[Group], *, control: str | None = "supervised") -> Tables:
    """Return all numbers about groups of runs; see `summary_tables`."""
    controls = find_controls(groups, control)
    groups = sorted(groups, key=lambda g: g.name not in controls.values())  # stable: controls first
    by_name = {group.name: group for group in groups}
    metrics = tuple(sorted(dict.fromkeys(m for g in groups for m in g.metrics), key=lambda m: m != "dice"))
    labels = tuple(dict.fromkeys(row.label for g in groups for run in g.runs for row in run.rows))
    views = (None, *(labels if len(labels) > 1 else ()))
    against = [(by_name[name], by_name[other]) for name, other in controls.items()]
    pairs = [(second, first) for first, second in combinations(groups, 2)]
    return Tables(
        groups=tuple(by_name),
        metrics=metrics,
        labels=labels,
        summaries=tuple(summarise(g, m, v) for g in groups for v in views for m in metrics),
        comparisons=tuple(c for v in views for m in metrics for c in compare_all(against, m, v)),
        pairs=tuple(c for v in views for m in metrics for c in compare_all(pairs, m, v)),
        runs=tuple(run for g in groups for m in metrics for run in _run_means(g, m)),
        overlaps={g.name: tuple(r.miou for r in g.runs) for g in groups if not all(math.isnan(r.miou) for r in g.runs)},
        controls=controls,
        challengers=frozenset(group.name for group, other in against if group.method != other.method),
        notes=tuple(_notes(groups, controls, control)),
    )


def find_controls(groups: Sequence[Group], control: str | None) -> dict[str, str]:
    """Return which group is the control of which other, by name; empty where there is none."""
    named = [group for group in groups if control in (group.name, group.label)]
    named = named or [group for group in groups if control and group.method == control]
    found = {group.name: _control_of(group, named) for group in groups if group not in named}
    return {name: other.name for name, other in found.items() if other}


def _control_of(group: Group, named: Sequence[Group]) -> Group | None:
    """Return the one control that a group is compared with; None where there is none, or several are as good.

    A comparable one before others, then one of the same split; what is left is shown, and called not comparable.
    """
    comparable = [c for c in named if not confounders(group, c)]
    same_split = [c for c in comparable or named if c.splits == group.splits]
    best = same_split or comparable or named
    return best[0] if len(best) == 1 or (best and not comparable) else None


def metric_name(metric: str) -> str:
    """Return the display name of a column: "hd95_mm" -> "HD95 (mm)", "nsd_at_2mm" -> "NSD at 2 mm"."""
    first, *rest = re.sub(r"(\d)(mm|voxel|pixel)$", r"\1_\2", metric).split("_")
    if len(rest) == 1 and rest[0] in UNITS:
        rest = [f"({rest[0]})"]
    return " ".join([NAMES.get(first, first), *rest])


def score_text(value: float, metric: str, *, signed: bool = False) -> str:
    """Return a score for people: three decimals for overlaps, two for distances, a dash where undefined."""
    if math.isnan(value):
        return "–"
    text = f"{value:{'+' if signed else ''}.{3 if higher_is_better(metric) else 2}f}"
    return text.replace("-", "−")


def overlap_text(tables: Tables, group: str) -> str:
    """Return a group's mIoU, the mean over its runs; a dash where it was scored on scans."""
    found = [value for value in tables.overlaps.get(group, ()) if not math.isnan(value)]
    return score_text(sum(found) / len(found) if found else math.nan, "miou")


def p_text(p: float) -> str:
    """Return a p value for people."""
    if math.isnan(p):
        return "–"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def markdown_table(tables: Tables, *, label: str | None = None, metrics: Sequence[str] | None = None) -> str:
    """Return a Markdown table: per group the mean ± sd of each metric and the paired difference of the first one.

    Pictures have a column more, without a label: the mean of the runs' mIoU, one number of a whole run each.

    Args:
        tables: the numbers.
        label: name of a class; None is the mean over each case's classes.
        metrics: columns of scores.csv; None takes all.
    """
    metrics = tuple(metrics or tables.metrics)
    first = metric_name(metrics[0])
    told = [f"Δ {first} [95 %]", "p (Holm)", "Verdict"]
    head = ["Method", "Runs", "Cases", *map(metric_name, metrics), *told, "Failures"]
    lines = [head, ["---", *["---:"] * (len(head) - 3), "---", "---:"]]
    for group in tables.groups:
        own = [tables.summary(group, metric, label) for metric in metrics]
        runs = sum(run.group == group and run.metric == tables.metrics[0] for run in tables.runs)
        scores = [f"{score_text(s.mean, s.metric)} ± {score_text(s.sd, s.metric)}" for s in own]
        difference = _difference(tables.comparison(group, metrics[0], label))
        lines.append([group, str(runs), str(own[0].cases), *scores, *difference, f"{own[0].failures} of {own[0].rows}"])
    if tables.overlaps and label is None:
        column = ["mIoU", "---:", *(overlap_text(tables, group) for group in tables.groups)]
        lines = [[*line, cell] for line, cell in zip(lines, column, strict=True)]
    return "\n".join(f"| {' | '.join(cell.replace('|', '/') for cell in line)} |" for line in lines) + "\n"


def _difference(comparison: Comparison | None) -> tuple[str, str, str]:
    """Return the cells of a paired difference with its interval, of its corrected p, and of its verdict."""
    if comparison is None:
        return "–", "–", "–"
    c = comparison
    value, low, high = (score_text(v, c.metric, signed=True) for v in (c.difference, c.low, c.high))
    return f"{value} [{low}, {high}]", p_text(c.p_holm), c.verdict


def _run_means(group: Group, metric: str) -> Iterator[RunMean]:
    """Return each run's own mean over its cases."""
    for run in group.runs:
        values = list(per_case(Group(group.name, (run,)), metric).values())
        mean = sum(values) / len(values) if values else math.nan
        yield RunMean(group.name, run.seed, metric, mean, len(values), run.draw)


def _notes(groups: Sequence[Group], controls: Mapping[str, str], control: str | None) -> list[str]:
    """Return what limits the numbers, in sentences."""
    of_runs = [*_notes_on_patients(groups), *_notes_on_cases(groups), *_notes_on_runs(groups)]
    return [*_notes_on_training(groups), *_notes_on_control(groups, controls, control), *of_runs]


def _notes_on_control(groups: Sequence[Group], controls: Mapping[str, str], control: str | None) -> Iterator[str]:
    if len(groups) > 1 and not controls:
        which = f"none of the groups is '{control}'" if control else "none was named"
        yield f"No control: {which}, so what the unlabelled scans brought cannot be shown."
    by_name = {group.name: group for group in groups}
    for name, other in controls.items():
        yield from _notes_on_likeness(by_name[name], by_name[other])
    unlike = [group.name for group in groups if not all(map(is_known, group.runs))]
    if unlike and len(groups) > 1:
        yield f"Whether they are comparable cannot be seen: split, steps or config are unknown of {', '.join(unlike)}."


def _notes_on_likeness(group: Group, control: Group) -> Iterator[str]:
    """Return in what a group and its control differ beside their methods, and what follows."""
    found = confounders(group, control)
    wanted = words(group_differences(group, control))
    if found:
        yield f"Not comparable: {group.name} and {control.name} differ in more than their method: {'; '.join(found)}."
    elif wanted:
        yield f"{group.name} and {control.name} differ in {'; '.join(wanted)}: that is what they are compared by."
    for mine, theirs in hd95_definitions(group, control).values():
        who = f"it is {mine} of {group.name}, {theirs} of {control.name}"
        yield f"HD95 not comparable: {who}; evaluate one of them again."


def _notes_on_patients(groups: Sequence[Group]) -> Iterator[str]:
    """Return that no patients are told apart, where runs disagree on how names tell them."""
    known = sorted({run.patients for group in groups for run in group.runs if run.patients})
    if len(known) > 1:
        yield f"Every scan counts by itself: runs have different expressions for the patient: {', '.join(known)}."


def _notes_on_training(groups: Sequence[Group]) -> Iterator[str]:
    """Return which scored cases the runs have seen in training, apart from all means."""
    for group in groups:
        learned = [row for run in group.runs for row in run.learned]
        if learned:
            metric = group.metrics[0]
            known = [row.values[metric] for row in learned if not math.isnan(row.values[metric])]
            mean = score_text(sum(known) / len(known) if known else math.nan, metric)
            names = ", ".join(sorted({row.case for row in learned}))
            apart = f"with a mean {metric_name(metric)} of {mean}"
            yield f"Trained on, and so in no mean: {names} of {group.name}, {apart}."
        seen = sorted({row.case for run in group.runs for row in run.rows if row.trained_on})
        if seen:
            yield f"Transductive: {group.name} had {', '.join(seen)} in its unlabelled pool; they are in the means."


def _notes_on_cases(groups: Sequence[Group]) -> Iterator[str]:
    if len({group.cases for group in groups}) > 1:
        yield "The groups were not scored on the same cases; paired tests use the cases that both have."
    if len({group.labels for group in groups}) > 1:
        yield "The groups were not scored on the same classes; paired tests use the classes that both have."
    if any(group.patients for group in groups):
        yield "The scans of a patient were averaged first: cases are patients."
    fewest = min(len({case for case, _ in group.cells(group.metrics[0])}) for group in groups)
    if fewest < 6:
        yield (
            f"With {fewest} cases the signed-rank test cannot go below p = {min(1.0, 2 ** (1 - fewest)):.3g}, so no "
            "difference can be shown."
        )


def _notes_on_runs(groups: Sequence[Group]) -> Iterator[str]:
    once = [group.name for group in groups if len(group.runs) == 1]
    if once:
        yield f"Trained once, so the spread over seeds is unknown: {', '.join(once)}."
    twice = [g.name for g in groups if len(g.runs) > len({(run.seed, run.split) for run in g.runs})]
    if twice:
        yield f"Several runs have the same seed and split, or do not say theirs: {', '.join(twice)}."
