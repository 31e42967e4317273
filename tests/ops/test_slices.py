"""Volumes as stacks of slices."""

import pytest
import torch

from semivox.ops.slices import coarse_mask, stack_slices, valid_slices


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slices_of_volumes_come_volume_by_volume(axis):
    x = torch.randn(2, 3, 4, 5, 6)
    slices = stack_slices(x, axis)
    depth = x.shape[2 + axis]
    assert len(slices) == 3
    assert torch.equal(slices[2, depth + 1], x[1, 2].select(axis, 1))
    assert torch.equal(slices[0, 0], x[0, 0].select(axis, 0))


def test_an_image_is_a_slice():
    x = torch.randn(5, 2, 4, 4)
    assert torch.equal(stack_slices(x, 2), x.transpose(0, 1))


def test_a_slice_without_a_valid_voxel_is_no_slice():
    valid = torch.zeros(2, 3, 3, 4, dtype=torch.bool)
    valid[0, 1, 1, 2] = valid[1, :, :, 0] = True
    assert valid_slices(valid, 2).tolist() == [2, 4]
    assert valid_slices(valid, 0).tolist() == [1, 3, 4, 5]
    assert valid_slices(valid[:, 0], 2).tolist() == [1]  # images: the first has no valid voxel in this row


def test_a_coarse_cell_is_valid_if_any_of_its_voxels_is():
    valid = torch.zeros(1, 4, 4, dtype=torch.bool)
    valid[0, 3, 0] = True
    assert coarse_mask(valid, torch.Size((2, 2))).tolist() == [[[False, False], [True, False]]]
    assert coarse_mask(valid[..., None].expand(1, 4, 4, 2), torch.Size((2, 2, 1))).sum() == 1
