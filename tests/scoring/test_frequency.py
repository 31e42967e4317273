"""Class frequency: shares of the foreground by hand, each case once, the rarest class first."""

import pytest

from semivox.scoring.frequency import class_shares


@pytest.fixture
def scored(tmp_path):
    """Write a scores.csv of rows (case, class, size), and return it."""

    def write(rows, column="truth_voxels"):
        file = tmp_path / f"scores-{len(list(tmp_path.iterdir()))}.csv"
        lines = [f"{case},1,{name},0.5,{size}" for case, name, size in rows]
        file.write_text("\n".join([f"case,label,name,dice,{column}", *lines]) + "\n")
        return file

    return write


def test_shares_are_of_the_foreground_of_all_cases_and_the_rarest_comes_first(scored):
    file = scored([("a", "big", 60), ("a", "small", 10), ("b", "big", 20), ("b", "small", 10)])
    assert class_shares([file]) == {"small": 0.2, "big": 0.8}
    assert [*class_shares([file])] == ["small", "big"]


def test_a_case_that_two_runs_scored_counts_once(scored):
    once = [("a", "x", 1), ("a", "y", 3)]
    more = scored([*once, ("b", "x", 4)])
    assert class_shares([scored(once), scored(once), more]) == {"y": 3 / 8, "x": 5 / 8}


def test_without_sizes_in_one_unit_nothing_is_said(scored):
    rows = [("a", "x", 1), ("a", "y", 3)]
    assert class_shares([scored(rows, "assd_mm")]) == {}
    assert class_shares([scored(rows, "truth_ml"), scored(rows)]) == {}
    assert class_shares([scored([("a", "x", 0)])]) == {}
