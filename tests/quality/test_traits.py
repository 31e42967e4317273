"""What a mask shows of itself, worked by hand."""

import numpy as np
import pytest

from semivox.quality.opinions import agreement
from semivox.quality.traits import Traits, flags, is_unlike, profile, traits_of

USUAL = [Traits(10.0, 1, False), Traits(12.0, 2, False)]


def test_traits_count_voxels_pieces_and_faces():
    mask = np.zeros((5, 5, 5), bool)
    mask[1:3, 1:3, 1:3] = True
    assert traits_of(mask, 0.5) == Traits(4.0, 1, False)
    mask[3, 3, 3] = True  # touches the cube at a corner alone
    assert traits_of(mask, 1.0) == Traits(9.0, 2, False)
    mask[4, 3, 3] = True
    assert traits_of(mask, 1.0).border


def test_the_only_slice_of_a_picture_is_no_border():
    mask = np.zeros((5, 5, 1), bool)
    mask[2, 2] = True
    assert not traits_of(mask, 1.0).border


@pytest.mark.parametrize(
    ("own", "words"),
    [
        (Traits(11.0, 1, False), []),
        (Traits(0.0, 0, False), ["empty"]),
        (Traits(11.0, 3, False), ["many components (3)"]),
        (Traits(11.0, 2, False), []),
        (Traits(11.0, 1, True), ["touches the border"]),
        (Traits(18.5, 1, False), ["volume outside the labelled range (18.5 ml, labelled 10 to 12)"]),
        (Traits(6.6, 1, False), ["volume outside the labelled range (6.6 ml, labelled 10 to 12)"]),
        (Traits(17.9, 1, False), []),
    ],
)
def test_flags_say_in_words_what_is_odd(own, words):
    assert flags(own, USUAL, "ml") == words


def test_without_labelled_scans_only_the_class_itself_can_be_odd():
    assert flags(Traits(99.0, 1, False), [], "ml") == []
    assert flags(Traits(99.0, 2, False), [], "ml") == ["many components (2)"]


def test_a_scan_is_unlike_when_it_lies_twice_as_far_as_labelled_scans_from_each_other():
    """Profiles of constant scans: the labelled ones lie 1 and 2 from their nearest."""
    labelled = [profile(np.full((1, 4, 4, 4), value)) for value in (0.0, 1.0, 3.0)]
    assert labelled[0].shape == (1, 49)
    assert not is_unlike(profile(np.full((1, 4, 4, 4), 6.9)), labelled)
    assert is_unlike(profile(np.full((1, 4, 4, 4), 7.1)), labelled)
    assert not is_unlike(profile(np.full((1, 4, 4, 4), 99.0)), labelled[:2]), "two scans do not show what is usual"


def test_agreement_is_the_mean_dice_with_the_others():
    mask = np.array([1, 1, 2, 0])
    one, other = np.array([1, 0, 2, 0]), np.array([0, 0, 2, 2])
    assert agreement(mask, [one, other], 1) == pytest.approx((2 / 3 + 0) / 2)
    assert agreement(mask, [one, other], 2) == pytest.approx((1 + 2 / 3) / 2)
    assert np.isnan(agreement(mask, [one], 3))
    assert agreement(np.zeros(4), [one], 1) == 0
