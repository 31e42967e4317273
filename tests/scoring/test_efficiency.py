"""The saving in labels on scores whose answer is known by hand, and never beyond the control's budgets."""

import math
from itertools import pairwise

import numpy as np
import pytest

from semivox.scoring.efficiency import labels_for, monotone, saving, worth_interval
from semivox.scoring.scores import Group, Row, Scores

BUDGETS = [2, 4, 8, 16]
OFFSETS = np.array([-0.1, 0.0, 0.02, 0.08])
"""What the cases differ by, alike in all trainings; their mean is 0."""


def trained(name, mean, tmp_path, *, seeds=3, rise=0.0, noise=None):
    """Return a group whose runs score the mean on four cases; every seed lifts all cases by a further `rise`."""
    runs = []
    for seed in range(seeds):
        values = mean + OFFSETS + rise * (seed - (seeds - 1) / 2) + (0 if noise is None else noise[seed])
        rows = tuple(Row(f"c{n}", "organ", 1, False, {"dice": float(value)}) for n, value in enumerate(values))
        runs.append(Scores(tmp_path / name / "scores.csv", rows, {"prediction": {"group": name, "seed": seed}}))
    return Group(name, tuple(runs))


def control(tmp_path, means=(0.5, 0.6, 0.7, 0.8), **more):
    return {budget: trained("supervised", mean, tmp_path, **more) for budget, mean in zip(BUDGETS, means, strict=True)}


@pytest.mark.parametrize(("score", "labels"), [
    (0.5, 2), (0.6, 4), (0.65, 4 * 2**0.5), (0.8, 16), (0.81, math.inf), (0.49, 0), (0.725, 8 * 2**0.25),
])  # fmt: skip
def test_a_score_is_reached_where_the_line_over_the_logarithm_crosses_it(score, labels):
    assert labels_for(score, BUDGETS, [0.5, 0.6, 0.7, 0.8]) == pytest.approx(labels)


def test_a_curve_that_falls_by_chance_is_made_monotone_and_the_smallest_number_counts():
    np.testing.assert_allclose(monotone([0.5, 0.7, 0.6, 0.8]), [0.5, 0.65, 0.65, 0.8])
    np.testing.assert_allclose(monotone([3.0, 2, 1]), [2, 2, 2])
    assert labels_for(0.65, BUDGETS, [0.5, 0.7, 0.6, 0.8]) == pytest.approx(4)
    assert labels_for(0.575, BUDGETS, [0.5, 0.7, 0.6, 0.8]) == pytest.approx(2 * 2**0.5)
    assert labels_for(0.6, BUDGETS, [0.6, 0.6, 0.6, 0.6]) == 2


def test_a_monotone_fit_is_the_nearest():
    values = np.random.default_rng(3).normal(size=6)
    fitted = monotone(values)
    assert all(a <= b + 1e-12 for a, b in pairwise(fitted))
    others = np.sort(np.random.default_rng(4).normal(size=(2000, 6)), axis=1)
    assert ((others - values) ** 2).sum(1).min() >= ((fitted - values) ** 2).sum()


def test_without_any_spread_the_interval_is_the_answer_worked_out_by_hand(tmp_path):
    """.65 is half way from .6 at 4 to .7 at 8; every case and seed says the same."""
    found = saving(trained("m", 0.65, tmp_path), 4, control(tmp_path))
    assert (found.worth, found.low, found.high) == pytest.approx((4 * 2**0.5,) * 3)
    assert (found.times, found.cases, found.over) == (pytest.approx(2**0.5), 4, "cases and seeds")


def test_the_ends_are_where_the_paired_interval_meets_0(tmp_path):
    """Only the method's seeds differ, by .01 for all cases: the paired difference reaches 4.303 * .01 / root of 3."""
    found = saving(trained("m", 0.65, tmp_path, rise=0.01), 4, control(tmp_path))
    doublings = 4.302653 * 0.01 / 3**0.5 / 0.1
    assert found.worth == pytest.approx(4 * 2**0.5)
    assert (found.low, found.high) == pytest.approx((4 * 2 ** (0.5 - doublings), 4 * 2 ** (0.5 + doublings)), rel=1e-3)


def test_what_seeds_share_cancels(tmp_path):
    """A seed that is good for both moves neither the answer nor its interval."""
    found = saving(trained("m", 0.65, tmp_path, rise=0.05), 4, control(tmp_path, rise=0.05))
    assert (found.worth, found.low, found.high) == pytest.approx((4 * 2**0.5,) * 3)


def test_nothing_is_said_beyond_the_largest_and_below_the_smallest_budget(tmp_path):
    above = saving(trained("m", 0.9, tmp_path), 4, control(tmp_path))
    assert (above.worth, above.low, above.high) == (math.inf, math.inf, math.inf)
    near = saving(trained("m", 0.79, tmp_path, rise=0.02), 4, control(tmp_path))
    assert near.worth == pytest.approx(16 * 2**-0.1)
    assert 8 < near.low < near.worth
    assert near.high == math.inf
    below = saving(trained("m", 0.4, tmp_path), 4, control(tmp_path))
    assert (below.worth, below.low, below.high) == (0, 0, 0)


def test_two_seeds_are_averaged_and_the_interval_is_over_cases(tmp_path):
    found = saving(trained("m", 0.65, tmp_path, seeds=2, rise=0.05), 4, control(tmp_path, seeds=2))
    assert (found.over, found.low) == ("cases", pytest.approx(4 * 2**0.5))


def test_only_cases_that_all_were_scored_on_count(tmp_path):
    cut = control(tmp_path)
    cut[8] = Group("supervised", tuple(Scores(run.path, run.rows[:3], run.info) for run in cut[8].runs))
    assert saving(trained("m", 0.65, tmp_path), 4, cut).cases == 3
    cut[8] = Group("supervised", tuple(Scores(run.path, (Row("other", "organ", 1, False, {"dice": 0.5}),), run.info)
                                       for run in cut[8].runs))  # fmt: skip
    assert saving(trained("m", 0.65, tmp_path), 4, cut) is None


def test_the_interval_holds_the_truth_in_simulations():
    """Case, seed and their rest as in ACDC; the truth is 4 * root of 2 labels."""
    random, held, trials = np.random.default_rng(0), 0, 60
    means = np.array([0.5, 0.6, 0.7, 0.8])
    for _ in range(trials):
        scores = np.concatenate([[0.65], means])[:, None, None] + 0.1 * random.normal(size=20)
        scores = scores + 0.03 * random.normal(size=(5, 3, 1)) + 0.05 * random.normal(size=(5, 3, 20))
        low, high = worth_interval(scores[0], BUDGETS, scores[1:])
        held += low <= 4 * 2**0.5 <= high
    assert held / trials > 0.9
