"""The word for a trial: what it asks for, and what each sentence says."""

import numpy as np
import pytest

from semivox.advice.finding import FEWEST, WORTH, find
from toy_groups import group


def found(differences, draws=3):
    base = np.linspace(0.6, 0.8, len(differences))
    control = np.tile(base, (draws, 1))
    return find(group("averaged_match", control + np.asarray(differences)), group("supervised", control))


STEADY = np.linspace(0.04, 0.06, 8)


@pytest.mark.parametrize(
    ("differences", "word", "begins"),
    [
        (STEADY, "helps", "Unlabelled scans help here: on scans that training did not see, Dice is 0.050 higher"),
        (-STEADY, "does not help", "Unlabelled scans harm here: on scans that training did not see, Dice is 0.050"),
        (STEADY - 0.049, "does not help", "Unlabelled scans do not help here: Dice changes by +0.001"),
        (np.linspace(-0.1, 0.2, 8), "cannot be told", "Whether unlabelled scans help here cannot be told with 8"),
    ],
)
def test_each_sentence(differences, word, begins):
    finding = found(differences)
    assert finding.word == word
    assert finding.sentence.startswith(begins)


def test_in_how_many_cases_it_was_better_is_counted():
    assert "in 8 of 8 cases" in found(STEADY).sentence


def test_fewer_than_six_cases_tell_nothing_however_clear():
    """Of five that all improve, Wilcoxon's p is 1/16; six give 1/32."""
    assert found(STEADY[: FEWEST - 1]).word == "cannot be told"
    assert "a paired test needs 6" in found(STEADY[: FEWEST - 1]).sentence
    assert found(STEADY[:FEWEST]).word == "helps"


@pytest.mark.parametrize("differences", [STEADY, -STEADY, STEADY - 0.05])
def test_two_draws_tell_nothing(differences):
    finding = found(differences, draws=2)
    assert finding.word == "cannot be told"
    assert "seen once: 3 draws are needed" in finding.sentence


def test_a_gain_that_may_be_worth_it_is_not_called_none():
    """The interval reaches WORTH: by a little more spread, or a little more gain."""
    spread = np.linspace(-0.01, 0.01, 8)
    assert found(spread).word == "does not help"
    assert found(spread * 4).comparison.high > WORTH
    assert found(spread * 4).word == "cannot be told"


def test_what_trainings_differ_by_widens_the_interval():
    """Draws in which all cases rise or fall together: over cases alone it would be a clear gain."""
    control = np.tile(np.linspace(0.6, 0.8, 8), (3, 1))
    unsteady = control + STEADY + np.array([[-0.15], [0.0], [0.15]])
    assert find(group("averaged_match", unsteady), group("supervised", control)).word == "cannot be told"
