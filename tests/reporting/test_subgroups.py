"""Subgroups that a protocol names: means and paired differences within each, of cases or of patients."""

import math

import pytest

from semivox.reporting.report import write_report
from semivox.reporting.subgroups import subgroup_rows
from semivox.scoring.likeness import group_scores
from semivox.scoring.scores import read_scores


def rows_of(paths, subgroups):
    groups = group_scores([read_scores(path) for path in paths])
    return [*subgroup_rows(groups, {"ua_mt": "supervised"}, subgroups, "dice")]


def test_means_and_differences_are_those_of_the_subgroups_cases(scored):
    """Ten cases from .6 to .8; the method is alternately .02 more and .02 less beside its shift of .1."""
    paths = [scored("supervised", 0.0), scored("ua_mt", 0.1, spread=0.02)]
    found = rows_of(paths, {"even": ["case_0", "case_2", "case_4"], "odd": ["case_1", "case_9"], "gone": ["case_77"]})
    assert [(row.subgroup, row.group, row.cases) for row in found] == [
        ("even", "supervised", 3), ("even", "ua_mt", 3), ("odd", "supervised", 2), ("odd", "ua_mt", 2),
    ]  # fmt: skip
    assert [row.mean for row in found] == pytest.approx([0.6 + 0.4 / 9, 0.72 + 0.4 / 9, 0.6 + 1 / 9, 0.68 + 1 / 9])
    assert [row.difference for row in found[1::2]] == pytest.approx([0.12, 0.08])
    assert math.isnan(found[0].difference)
    assert found[1].control == "supervised"


def test_patients_are_named_where_the_split_knows_them(scored):
    told = {"prediction": {"patients": r"case_\d"}}
    found = rows_of([scored("supervised", 0.0, **told)], {"turned": ["case_3", "case_4"]})
    assert [(row.cases, row.control) for row in found] == [(2, "")]


def test_the_report_shows_them_as_description_and_has_no_section_without_them(scored, tmp_path):
    paths = [scored("supervised", 0.0), scored("ua_mt", 0.1)]
    assert "Subgroups" not in write_report(paths, tmp_path / "a.html").read_text()
    html = write_report(paths, tmp_path / "b.html", subgroups={"turned": ["case_0", "case_5"]}).read_text()
    section = html.split('id="subgroups"')[1].split("</section>")[0]
    assert "They describe" in section
    assert "+0.100 [+0.100, +0.100]" in section
    assert "better" not in section
