"""The ramp and the warm start against their closed forms."""

import math
from itertools import pairwise

import pytest

from semivox.ops.ramps import run_decay, sigmoid_rampup, turns_before, warmup_decay


def test_the_ramp_goes_from_e_to_the_minus_five_through_287_thousandths_to_one():
    assert sigmoid_rampup(0) == pytest.approx(math.exp(-5))
    assert sigmoid_rampup(0.5) == pytest.approx(0.286505, abs=1e-6)
    assert sigmoid_rampup(1) == 1
    assert sigmoid_rampup(1.5) == 1


def test_the_ramp_rises():
    values = [sigmoid_rampup(step / 50) for step in range(51)]
    assert all(a < b for a, b in pairwise(values))


def test_the_warm_start_is_a_plain_average_until_the_decay_takes_over():
    assert [warmup_decay(step, 0.99) for step in (0, 1, 3)] == [0, 0.5, 0.75]
    assert warmup_decay(98, 0.99) == pytest.approx(0.98990, abs=1e-5)
    assert warmup_decay(99, 0.99) == warmup_decay(10_000, 0.99) == 0.99


def test_the_decay_of_a_run_is_of_its_length_up_to_the_papers():
    assert run_decay(1000, 6) == pytest.approx(0.994)
    assert run_decay(6000, 6) == run_decay(60_000, 6) == 0.999
    assert run_decay(3, 6) == 0


def test_turns_take_one_to_the_longest_number_of_steps_all_equally_likely():
    turns = [turns_before(step, 4, seed=7) for step in range(2000)]
    assert turns[0] == 0
    assert {b - a for a, b in pairwise(turns)} == {0, 1}
    lengths = [turns.count(turn) for turn in range(turns[-1])]  # but the last, which may go on
    assert set(lengths) == {1, 2, 3, 4}
    assert all(lengths.count(n) / len(lengths) == pytest.approx(0.25, abs=0.06) for n in (1, 2, 3, 4))
    assert turns != [turns_before(step, 4, seed=8) for step in range(2000)]


def test_turns_of_one_step_alternate():
    assert [turns_before(step, 1, seed=3) for step in range(4)] == [0, 1, 2, 3]
