import math
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from semivox.scoring.comparison import compare, compare_all, holm, summarise, wilcoxon_p
from semivox.scoring.interval import mean_interval, training_reach
from semivox.scoring.scores import Group, Row, Scores

NAN = float("nan")


def run(scores, tmp_path, metric="dice", **prediction):
    """Scores of one run from {case: value} or {(case, class): value}."""
    cells = {key if isinstance(key, tuple) else (key, "organ"): value for key, value in scores.items()}
    rows = tuple(Row(case, label, 1, value == 0, {metric: value}) for (case, label), value in cells.items())
    return Scores(tmp_path / "scores.csv", rows, {"prediction": prediction})


def group(name, *runs):
    return Group(name, runs)


def test_holm_is_the_step_down_worked_out_by_hand():
    np.testing.assert_allclose(holm([0.01, 0.04, 0.03]), [0.03, 0.06, 0.06])
    np.testing.assert_allclose(holm([0.6, 0.9]), [1.0, 1.0])
    np.testing.assert_allclose(holm([0.01, NAN, 0.04]), [0.02, NAN, 0.04])
    assert holm([]).size == 0


def test_wilcoxon_handles_zeros_ties_and_nothing_at_all():
    assert wilcoxon_p([0.0, 0.0, 0.0]) == 1
    assert wilcoxon_p([0.1] * 5) == pytest.approx(2 / 2**5)
    assert wilcoxon_p([0.0, 1, 2, 3, 4, 5]) == pytest.approx(2 / 2**5)
    assert wilcoxon_p([(0.1 + 0.2) - 0.3, 1e-17]) == 1, "rounding noise is no difference"
    assert math.isnan(wilcoxon_p([]))
    values = np.random.default_rng(0).normal(0.4, 1, 30)
    assert wilcoxon_p(values) == pytest.approx(stats.wilcoxon(values).pvalue)


def test_runs_are_averaged_per_case_first_so_that_n_counts_cases(tmp_path):
    runs = [run({"a": 0.8, "b": 0.6}, tmp_path, seed=0), run({"a": 1.0, "b": 0.8}, tmp_path, seed=1)]
    found = summarise(group("m", *runs), "dice")
    assert (found.cases, found.rows) == (2, 4)
    assert found.mean == pytest.approx(0.8)
    assert found.sd == pytest.approx(np.std([0.9, 0.7], ddof=1))


def test_groups_are_compared_over_the_seeds_that_both_have(tmp_path):
    """The control's second seed is worse: it must not make the method, which has only the first, look better."""
    method = group("a", run({"x": 0.6, "y": 0.6}, tmp_path, seed=0))
    control = group("b", run({"x": 0.6, "y": 0.6}, tmp_path, seed=0), run({"x": 0.2, "y": 0.2}, tmp_path, seed=1))
    found = compare(method, control, "dice")
    assert (found.difference, found.control_mean) == pytest.approx((0, 0.6))
    others = group("c", run({"x": 0.6, "y": 0.6}, tmp_path, seed=2))
    assert compare(others, control, "dice").difference == pytest.approx(0.2), "no seed in common: all of them count"


def test_repeating_a_run_changes_neither_interval_nor_p(tmp_path):
    values = dict(zip("abcdefgh", np.linspace(0.6, 0.9, 8), strict=True))
    better = {case: value + 0.01 * (number - 2) for number, (case, value) in enumerate(values.items())}
    one, control = run(better, tmp_path), group("control", run(values, tmp_path))
    once, thrice = compare(group("m", one), control, "dice"), compare(group("m", one, one, one), control, "dice")
    assert once.cases == thrice.cases == 8
    assert (thrice.low, thrice.high) == pytest.approx((once.low, once.high))
    assert thrice.p == pytest.approx(once.p)


def test_pairs_are_the_cells_that_both_groups_have_a_score_of(tmp_path):
    first = group("m", run({("a", "x"): 0.9, ("a", "y"): NAN, ("b", "x"): 0.7, ("c", "x"): 0.1}, tmp_path))
    second = group("n", run({("a", "x"): 0.8, ("a", "y"): 0.0, ("b", "x"): 0.5, ("d", "x"): 0.9}, tmp_path))
    found = compare(first, second, "dice")
    assert (found.cases, found.left_out) == (2, 2)
    assert found.difference == pytest.approx((0.1 + 0.2) / 2), "the 0 of y in case a has no partner"
    assert found.mean - found.control_mean == pytest.approx(found.difference)
    assert compare(first, second, "dice", "y").cases == 0


def test_undefined_scores_are_left_out_and_counted_failures_are_in_and_counted(tmp_path):
    found = summarise(group("m", run({"a": 0.8, "b": NAN, "c": 0.0}, tmp_path)), "dice")
    assert (found.cases, found.excluded, found.failures) == (2, 1, 1)
    assert found.mean == pytest.approx(0.4)


def test_a_case_counts_its_classes_equally(tmp_path):
    cells = {("a", "x"): 1.0, ("a", "y"): 0.0, ("b", "x"): 0.6}
    found = summarise(group("m", run(cells, tmp_path)), "dice")
    assert found.mean == pytest.approx((0.5 + 0.6) / 2)


def shifted(values, shift, tmp_path, *, metric="dice", seeds=(0, 1, 2)):
    """A group of runs that score the values, moved by a shift."""
    moved = {case: value + shift for case, value in values.items()}
    return group(f"by {shift}", *(run(moved, tmp_path, metric, seed=seed) for seed in seeds))


VALUES = dict(zip("abcdef", np.linspace(1, 2, 6), strict=True))


@pytest.mark.parametrize(("metric", "shift", "verdict"), [
    ("dice", 0.1, "better"), ("dice", -0.1, "worse"), ("hd95_mm", 0.1, "worse"), ("assd_mm", -0.1, "better"),
    ("dice", 0.0, "no difference shown"),
])  # fmt: skip
def test_the_verdict_knows_which_way_a_score_is_better(metric, shift, verdict, tmp_path):
    method, control = (shifted(VALUES, by, tmp_path, metric=metric) for by in (shift, 0.0))
    assert compare(method, control, metric).verdict == verdict


@pytest.mark.parametrize(("mine", "theirs", "seeds", "verdict"), [
    ((0, 1, 2), (0, 1, 2), 3, "better"),
    ((0,), (0,), 1, "seen once"),
    ((0, 1, 2), (0, 1), 2, "seen once"),
    ((0, 1, 2), (1, 2, 3), 2, "seen once"),  # the seeds that both have alone are compared
    ((0, 1, 2), (3, 4, 5), 1, "seen once"),  # three seeds each, and none that both were trained with
    ((0, 1, 2), (7,), 1, "seen once"),
    ((0, 0, 0), (0, 0, 0), 1, "seen once"),
    ((None, None, None), (None, None, None), 1, "seen once"),
    ((0, 1, 2), (None, 3, 4), 3, "better"),  # as told by tables of other programs
])  # fmt: skip
def test_a_difference_that_fewer_than_three_seeds_show_was_seen_once(mine, theirs, seeds, verdict, tmp_path):
    found = compare(shifted(VALUES, 0.1, tmp_path, seeds=mine), shifted(VALUES, 0, tmp_path, seeds=theirs), "dice")
    assert (found.seeds, found.verdict) == (seeds, verdict)


def test_the_verdict_follows_holms_p_over_the_whole_family(tmp_path):
    """Six cases give p = 0.031: shown alone, not shown as one of two methods that were tried."""
    control, up, same = (shifted(VALUES, by, tmp_path) for by in (0, 0.1, 0.0))
    assert compare_all([(up, control)], "dice")[0].verdict == "better"
    found = compare_all([(up, control), (same, control)], "dice")[0]
    assert (found.p, found.p_holm) == pytest.approx((2 / 2**6, 4 / 2**6))
    assert found.low > 0
    assert found.verdict == "no difference shown"


def test_five_cases_can_show_nothing(tmp_path):
    five = {case: VALUES[case] for case in "abcde"}
    assert compare(shifted(five, 0.1, tmp_path), shifted(five, 0, tmp_path), "dice").verdict == "no difference shown"


def test_one_pair_gives_no_verdict(tmp_path):
    found = compare(group("m", run({"a": 0.9}, tmp_path)), group("n", run({"a": 0.1}, tmp_path)), "dice")
    assert found.verdict == "too few cases"


def test_a_family_is_corrected_together_and_skips_groups_without_the_metric(tmp_path):
    values = dict(zip("abcdef", np.linspace(0.5, 0.7, 6), strict=True))
    control = group("control", run(values, tmp_path))
    up = group("up", run({case: value + 0.1 for case, value in values.items()}, tmp_path))
    same = group("same", run(values, tmp_path))
    other = group("other", run(values, tmp_path, "hd95_mm"))
    found = compare_all([(up, control), (same, control), (other, control)], "dice")
    assert [c.group for c in found] == ["up", "same"]
    np.testing.assert_allclose([c.p_holm for c in found], [4 / 2**6, 1.0])


def test_two_definitions_of_hd95_are_compared_with_no_verdict_and_all_else_is(tmp_path):
    pooled, other = (shifted(VALUES, by, tmp_path, metric="hd95_mm") for by in (0, 0.1))
    told = [replace(g, runs=tuple(replace(run, info=run.info | {"hd95": how}) for run in g.runs))
            for g, how in ((pooled, "pooled"), (other, "max"))]  # fmt: skip
    found = compare(told[1], told[0], "hd95_mm")
    assert (found.verdict, found.confounders) == ("not comparable", ("definition of HD95 max against pooled",))
    assert compare(told[1], pooled, "hd95_mm").verdict == "worse", "what is unknown is no difference"
    by_dice = [replace(shifted(VALUES, by, tmp_path), runs=tuple(
        replace(run, info=run.info | {"hd95": how}) for run in shifted(VALUES, by, tmp_path).runs
    )) for by, how in ((0.1, "max"), (0, "pooled"))]  # fmt: skip
    assert compare(*by_dice, "dice").verdict == "better"


def trained(name, rows, tmp_path, word="seed"):
    """A group with a run per row of scores, its seeds (or draws) counted from 0 on."""
    scores = [dict(zip("abcdef", row, strict=True)) for row in rows]
    return group(name, *(run(values, tmp_path, **{word: n}) for n, values in enumerate(scores)))


def test_an_interval_of_three_seeds_is_over_cases_and_seeds_and_of_two_over_cases(tmp_path):
    """Every seed lifts all cases alike, by .1, .2, .3: the spread is the seeds' alone, .1, and t is 4.303."""
    control = [[0.1, 0.2, 0.3, 0.4, 0.5, 0.6]] * 3
    method = [[value + gain for value in row] for row, gain in zip(control, (0.1, 0.2, 0.3), strict=True)]
    found = compare(trained("m", method, tmp_path), trained("c", control, tmp_path), "dice")
    assert found.over == "cases and seeds"
    assert (found.low, found.high) == pytest.approx((0.2 - 4.302653 * 0.1 / 3**0.5, 0.2 + 4.302653 * 0.1 / 3**0.5))
    assert found.verdict == "no difference shown", "p is .031, but other seeds might give nothing"
    two = compare(trained("m", method[:2], tmp_path), trained("c", control[:2], tmp_path), "dice")
    assert (two.over, two.low, two.high) == pytest.approx(("cases", 0.15, 0.15))
    one = summarise(trained("m", method, tmp_path), "dice")
    _, high = stats.t.interval(0.95, 5, 0.55, stats.sem(control[0]))
    more = 4.302653 * 0.1 / 3**0.5
    assert one.over == "cases and seeds"
    assert one.high - one.mean == pytest.approx(math.hypot(high - 0.55, more))


def test_with_three_draws_the_draw_is_what_is_random(tmp_path):
    gains = {(draw, seed): 0.1 * draw + 0.01 * seed for draw in range(3) for seed in range(2)}
    rows = {key: [value + gain for value in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6)] for key, gain in gains.items()}
    runs = [run(dict(zip("abcdef", row, strict=True)), tmp_path, draw=d, seed=s) for (d, s), row in rows.items()]
    found = summarise(group("m", *runs), "dice")
    by_hand = math.hypot(stats.t.ppf(0.975, 5) * stats.sem([0.1, 0.2, 0.3, 0.4, 0.5, 0.6]), 4.302653 * 0.1 / 3**0.5)
    assert found.over == "cases and draws"
    assert found.high - found.mean == pytest.approx(by_hand)


def test_trainings_are_told_apart_over_the_cases_that_all_of_them_have(tmp_path):
    rows = [[0.1, 0.2, 0.3, 0.4, 0.5, NAN], [0.2, 0.3, 0.4, 0.5, 0.6, 0.9], [0.3, 0.4, 0.5, 0.6, 0.7, 0.1]]
    whole = summarise(trained("m", rows, tmp_path), "dice")
    cut = training_reach([row[:5] for row in rows])
    values = [*np.mean([row[:5] for row in rows], axis=0), 0.5]
    assert (whole.low, whole.high) == pytest.approx(mean_interval(values, reach=cut))
