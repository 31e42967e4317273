"""Volumes as stacks of slices, and other grids: coarser, finer, every n-th voxel."""

import pytest
import torch
from torch.nn import functional as F

from semivox.ops.slices import (
    coarse_mask,
    masked_mean,
    masked_pool,
    pool_slices,
    stack_slices,
    strided,
    valid_slices,
)


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
    for held, axis, expected in (
        (valid, 2, [2, 4]),
        (valid, 0, [1, 3, 4, 5]),
        (valid[:, 0], 2, [1]),  # images: the first has no valid voxel in this row
    ):
        assert valid_slices(held, axis).nonzero().flatten().tolist() == expected


@pytest.mark.parametrize("size", [(128, 128), (30, 30), (7, 13), (112, 80), (1, 200)])
def test_pooled_slices_are_those_of_adaptive_average_pooling_in_value_and_gradient(size):
    x = torch.randn(2, 3, 112, 80, requires_grad=True)
    pooled, judge = pool_slices(x, size), F.adaptive_avg_pool2d(x, size)
    torch.testing.assert_close(pooled, judge, rtol=0, atol=1e-5)
    weight = torch.randn_like(judge)
    mine, its = (torch.autograd.grad((y * weight).sum(), x)[0] for y in (pooled, judge))
    torch.testing.assert_close(mine, its, rtol=1e-5, atol=1e-5)


def test_pooling_by_hand_and_in_single_precision_under_autocast():
    x = torch.tensor([[1.0, 2.0, 3.0]])
    assert pool_slices(x, (1, 2)).tolist() == [[1.5, 2.5]]
    assert pool_slices(x, (2, 6)).tolist() == [[1, 1, 2, 2, 3, 3]] * 2
    x = torch.randn(2, 3, 14, 10)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = pool_slices(x, (16, 7))
    assert torch.equal(inside, pool_slices(x, (16, 7)))


def test_a_coarse_cell_is_valid_if_any_of_its_voxels_is():
    valid = torch.zeros(1, 4, 4, dtype=torch.bool)
    valid[0, 3, 0] = True
    assert coarse_mask(valid, torch.Size((2, 2))).tolist() == [[[False, False], [True, False]]]
    assert coarse_mask(valid[..., None].expand(1, 4, 4, 2), torch.Size((2, 2, 1))).sum() == 1


POOLS = {2: F.adaptive_avg_pool2d, 3: F.adaptive_avg_pool3d}


@pytest.mark.parametrize(
    ("shape", "size"), [((12, 8), (3, 4)), ((5, 7), (8, 8)), ((8, 9, 10), (4, 4, 4)), ((6, 5, 1), (1, 1, 1))]
)
def test_with_all_voxels_valid_pooling_is_adaptive_average_pooling(shape, size):
    x, valid = torch.randn(2, 3, *shape), torch.ones(2, *shape, dtype=torch.bool)
    torch.testing.assert_close(masked_pool(x, valid, size), POOLS[len(shape)](x, size))


def test_a_cell_is_the_mean_of_its_valid_voxels_and_zero_without_one():
    x = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).reshape(1, 1, 1, 6)
    valid = torch.tensor([True, True, False, True, False, False]).reshape(1, 1, 6)
    assert masked_pool(x, valid, (1, 1)).item() == pytest.approx(7 / 3)
    assert masked_pool(x, valid, (1, 3)).tolist() == [[[[1.5, 4, 0]]]]


def test_what_is_not_valid_changes_no_cell_and_gets_no_gradient():
    x, valid = torch.randn(2, 3, 8, 6, requires_grad=True), torch.rand(2, 8, 6) < 0.5
    other = torch.where(valid.unsqueeze(1), x, 100)
    pooled = masked_pool(x, valid, (3, 2))
    assert torch.equal(masked_pool(other, valid, (3, 2)), pooled)
    pooled.square().sum().backward()
    assert not x.grad[~valid.unsqueeze(1).expand_as(x)].any()


def test_masked_pooling_is_single_precision_under_autocast():
    x, valid = torch.randn(2, 3, 8, 6), torch.rand(2, 8, 6) < 0.5
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = masked_pool(x, valid, (3, 2))
    assert torch.equal(inside, masked_pool(x, valid, (3, 2)))


def test_strides_take_the_middle_voxel_of_every_cell():
    assert strided(torch.arange(12), (4,)).tolist() == [2, 6, 10]
    assert strided(torch.arange(9), (3,)).tolist() == [1, 4, 7]
    x = torch.arange(2 * 3 * 8 * 6 * 5).reshape(2, 3, 8, 6, 5)
    assert torch.equal(strided(x, (4, 2, 1)), x[:, :, 2::4, 1::2])
    assert torch.equal(strided(x, (1, 1, 1)), x)


def test_the_mean_of_a_volume_is_that_of_its_valid_voxels_and_zero_without_one():
    x = torch.tensor([[[[1.0, 2.0], [3.0, 9.0]], [[0.0, 2.0], [4.0, 9.0]]]]).repeat(2, 1, 1, 1)
    valid = torch.tensor([[[True, True], [True, False]], [[False, False], [False, False]]])
    torch.testing.assert_close(masked_mean(x, valid), torch.tensor([[2.0, 2.0], [0.0, 0.0]]))
