"""What class probabilities become: their uncertainty, and the largest component of every class."""

import numpy as np
from numpy.testing import assert_allclose, assert_array_equal

from semivox.prediction.maps import entropy, largest_components, mask_of


def test_entropy_is_one_where_all_classes_are_equal_and_zero_where_one_is_certain():
    p = np.array([[1 / 3, 1.0, 0.5], [1 / 3, 0.0, 0.5], [1 / 3, 0.0, 0.0]])[:, :, None, None]
    assert_allclose(entropy(p).ravel(), [1, 0, np.log(2) / np.log(3)], atol=1e-9)
    assert entropy(p.astype(np.float32)).dtype == np.float32


def test_the_largest_component_of_every_class_stays():
    mask = np.array([[1, 1, 0, 2], [0, 0, 1, 2], [2, 0, 0, 2]])[:, :, None]
    kept = np.array([[1, 1, 0, 2], [0, 0, 0, 2], [0, 0, 0, 2]])[:, :, None]
    assert_array_equal(largest_components(mask), kept)


def test_a_mask_has_the_value_of_the_most_probable_class():
    p = np.moveaxis(np.array([[[[0.1, 0.2, 0.7], [0.6, 0.3, 0.1]]]]), -1, 0)
    mask = mask_of(p, (0, 3, 300))
    assert mask.tolist() == [[[300, 0]]]
    assert mask.dtype == np.uint16
