"""The views as methods call them: image, mask and label stay together."""

import pytest
import torch

from semivox.ops.perturb import strong, view, weak

SHAPES = [(4, 2, 16, 16), (4, 1, 16, 16, 8)]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("make", [weak, strong])
def test_a_view_is_zero_where_its_source_is_padding_or_outside(shape, make):
    valid = torch.ones(shape[0], *shape[2:], dtype=torch.bool)
    valid[:, :4] = False
    image = (torch.randn(shape) + 5) * valid[:, None]
    seen, warp = make(image, generator(), valid=valid)
    assert seen.shape == image.shape
    assert seen.dtype == image.dtype
    outside = ~warp.inside[:, None].expand(shape)
    assert outside.any()
    assert (seen[outside] == 0).all()
    assert (seen * warp(valid)[:, None]).count_nonzero() > 0


def test_a_view_of_no_kind_is_the_image():
    image = torch.randn(SHAPES[1])
    seen, _ = view(image, generator(), move="none", shade="none")
    assert torch.equal(seen, image)


def test_without_a_mask_the_outside_of_a_warp_counts_as_padding():
    image = torch.full(SHAPES[0], 3.0)
    seen, warp = view(image, generator(), move="affine", shade="strong")
    assert (seen[~warp.inside[:, None].expand_as(seen)] == 0).all()


def test_a_label_follows_a_view_that_goes_back_exactly():
    label = torch.randint(0, 3, (4, 16, 16, 8))
    _, warp = view(label[:, None].float(), generator(), move="turns", shade="weak", slice_axis=2)
    assert torch.equal(warp.inverse()(warp(label)), label)
