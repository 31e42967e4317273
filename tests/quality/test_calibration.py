"""The estimate and its bound, by hand and by simulation."""

import math

import numpy as np
import pytest

from semivox.quality.calibration import Calibration, cases_for


def test_the_estimate_is_the_agreement_less_its_median_excess():
    calibration = Calibration({1: [0.02, 0.10, 0.06]})
    assert calibration.estimate(1, 0.9) == pytest.approx(0.84)
    assert calibration.estimate(1, 0.03) == 0.0
    assert calibration.estimate(2, 0.9) == 0.9, "a class without cases"
    assert Calibration({1: [-0.3]}).estimate(1, 0.9) == 1.0


def test_the_bound_takes_the_excess_of_the_rank_that_coverage_asks_for():
    """Of four cases, a coverage of .6 takes rank ceil(5 x .6) = 3, of .8 rank 4, and more takes more cases."""
    calibration = Calibration({1: [0.1, 0.0, 0.3, 0.2]})
    assert calibration.lower(1, 0.9, 0.6) == pytest.approx(0.7)
    assert calibration.lower(1, 0.9, 0.8) == pytest.approx(0.6)
    assert math.isnan(calibration.lower(1, 0.9, 0.81))
    assert math.isnan(calibration.lower(2, 0.9, 0.5))


@pytest.mark.parametrize(("coverage", "cases"), [(0.5, 1), (0.8, 4), (0.9, 9), (0.95, 19)])
def test_a_coverage_takes_its_number_of_cases(coverage, cases):
    assert cases_for(coverage) == cases
    enough, few = (Calibration({1: [0.0] * n}) for n in (cases, cases - 1))
    assert enough.lower(1, 0.9, coverage) == 0.9
    assert math.isnan(few.lower(1, 0.9, coverage))


def test_the_bound_keeps_its_coverage_in_simulation():
    generator = np.random.default_rng(0)
    kept = []
    for _ in range(4000):
        agreement = generator.uniform(0.4, 0.9, 5)
        dice = agreement - generator.exponential(0.1, 5)
        calibration = Calibration({1: list(agreement[:4] - dice[:4])})
        kept.append(max(dice[4], 0) >= calibration.lower(1, agreement[4], 0.8))
    assert 0.78 <= np.mean(kept) <= 0.84, "4 standard errors are .025"
