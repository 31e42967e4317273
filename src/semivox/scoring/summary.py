"""Summary of score rows: mean, spread and counts of failures and exclusions, per class and over the classes."""

import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from semivox.scoring.metrics import class_ious

METRICS = ("dice", "jaccard", "hd95", "asd", "assd", "nsd")
"""First words of the columns that hold scores; the rest of a column's name is its unit and tolerance."""


def summarise(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return mean, sample standard deviation and count of every score, per class and over the classes.

    Returns:
        {"classes": {name: {"cases", "failures", "both_empty", "missing", column: {"mean", "sd", "count"}}},
        "mean": the same over the classes, where each case counts once, with the mean over its classes}. NaN scores are
        left out of means; what is left undefined is NaN.
    """
    by_name: dict[str, list[Mapping[str, Any]]] = {}
    by_case: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_name.setdefault(row["name"], []).append(row)
        by_case.setdefault(row["case"], []).append(row)
    columns = score_columns(rows)
    per_case = [{column: _mean(row[column] for row in group) for column in columns} for group in by_case.values()]
    return {
        "classes": {name: _counts(group) | _moments(group, columns) for name, group in by_name.items()},
        "mean": _counts(rows) | _moments(per_case, columns),
    }


def summarise_apart(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the summary of the rows whose labels no training saw, and apart from it what training saw.

    Returns:
        As `summarise`, and {"trained_on": {"names": cases, "mean": theirs alone}, "transductive": names of the cases
        that were unlabelled in training, which are in the means}.
    """
    counted, learned = parted(rows)
    names = sorted({row["case"] for row in learned})
    apart = {"names": names, "mean": summarise(learned)["mean"]} if names else {"names": []}
    unlabelled = sorted({row["case"] for row in counted if row.get("trained_on") == "unlabelled"})
    return {**summarise(counted), "trained_on": apart, "transductive": unlabelled}


def parted(rows: Sequence[Mapping[str, Any]]) -> tuple[list[Mapping[str, Any]], list[Mapping[str, Any]]]:
    """Return the rows that count, and those of cases whose labels were trained on."""
    counted = [row for row in rows if row.get("trained_on") != "labelled"]
    return counted, [row for row in rows if row.get("trained_on") == "labelled"]


def summarise_overlap(confusion: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    """Return the mIoU of all images together, from their one confusion matrix.

    Returns:
        {"mean": over the classes that truth or prediction have, background included, "classes": {name: IoU},
        "absent": names of the classes that neither has, which are in no mean, "pixels": counted ones, "confusion": the
        matrix, see `semivox.scoring.metrics.confusion_matrix`}. What is undefined is NaN.
    """
    ious = class_ious(confusion)
    absent = np.isnan(ious)
    return {
        "mean": math.nan if absent.all() else float(ious[~absent].mean()),
        "classes": dict(zip(classes, ious.tolist(), strict=True)),
        "absent": [name for name, missing in zip(classes, absent, strict=True) if missing],
        "pixels": int(confusion.sum()),
        "confusion": confusion.tolist(),
    }


def describe_evaluation(scores: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    """Return what `evaluate` prints: the folders' counts, the scores, and the mIoU of pictures."""
    summary = json.loads(scores.with_suffix(".json").read_text())
    found, overlap = summary["found"], summary.get("miou")
    counted, learned = parted(rows)
    lines = [f"found {found['masks']} masks and {found['labels']} labels"]
    lines += [describe_scores(counted)] if counted else ["no case counts: the run was trained on all of them"]
    if learned:
        names = summary["trained_on"]["names"]
        lines += [f"trained on, and in no mean: {', '.join(names)}", *_indented(describe_scores(learned))]
    if summary["transductive"]:
        lines += [f"transductive, unlabelled in training and counted: {', '.join(summary['transductive'])}"]
    return "\n".join(lines + ([describe_overlap(overlap)] if overlap else []))


def _indented(text: str) -> list[str]:
    return [f"  {line}" for line in text.splitlines()]


def describe_overlap(overlap: Mapping[str, Any]) -> str:
    """Return a mIoU as a line for people; see `summarise_overlap`."""
    shown = "  ".join(f"{name} {iou:.4f}" for name, iou in overlap["classes"].items() if iou is not None)
    absent = f", {len(overlap['absent'])} absent from both and left out" if overlap["absent"] else ""
    value = "undefined" if overlap["mean"] is None else f"{overlap['mean']:.4f}"
    return f"mIoU over all pictures {value} of {len(overlap['classes'])} classes{absent}: {shown}"


def describe_scores(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return the means and spreads as lines for people: one per class, one over the classes, and what failed."""
    found = summarise(rows)
    columns = score_columns(rows)
    groups = {**found["classes"], **({"mean of classes": found["mean"]} if len(found["classes"]) > 1 else {})}
    lines = []
    for name, group in groups.items():
        cells = [f"{column} {group[column]['mean']:.4f} ± {group[column]['sd']:.4f}" for column in columns]
        lines.append(f"{name}: {'  '.join(cells)}")
    counts = found["mean"]
    lines.append(
        f"{counts['cases']} cases, {counts['failures']} failures ({counts['missing']} masks missing), "
        f"{counts['both_empty']} labels absent from both and left out"
    )
    return "\n".join(lines)


def score_columns(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the columns that hold scores, in order."""
    return [column for column in (rows[0] if rows else ()) if column.split("_")[0] in METRICS]


def _counts(rows: Sequence[Mapping[str, Any]]) -> dict[str, int]:
    return {
        "cases": len({row["case"] for row in rows}),
        "failures": sum(row["failure"] for row in rows),
        "both_empty": sum(row["both_empty"] for row in rows),
        "missing": len({row["case"] for row in rows if row["missing"]}),
    }


def _moments(rows: Sequence[Mapping[str, Any]], columns: Sequence[str]) -> dict[str, dict[str, float]]:
    found = {}
    for column in columns:
        values = [row[column] for row in rows if not math.isnan(row[column])]
        sd = statistics.stdev(values) if len(values) > 1 else math.nan
        found[column] = {"mean": _mean(values), "sd": sd, "count": len(values)}
    return found


def _mean(values: Iterable[float]) -> float:
    defined = [value for value in values if not math.isnan(value)]
    return statistics.fmean(defined) if defined else math.nan
