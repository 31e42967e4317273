"""What more labels bring: by hand, and that what is not seen is not said."""

import math

import numpy as np
import pytest

from semivox.advice.labels import more_labels
from toy_groups import group

SPREAD = np.linspace(-0.05, 0.05, 8)
FULL = np.tile(0.7 + SPREAD, (3, 1))


def test_a_doubling_and_the_labels_that_a_gain_takes_by_hand():
    """From 2 to 4 labels Dice rises by .1 in every case; .1 more takes twice 4, that is 4 further labels."""
    found = more_labels(group("s", FULL), group("f", FULL - 0.1), (2, 4), gain=0.1)
    assert (found.doubling, found.low, found.high) == pytest.approx((0.1, 0.1, 0.1))
    assert (found.more, found.least, found.most) == pytest.approx((4, 4, 4), abs=0.2)
    assert found.limit == 4 * 2**4 - 4
    assert "Twice as many labels bring +0.100 Dice" in found.sentence
    assert "if the labelled-only curve goes on as from 2 to 4 labels; 0.10 Dice more" in found.sentence
    assert "would take about 4 further labels" in found.sentence


def test_a_gain_of_the_method_is_measured_in_labels_with_its_spread():
    """The method gains .05 with a spread over cases: half a doubling, 4 (root of 2 - 1) = 1.66 labels."""
    method = FULL + 0.05 + np.linspace(-0.03, 0.03, 8)
    found = more_labels(group("s", FULL), group("f", FULL - 0.1), (2, 4), method=group("m", method))
    assert found.more == pytest.approx(1.66, abs=0.05)
    assert 0 < found.least < 1.66 < found.most < math.inf
    assert "as much as the unlabelled scans would take about 2 further labels (95 % interval" in found.sentence


def test_a_curve_that_does_not_rise_tells_no_number():
    found = more_labels(group("s", FULL), group("f", FULL + 0.1), (2, 4), gain=0.02)
    assert math.isinf(found.more)
    assert "would take more than 60 further labels" in found.sentence


def test_a_curve_that_may_not_rise_has_no_upper_end():
    unsure = FULL - 0.02 + np.linspace(-0.2, 0.2, 8)
    found = more_labels(group("s", FULL), group("f", unsure), (2, 4), gain=0.02)
    assert found.low < 0 < found.high
    assert math.isinf(found.most)
    assert "to more than 60" in found.sentence
