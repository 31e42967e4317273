import csv
import math
from pathlib import Path

import numpy as np
import pytest
from scipy import stats

from semivox.scoring.interval import mean_interval, training_reach

SIMULATED = Path(__file__).parents[2] / "benchmarks" / "results" / "statistics" / "coverage.csv"


def test_of_even_values_the_interval_is_students():
    values = np.array([-2.0, -1.0, 0.0, 1.0, 2.0]) + 7
    expected = stats.t.interval(0.95, 4, 7, stats.sem(values))
    assert mean_interval(values) == pytest.approx(expected)
    assert mean_interval([1.0, 3.0]) == pytest.approx(stats.t.interval(0.95, 1, 2, 1))


def test_a_few_large_values_widen_it_to_their_side_alone():
    values = np.array([0.0, 0, 0, 0, 0, 0, 0, 0, 1, 4])
    low, high = stats.t.interval(0.95, 9, values.mean(), stats.sem(values))
    found = mean_interval(values)
    assert found[0] == pytest.approx(low)
    assert found[1] > high + 0.3
    assert mean_interval(-values) == pytest.approx((-found[1], -found[0]))


def test_the_far_end_is_where_halls_transform_meets_students_t():
    values = np.array([0.0, 0, 0, 0, 0, 0, 0, 0, 1, 4])
    n, skew, spread = 10, stats.skew(values, bias=False), values.std(ddof=1)
    y, a = (values.mean() - mean_interval(values)[1]) / spread, stats.skew(values, bias=False) / 3
    assert y + a * y**2 + a**2 * y**3 / 3 + skew / (6 * n) == pytest.approx(-stats.t.ppf(0.975, n - 1) / math.sqrt(n))


def test_the_interval_of_equal_values_is_that_value_and_of_one_value_unknown():
    assert mean_interval([0.1, 0.1, 0.1]) == (0.1, 0.1)
    assert all(map(math.isnan, mean_interval([0.1])))
    assert all(map(math.isnan, mean_interval([])))


def test_skewed_differences_of_twenty_cases_are_covered():
    """The committed simulation's hardest shape, anew: Student's t alone covers 92 %, the bootstrap 90 %."""
    samples = np.random.default_rng(5).exponential(size=(2000, 20)) - 1
    ends = np.array([mean_interval(sample) for sample in samples])
    assert ((ends[:, 0] <= 0) & (ends[:, 1] >= 0)).mean() > 0.93


def test_the_committed_simulation_keeps_its_promise():
    rows = list(csv.DictReader(SIMULATED.read_text().splitlines()))
    assert {row["shape"] for row in rows} == {"normal", "skewed", "heavy-tailed", "real"}
    assert {(row["cases"], row["seeds"]) for row in rows} == {(n, k) for n in ("6", "10", "20", "40") for k in "35"}
    for row in rows:
        if int(row["cases"]) >= 10:
            assert float(row["semivox"]) >= 0.93
            assert float(row["false_word"]) <= 0.055


def test_the_reach_of_trainings_is_the_one_worked_out_by_hand():
    assert training_reach([[1, 3], [3, 5], [5, 7]]) == pytest.approx(4.302653 * 2 / math.sqrt(3))
    assert training_reach([[1, 3], [3, 1]]) == 0, "what they differ by case for case is the cases' own spread"
    assert training_reach([[1, 3]]) == training_reach([[1], [3]]) == 0


def test_the_reach_of_trainings_comes_from_the_crossed_tables_mean_squares():
    table = np.array([[0.0, 2], [3, 3], [3, 7]])
    rest = table - [[1], [3], [5]] - [[2, 4]] + 3
    assert rest.tolist() == [[0, 0], [1, -1], [-1, 1]], "2 degrees of freedom"
    assert training_reach(table) == pytest.approx(4.302653 * math.sqrt((2 * 4 - 4 / 2) / 6))


def test_the_squares_of_both_reaches_add_up():
    values = np.array([-2.0, -1.0, 0.0, 1.0, 2.0]) + 7
    own = 7 - mean_interval(values)[0]
    assert mean_interval(values, reach=0.5) == pytest.approx((7 - math.hypot(own, 0.5), 7 + math.hypot(own, 0.5)))
    assert mean_interval([0.1, 0.1, 0.1], reach=0.5) == pytest.approx((-0.4, 0.6))


def test_the_committed_simulation_of_random_trainings_keeps_its_promise():
    rows = list(csv.DictReader((SIMULATED.parent / "hierarchical.csv").read_text().splitlines()))
    designs = {(row["cases"], row["trainings"]) for row in rows}
    assert designs == {(n, kind) for n in ("6", "20") for kind in ("3 seeds", "5 seeds", "3 draws of 2 seeds")}
    assert {row["shape"] for row in rows} == {"normal", "skewed", "heavy-tailed"}
    assert min(float(row["semivox"]) for row in rows) >= 0.93
    worst = min(float(row["over_cases"]) for row in rows if row["of_training"] == "0.250")
    assert worst < 0.7, "over cases alone, it does not hold"
