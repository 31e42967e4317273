"""Interpolation matrices: exact where the kernel promises it, and the same way back."""

import numpy as np
import pytest

from semivox.data.resampling import interpolation_matrix, resample


@pytest.mark.parametrize("kind", ["nearest", "linear", "cubic"])
@pytest.mark.parametrize(("size", "length", "factor"), [(7, 14, 0.5), (20, 6, 3.3), (1, 4, 0.25), (9, 1, 9.0)])
def test_rows_sum_to_one(kind, size, length, factor):
    matrix = interpolation_matrix(size, length, factor, kind)
    assert matrix.shape == (length, size)
    np.testing.assert_allclose(matrix.sum(1), 1, atol=1e-6)


@pytest.mark.parametrize("kind", ["nearest", "linear", "cubic"])
def test_a_factor_of_one_is_the_identity(kind):
    np.testing.assert_array_equal(interpolation_matrix(5, 5, 1.0, kind), np.eye(5))


@pytest.mark.parametrize(("kind", "power"), [("linear", 1), ("cubic", 2)])
def test_polynomials_come_out_exactly_where_voxel_centres_lie(kind, power):
    size, length, factor = 30, 50, 0.6
    millimetres = (np.arange(size) - (size - 1) / 2) / 10
    wanted = (np.arange(length) - (length - 1) / 2) * factor / 10
    found = interpolation_matrix(size, length, factor, kind) @ millimetres**power
    np.testing.assert_allclose(found[5:-5], wanted[5:-5] ** power, atol=1e-5)


def test_halving_by_hand_averages_with_the_stretched_triangle():
    matrix = interpolation_matrix(4, 2, 2.0, "linear")  # centres at 0.5 and 2.5; weights 1/8 3/8 3/8 1/8
    np.testing.assert_allclose(matrix, [[0.5, 0.375, 0.125, 0], [0, 0.125, 0.375, 0.5]])  # the ends fold onto the last


def test_shrinking_removes_what_the_new_grid_cannot_hold():
    fine = np.cos(np.pi * np.arange(64))  # alternates voxel by voxel
    assert np.abs(interpolation_matrix(64, 16, 4.0, "cubic") @ fine)[2:-2].max() < 0.02


def test_nearest_makes_no_new_values():
    array = np.random.default_rng(0).normal(size=(4, 5, 6))
    found = resample(array, (4, 5, 17), (1, 1, 6 / 17), ["cubic", "cubic", "nearest"])
    assert set(found.ravel()) <= set(array.astype(np.float32).ravel())


def test_axes_are_independent_of_their_order():
    array = np.random.default_rng(1).normal(size=(6, 9, 5))
    found = resample(array, (4, 12, 5), (1.5, 0.75, 1), ["linear", "cubic", "cubic"])
    turned = resample(array.transpose(2, 0, 1), (5, 4, 12), (1, 1.5, 0.75), ["cubic", "linear", "cubic"])
    np.testing.assert_allclose(found.transpose(2, 0, 1), turned, atol=1e-5)
