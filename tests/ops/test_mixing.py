"""CutMix and ClassMix: whose voxels go where, rectangles of half a slice, whole classes."""

import pytest
import torch

from semivox.ops.mixing import blend, box_masks, class_masks, cuboid_masks, mix, partner, paste, some_boxes


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def bounds(mask):
    """Return first and last True index along each axis of a mask (*size)."""
    return [(place.min().item(), place.max().item()) for place in mask.nonzero().unbind(1)]


# Partners


def test_the_partner_is_the_next_image_and_the_lasts_is_the_first():
    assert partner(torch.arange(3)).tolist() == [1, 2, 0]
    assert partner(torch.arange(1)).tolist() == [0]


@pytest.mark.parametrize("size", [(4, 6), (4, 6, 3)])
def test_an_image_takes_its_partners_voxels_where_the_mask_says_so(size):
    x, mask = torch.randn(3, 2, *size), torch.rand(3, *size) < 0.5
    mixed = mix(x, mask)
    for image, other in ((0, 1), (1, 2), (2, 0)):
        for channel in range(2):
            expected = torch.where(mask[image], x[other, channel], x[image, channel])
            assert torch.equal(mixed[image, channel], expected)
    label = torch.randint(5, (3, *size))
    assert torch.equal(mix(label, mask), mix(label[:, None], mask)[:, 0])
    assert torch.equal(mix(x, torch.zeros_like(mask)), x)


def test_what_is_pasted_is_anothers_voxels():
    x, other, mask = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4), torch.rand(2, 4, 4) < 0.5
    assert torch.equal(paste(x, other, mask), torch.where(mask[:, None], other, x))
    assert torch.equal(paste(x[:, 0], other[:, 0], mask), paste(x, other, mask)[:, 0])


@pytest.mark.parametrize("size", [(4,), (4, 5), (4, 5, 3)])
def test_a_blend_has_the_partners_share_of_the_partner(size):
    x, share = torch.randn(3, 2, *size), torch.tensor([0.0, 1.0, 0.25])
    mixed = blend(x, share)
    assert torch.equal(mixed[0], x[0])
    assert torch.equal(mixed[1], x[2])
    torch.testing.assert_close(mixed[2], 0.75 * x[2] + 0.25 * x[0])


# Rectangles


@pytest.mark.parametrize("size", [(64, 64), (48, 96), (31, 17)])
def test_a_box_is_a_rectangle_of_half_the_image(size):
    masks = box_masks((200, *size), generator())
    for mask in masks:
        (top, bottom), (left, right) = bounds(mask)
        assert mask[top : bottom + 1, left : right + 1].all()
        height, width = bottom - top + 1, right - left + 1
        assert mask.sum() == height * width
        # Each side is rounded, by half a voxel at most.
        assert abs(height * width - size[0] * size[1] / 2) <= (height + width) / 2 + 0.25
        assert 2 * height + 1 >= size[0]
        assert 2 * width + 1 >= size[1]


@pytest.mark.parametrize("slice_axis", [0, 1, 2])
def test_in_a_volume_the_box_runs_through_all_slices(slice_axis):
    size = [12, 14, 16]
    masks = box_masks((20, *size), generator(), slice_axis=slice_axis).movedim(1 + slice_axis, -1)
    assert (masks == masks[..., :1]).all()
    del size[slice_axis]
    flat = box_masks((20, *size), generator())
    assert torch.equal(masks[..., 0], flat)


def test_boxes_without_a_slice_axis_run_along_the_last():
    assert torch.equal(box_masks((2, 8, 9, 7), generator()), box_masks((2, 8, 9, 7), generator(), slice_axis=2))


def test_boxes_reach_every_pixel_and_every_side_between_half_and_whole():
    masks = box_masks((2000, 16, 16), generator())
    covered = masks.float().mean(0)
    assert covered.min() > 0.02
    torch.testing.assert_close(covered, covered.flip(0), atol=0.05, rtol=0)
    torch.testing.assert_close(covered, covered.flip(1), atol=0.05, rtol=0)
    assert set(masks.any(2).sum(1).tolist()) == set(range(8, 17))
    assert set(masks.any(1).sum(1).tolist()) == set(range(8, 17))


def test_each_image_has_a_box_of_its_own_and_a_seed_decides_them():
    masks = box_masks((4, 32, 32), generator())
    assert not torch.equal(masks[0], masks[1])
    assert torch.equal(masks, box_masks((4, 32, 32), generator()))
    assert not torch.equal(masks, box_masks((4, 32, 32), generator(1)))


@pytest.mark.parametrize("size", [(60, 60), (50, 100)])
def test_a_box_of_a_range_of_areas_covers_each_alike_often_and_is_no_thin_strip(size):
    masks = box_masks((2000, *size), generator(), area=(0.02, 0.4))
    sides = torch.tensor([[high - low + 1 for low, high in bounds(mask)] for mask in masks])
    assert torch.equal(masks.flatten(1).sum(1), sides.prod(1))  # rectangles
    shares = sides / torch.tensor(size)
    area = shares.prod(1)
    rounding = (shares / torch.tensor(size).flip(0)).sum(1) / 2 + 0.001
    assert (area > 0.02 - rounding).all()
    assert (area < 0.4 + rounding).all()
    for part in (0.1, 0.2, 0.3):
        assert (area < part).float().mean().item() == pytest.approx((part - 0.02) / 0.38, abs=0.04)
    large = sides.amin(1) > 10  # of small ones rounding changes the ratio
    ratio = shares[large].amax(1) / shares[large].amin(1)
    assert ratio.max() < 10 / 3 + 0.3
    assert ratio.max() > 2.5
    covered = masks.float().mean(0)
    assert all(edge.max() > 0 for edge in (covered[0], covered[-1], covered[:, 0], covered[:, -1]))
    torch.testing.assert_close(covered, covered.flip(1), atol=0.05, rtol=0)


def test_a_box_as_large_as_the_image_is_the_image_and_some_boxes_have_their_area():
    assert box_masks((5, 6, 8), generator(), area=(1.0, 1.0)).all()
    assert some_boxes((3, 6, 8, 4), 1, generator(), area=(1.0, 1.0), slice_axis=0).all()


def test_some_images_get_the_box_that_all_would_get_and_others_none():
    found = some_boxes((400, 8, 8), 0.25, generator())
    chosen = torch.rand(400, generator=generator()) < 0.25
    assert 60 < chosen.sum() < 140
    assert torch.equal(found.flatten(1).any(1), chosen)
    later = generator()
    torch.rand(400, generator=later)
    assert torch.equal(found, box_masks((400, 8, 8), later) & chosen[:, None, None])


@pytest.mark.parametrize(("share", "mean"), [(0, 0), (1, 0.5)])
@pytest.mark.parametrize("slice_axis", [0, 2])
def test_none_of_the_images_or_all_get_a_box_through_all_slices(share, mean, slice_axis):
    found = some_boxes((50, 8, 8, 8), share, generator(), slice_axis=slice_axis).movedim(1 + slice_axis, -1)
    assert found.float().mean().item() == pytest.approx(mean, abs=0.03)
    assert (found == found[..., :1]).all()


@pytest.mark.parametrize(("size", "sides"), [((12, 10), (8, 6)), ((96, 12, 7), (64, 8, 4))])
def test_a_cuboid_has_its_part_of_every_side_rounded_down_and_reaches_every_voxel(size, sides):
    masks = cuboid_masks((100, *size), 2 / 3, generator())
    starts = set()
    for mask in masks:
        places = bounds(mask)
        assert tuple(high - low + 1 for low, high in places) == sides
        assert mask.sum() == torch.tensor(sides).prod()
        starts.add(places[1][0])
    assert starts == set(range(size[1] - sides[1] + 1))


# Classes


@pytest.mark.parametrize(("held", "chosen"), [(1, 1), (2, 1), (3, 2), (4, 2), (5, 3)])
def test_half_of_the_classes_of_an_image_are_chosen_whole(held, chosen):
    classes = torch.tensor([0, 2, 3, 5, 6])[:held]
    label = classes[torch.randint(held, (50, 6, 5, 4), generator=generator(1))]
    label[:, :held, 0, 0] = classes
    masks = class_masks(label, 7, generator())
    for image, mask in zip(label, masks, strict=True):
        found = image[mask].unique()
        assert len(found) == chosen
        assert torch.equal(mask, torch.isin(image, found))


def test_every_class_is_chosen_as_often_whatever_others_are_absent():
    label = torch.tensor([1, 3, 4, 6]).expand(4000, 4)
    often = class_masks(label, 8, generator()).float().mean(0)
    torch.testing.assert_close(often, torch.full((4,), 0.5), atol=0.03, rtol=0)


def test_each_image_chooses_classes_of_its_own_and_a_seed_decides_them():
    label = torch.arange(6).expand(8, 6)
    masks = class_masks(label, 6, generator())
    assert len(masks.unique(dim=0)) > 1
    assert torch.equal(masks, class_masks(label, 6, generator()))
    assert not torch.equal(masks, class_masks(label, 6, generator(1)))
