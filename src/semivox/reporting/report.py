"""Scores of many runs -> one offline HTML file: tables, paired tests, figures, slices, configs and commands."""

import importlib.metadata
import math
import platform
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import semivox
from semivox.files import if_given, listed, write_atomic
from semivox.reporting.cases import case_records, size_text, tabulate_cases
from semivox.reporting.curves import draw_collapse, draw_losses
from semivox.reporting.details import read_logs, run_details, run_name, time_text
from semivox.reporting.downloads import csv_uri
from semivox.reporting.figures import draw_cases
from semivox.reporting.gallery import class_values, gallery, side_by_side
from semivox.reporting.headline import first_comparisons, full_sentence, headline
from semivox.reporting.slices import PREDICTION, TRUTH, outline_colours
from semivox.reporting.subgroups import subgroup_rows
from semivox.reporting.tables import (
    Tables,
    find_controls,
    markdown_table,
    metric_name,
    overlap_text,
    p_text,
    score_text,
    summary_tables,
    tabulate,
)
from semivox.scoring.comparison import Comparison, compare_views, higher_is_better, paired_scores, per_case
from semivox.scoring.frequency import class_shares
from semivox.scoring.likeness import group_scores
from semivox.scoring.ranks import rankings
from semivox.scoring.scores import Group, read_scores

__all__ = ["markdown_table", "summary_tables", "write_report"]


def write_report(
    scores: Path | str | Sequence[Path | str],
    output: Path | str,
    *,
    control: str | None = "supervised",
    further_controls: Sequence[str] = (),
    images: Path | str | None = None,
    title: str = "What did the unlabelled scans bring?",
    subgroups: Mapping[str, Sequence[str]] = MappingProxyType({}),
    notes: Sequence[str] = (),
) -> Path:
    """Write one HTML file that needs nothing else, and return its path.

    A section whose input is missing (pictures, logs, configs) says so; only the scores themselves are needed.

    Args:
        scores: scores.csv files, each beside its scores.json.
        output: the HTML file.
        control: group or method that the others are compared with, see `summary_tables`.
        further_controls: the same, for further tables of paired tests.
        images: a folder of the scans, for the pictures, where scores.json does not name them or they moved.
        title: heading of the report.
        subgroups: names of cases, or patients, by the name of what sets them apart: they are described by themselves.
        notes: sentences that stand before those on what limits the numbers.

    Raises:
        DatasetError: no scores, or a file that is no table of scores.
        RunError: the file cannot be written.
    """
    groups = group_scores([read_scores(path) for path in listed(scores)])
    tables = tabulate(groups, control=control)
    by_name = {group.name: group for group in groups}
    ordered = [by_name[name] for name in tables.groups]
    logs = {group.name: [log for run in group.runs for log in read_logs(run)] for group in ordered}
    known = {name: found for name, found in logs.items() if found}
    first, folder, values = tables.metrics[0], if_given(images), class_values(ordered)
    runs = [run_details(run) for group in ordered for run in group.runs]
    html = page_template("report.html").render(
        title=title,
        headline=headline(tables),
        tables=tables,
        first=first,
        sentences=_sentences(tables),
        shares=class_shares([run.path for group in groups for run in group.runs]),
        notes=(*notes, *_out_of_fold(ordered), *tables.notes),
        further={name: _against(name, ordered, tables) for name in further_controls},
        rankings=rankings(ordered, tables.controls, first),
        subgroups=list(subgroup_rows(ordered, tables.controls, subgroups, first)),
        run_rows=_run_rows(tables),
        cases=tabulate_cases(ordered, tables.metrics),
        case_records=list(case_records(ordered)),
        overlaps={group: overlap_text(tables, group) for group in tables.groups},
        views=(None, *(tables.labels if len(tables.labels) > 1 else ())),
        cases_figure=_draw_cases(tables, by_name),
        losses_figure=draw_losses(known) if known else "",
        no_losses=[name for name in logs if name not in known],
        collapse_figure=draw_collapse(known),
        pictures={group.name: list(gallery(group, first, folder, values)) for group in ordered},
        together=list(side_by_side(ordered, first, folder, values)) if len(ordered) > 1 else [],
        class_colours={values[value]: colour for value, (colour, _) in outline_colours(values).items()},
        truth_colour=TRUTH,
        prediction_colour=PREDICTION,
        runs=runs,
        records=[run.record() for run in runs],
        nan=math.nan,
        environment=_environment(),
    )
    output = Path(output)
    write_atomic(output, lambda file: file.write(html.encode("utf-8", "backslashreplace")))
    return output


def page_template(name: str) -> Any:
    """Return a template by its file's name, with the filters that pages use."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("semivox.reporting", "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"score": score_text, "metric": metric_name, "p": p_text, "size": size_text}
    environment.filters |= {"csv": csv_uri, "time": time_text, "run_name": run_name}
    environment.tests["higher_better"] = higher_is_better
    return environment.get_template(name)


def _sentences(tables: Tables) -> list[str]:
    """Return a sentence per comparison, where the headline only counts them."""
    found = first_comparisons(tables)
    return [full_sentence(tables, c) for c in found] if len(found) > 1 else []


def _out_of_fold(groups: Sequence[Group]) -> list[str]:
    """Return a note that names the groups whose scores are those of a cross-validation."""
    names = sorted(group.name for group in groups if any(run.prediction.get("out_of_fold") for run in group.runs))
    text = (
        f"{', '.join(names)}: out-of-fold scores, each case by a run of a cross-validation that did not train on it, "
        "with fewer labels than there are"
    )
    return [text] if names else []


def _run_rows(tables: Tables) -> list[dict[str, Any]]:
    """Return a row per run: group, seed, cases, the mean of every metric, and the mIoU where it was of pictures."""
    rows = []
    for group in tables.groups:
        by_metric = {m: [run for run in tables.runs if (run.group, run.metric) == (group, m)] for m in tables.metrics}
        first = by_metric[tables.metrics[0]]
        overlaps = tables.overlaps.get(group, (math.nan,) * len(first))
        for number, run in enumerate(first):
            means = {metric: runs[number].mean for metric, runs in by_metric.items()}
            facts = {"group": group, "seed": run.seed, "draw": run.draw, "cases": run.cases}
            rows.append(facts | {"means": means, "overlap": overlaps[number]})
    return rows


def _draw_cases(tables: Tables, groups: Mapping[str, Group]) -> str:
    metric = tables.metrics[0]
    cases = {name: per_case(groups[name], metric) for name in tables.groups}
    means = {name: tables.summary(name, metric) for name in tables.groups}
    differences = {}
    for name, control in tables.controls.items():
        found = tables.comparison(name, metric)
        if found is not None and found.cases:
            pairs = paired_scores(groups[name], groups[control], metric)
            points = {case: mine - theirs for case, (mine, theirs) in pairs.items()}
            differences[name] = (points, (found.difference, found.low, found.high))
    spans = {name: (s.mean, s.low, s.high) for name, s in means.items()}
    return draw_cases(cases, spans, differences, metric=metric_name(metric))


def _against(control: str, groups: Sequence[Group], tables: Tables) -> list[Comparison]:
    """Return the comparisons of all groups with a further control; none where it is not among them."""
    by_name = {group.name: group for group in groups}
    pairs = [(by_name[name], by_name[other]) for name, other in find_controls(groups, control).items()]
    return compare_views(pairs, tables.metrics, tables.labels)


def _environment() -> dict[str, str]:
    packages = ("numpy", "scipy", "matplotlib")
    return {
        "semivox": semivox.__version__,
        "python": platform.python_version(),
        **{name: importlib.metadata.version(name) for name in packages},
        "system": f"{platform.system()} {platform.machine()}",
    }
