"""Grids and patches: the rules, on scans whose answer is known."""

from itertools import pairwise

import numpy as np
import pytest

from semivox.planning.fingerprint import Fingerprint
from semivox.planning.grids import Grid, choose_grid, coarsened, divisible, downsampling, patch_within, shrunk


def pool(shapes, spacings):
    return Fingerprint(tuple(shapes), tuple(spacings), ("MR",), ("background", "organ"), (None,))


def test_spacing_is_the_median_of_all_scans_and_shape_the_median_after_resampling():
    found = pool([(40, 40, 40), (50, 50, 50), (80, 80, 80)], [(1, 1, 1), (1, 1, 1), (0.5, 0.5, 0.5)])
    grid, _ = choose_grid(found, {})
    assert grid.spacing == (1.0, 1.0, 1.0)
    assert grid.shape == (40.0, 40.0, 40.0)
    assert grid.dims == 3


def test_thick_slices_take_the_finer_tenth_of_the_spacings():
    slices = [2.5, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0]
    found = pool([(256, 256, 30)] * 11, [(1.0, 1.0, mm) for mm in slices])
    assert choose_grid(found, {})[0].spacing == (1.0, 1.0, 5.0)
    found = pool([(256, 256, 30)] * 11, [(1.0, 1.0, mm) for mm in [2.5, 2.5, *slices[2:]]])
    assert choose_grid(found, {})[0].spacing == (1.0, 1.0, 2.5)


@pytest.mark.parametrize(
    ("shape", "spacing", "dims", "axis"),
    [
        ((64, 64, 32), (1.25, 1.25, 2.5), 3, 2),
        ((256, 256, 10), (1.4, 1.4, 10.0), 2, 2),  # slices far apart
        ((12, 320, 320), (4.4, 0.6, 0.6), 2, 0),  # sagittal
        ((64, 64, 6), (1.0, 1.0, 2.0), 2, 2),  # few slices
        ((300, 200, 1), (1.0, 1.0, 1.0), 2, 2),  # a picture
        ((1, 200, 300), (1.0, 1.0, 1.0), 2, 0),  # one sagittal slice
        ((64, 64, 64), (1.0, 1.0, 1.0), 3, 2),  # equal spacings: the last axis
    ],
)
def test_slices_or_volumes(shape, spacing, dims, axis):
    grid, reasons = choose_grid(pool([shape], [spacing]), {})
    assert (grid.dims, grid.slice_axis) == (dims, axis)
    assert reasons[-1].startswith(f"{dims}D")


def test_what_is_set_wins():
    found = pool([(64, 48, 32)], [(1.0, 1.0, 2.0)])
    grid, reasons = choose_grid(found, {"dims": 2, "slice_axis": 0, "spacing": (2.0, 1.0, 1.0)})
    assert (grid.dims, grid.slice_axis, grid.axes) == (2, 0, (1, 2))
    assert grid.crop_shape == (48, 64)
    assert reasons[-1] == "2D: as set"
    assert choose_grid(found, {"resize": (24, 16)})[0].crop_shape == (24, 16)


def test_the_last_of_equal_axes_is_across_slices():
    assert pool([(9, 9, 9)], [(1.0, 1.0004, 1.0)]).slice_axis == 2
    assert pool([(9, 9, 9)], [(3.0, 1.0, 1.0)]).slice_axis == 0
    assert pool([(9, 1, 9)], [(3.0, 1.0, 1.0)]).slice_axis == 1


def test_every_patch_length_can_be_halved_down_to_four():
    for length in range(1, 300):
        patch = divisible(length)
        assert patch >= 8
        coarsest = patch
        for _ in range(4):
            coarsest = coarsest // 2 if coarsest % 2 == 0 and coarsest >= 8 else coarsest
        assert coarsest < 8 or patch >= 64, f"{patch} stops at {coarsest}"
        assert abs(patch - length) <= max(8, 0.15 * length)


def test_a_patch_shrinks_along_its_longest_side_and_stops():
    grid = Grid((1.0, 1.0, 2.0), (112.0, 112.0, 80.0), slice_axis=2, dims=3)
    patch, seen = (112, 112, 80), []
    while patch:
        seen.append(patch)
        patch = shrunk(patch, grid)
    assert seen[1] == (112, 112, 64)
    assert seen[-1] == (16, 16, 16)
    assert all(sum(one) > sum(other) for one, other in pairwise(seen))


def test_the_patch_of_the_left_atrium_benchmark_gives_v_net_its_five_levels():
    assert downsampling((112, 112, 80), (1.0, 1.0, 1.0)) == ((2, 2, 2),) * 4


def test_a_coarse_axis_is_not_halved_before_the_fine_ones_have_caught_up():
    assert downsampling((64, 64, 16), (1.0, 1.0, 4.0)) == ((2, 2, 1), (2, 2, 2), (2, 2, 2), (2, 2, 1))
    assert downsampling((64, 64, 32), (1.0, 1.0, 2.0))[0] == (2, 2, 2)  # twice as coarse may


def test_coarsening_ends_where_a_patch_covers_half_of_a_scan():
    fine = Grid((0.625, 0.625, 1.25), (576.0, 576.0, 88.0), slice_axis=2, dims=3)
    coarse = coarsened(fine, 80_000)
    patch = patch_within(coarse, 80_000)
    assert np.prod(patch) <= 80_000
    assert all(2 * length >= shape - 1 for length, shape in zip(patch, coarse.shape, strict=True))
    assert max(coarse.spacing) / min(coarse.spacing) < 1.1
    assert coarsened(coarse, 10**9) == coarse
