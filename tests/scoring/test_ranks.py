"""Ranks over cases: mean ranks and letters worked out by hand, SciPy's tests, and counted failures."""

import math

import numpy as np
import pytest
from scipy import stats

from semivox.scoring.comparison import holm, wilcoxon_p
from semivox.scoring.ranks import _letters, rankings
from semivox.scoring.scores import Group, Row, Scores


def group(name, values, tmp_path, *, metric="dice", failed=(), runs=1, **said):
    rows = tuple(Row(f"c{n}", "organ", 1, n in failed, {metric: value}) for n, value in enumerate(values))
    told = [{"prediction": {"method": name, "group": name, "seed": seed, **said}} for seed in range(runs)]
    return Group(name, tuple(Scores(tmp_path / name / "scores.csv", rows, info) for info in told))


CONTROLS = {"a": "supervised", "b": "supervised"}


def test_mean_ranks_are_those_worked_out_by_hand_and_ties_share(tmp_path):
    """Cases by column; ranks 3 2 2.5 / 1 1 2.5 / 2 3 1."""
    groups = [group("supervised", (0.1, 0.5, 0.3), tmp_path), group("a", (0.9, 0.6, 0.3), tmp_path),
              group("b", (0.5, 0.4, 0.7), tmp_path)]  # fmt: skip
    (found,) = rankings(groups, CONTROLS, "dice")
    assert [(rank.group, rank.cases) for rank in found.ranks] == [("a", 3), ("b", 3), ("supervised", 3)]
    assert [rank.rank for rank in found.ranks] == pytest.approx([4.5 / 3, 2, 7.5 / 3])
    scores = np.array([[0.1, 0.5, 0.3], [0.9, 0.6, 0.3], [0.5, 0.4, 0.7]])
    assert found.p == pytest.approx(stats.friedmanchisquare(*scores).pvalue)
    assert {rank.alike for rank in found.ranks} == {"a"}, "three cases tell nothing apart"


def test_of_a_distance_the_least_is_the_first(tmp_path):
    values = {"supervised": (3.0, 3, 3), "a": (1.0, 1, 1), "b": (2.0, 2, 2)}
    groups = [group(name, scores, tmp_path, metric="hd95_mm") for name, scores in values.items()]
    (found,) = rankings(groups, CONTROLS, "hd95_mm")
    assert [(rank.group, rank.rank) for rank in found.ranks] == [("a", 1), ("b", 2), ("supervised", 3)]


def test_who_shares_a_letter_is_not_told_apart_by_wilcoxon_and_holm():
    """Ten cases: the first beats the third and fourth everywhere, the second the fourth; neighbours are alike."""
    base, noise = np.linspace(0.5, 0.6, 10), 0.05 * np.resize([1, -1], 10)
    table = np.array([base + 0.06, base + 0.03 + noise, base + 0.01, base - 0.04 - 0.1 * np.arange(10) / 10])
    p = {(a, b): wilcoxon_p(table[a] - table[b]) for a in range(4) for b in range(a + 1, 4)}
    for (a, b), value in p.items():
        assert value == pytest.approx(stats.wilcoxon(np.round(table[a] - table[b], 12)).pvalue)
    apart = {pair for pair, adjusted in zip(p, holm([*p.values()]), strict=True) if adjusted < 0.05}
    assert apart == {(0, 2), (0, 3), (1, 3), (2, 3)}
    assert _letters(table) == ["a", "ab", "b", "c"]


def test_only_what_is_comparable_with_the_control_is_ranked_and_three_at_least(tmp_path):
    groups = [group("supervised", (0.1, 0.5), tmp_path, split="s"), group("a", (0.2, 0.6), tmp_path, split="s"),
              group("b", (0.3, 0.7), tmp_path, split="t"), group("c", (0.4, 0.8), tmp_path, split="s")]  # fmt: skip
    (found,) = rankings(groups, {**CONTROLS, "c": "supervised"}, "dice")
    assert {rank.group for rank in found.ranks} == {"supervised", "a", "c"}
    assert rankings(groups, CONTROLS, "dice") == []
    assert rankings(groups, {}, "dice") == []


def test_equal_scores_are_equal_ranks(tmp_path):
    groups = [group(name, (0.1, 0.5, 0.3), tmp_path) for name in ("supervised", "a", "b")]
    (found,) = rankings(groups, CONTROLS, "dice")
    assert found.p == 1
    assert {rank.rank for rank in found.ranks} == {2.0}


def test_cases_and_runs_that_failed_are_counted(tmp_path):
    groups = [group("supervised", (0.0, 0.0, 0.3), tmp_path, failed={0, 1}, runs=2), group("a", (0.9,) * 3, tmp_path),
              group("b", (0.5, 0.4, 0.0), tmp_path, failed={2})]  # fmt: skip
    (found,) = rankings(groups, CONTROLS, "dice")
    counts = {rank.group: (rank.failed_cases, rank.failed_runs, rank.runs) for rank in found.ranks}
    assert counts == {"supervised": (2, 2, 2), "a": (0, 0, 1), "b": (1, 1, 1)}
    assert not any(math.isnan(rank.rank) for rank in found.ranks)
