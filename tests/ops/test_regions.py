"""Where voxels lie in their scan, and in which cell of it, on crops small enough to be worked out by hand."""

import pytest
import torch

from semivox.ops.regions import cell_sizes, places, scan_cells

WHOLE = [0.0, 1.0]


def test_places_are_the_centres_of_voxels_in_the_scan():
    span = torch.tensor([[WHOLE, [0.5, 1.0], [-0.25, 1.25]]])
    found = places(span, (2, 4, 6))
    assert found.shape == (1, 3, 2, 4, 6)
    assert found[0, 0, :, 0, 0].tolist() == [0.25, 0.75]
    assert found[0, 1, 0, :, 0].tolist() == [0.5625, 0.6875, 0.8125, 0.9375]
    assert found[0, 2, 0, 0].tolist() == [-0.125, 0.125, 0.375, 0.625, 0.875, 1.125]  # padded by a voxel on both sides
    assert (found[0, 0] == found[0, 0, :, :1, :1]).all()


def test_a_slice_lies_at_one_height_of_its_scan():
    span = torch.tensor([[[0.25, 0.5], WHOLE, WHOLE], [[0.75, 1.0], WHOLE, [0.0, 0.5]]])
    found = places(span, (2, 2))
    assert found.shape == (2, 3, 2, 2)
    assert found[:, 0].tolist() == [[[0.375] * 2] * 2, [[0.875] * 2] * 2]
    assert found[1, 2].tolist() == [[0.125, 0.375]] * 2


def test_cells_are_counted_along_the_scans_axes_and_end_with_it():
    at = torch.tensor([[0.5, 0.3, 0.9], [0.0, 0.0, 0.0], [-0.1, 1.1, 1.0]])
    assert scan_cells(at[:, :, None], (2, 4, 4)).tolist() == [[16 + 4 + 3], [0], [0 + 12 + 3]]


def test_two_crops_of_one_scan_agree_on_the_cell_of_a_voxel():
    whole = scan_cells(places(torch.tensor([[WHOLE] * 3]), (4, 8, 8)), (2, 4, 4))
    part = scan_cells(places(torch.tensor([[WHOLE, [0.25, 0.75], [0.5, 1.0]]]), (4, 4, 4)), (2, 4, 4))
    assert torch.equal(part, whole[:, :, 2:6, 4:])
    assert whole.unique().tolist() == list(range(32))
    assert (whole.flatten().bincount() == 8).all()


@pytest.mark.parametrize(("size", "grid", "positions"), [((32, 32), (2, 4, 4), 64), ((8, 8, 6), (4, 4, 2), 12)])
def test_a_whole_cell_has_so_many_positions(size, grid, positions):
    assert cell_sizes(torch.tensor([[WHOLE] * 3]), size, grid).tolist() == [positions]
    half = torch.tensor([[[0.0, 0.1] if len(size) == 2 else WHOLE, [0.5, 1.0], WHOLE]])
    assert cell_sizes(half, size, grid).tolist() == [2 * positions]  # as many of half the scan are finer
