"""Laws of the four transformations of Models Genesis."""

import pytest
import torch

from semivox.ops.genesis import boxes, inpaint, local_shuffle, nonlinear_intensity, outpaint

SHAPES = [(4, 2, 14, 12), (4, 2, 13, 12, 8)]
ALL = [local_shuffle, nonlinear_intensity, inpaint, outpaint]


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("change", ALL)
def test_a_seed_decides_the_change_and_the_input_is_left_alone(change):
    image = torch.randn(SHAPES[1])
    before = image.clone()
    first, again, other = (change(image, generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(image, before)
    assert not torch.equal(first, before)


@pytest.mark.parametrize("change", ALL)
def test_padding_stays_zero_and_a_constant_image_finite(change):
    image, valid = torch.randn(SHAPES[1]) + 4, torch.ones(4, 13, 12, 8, dtype=torch.bool)
    image[:, :, :5], valid[:, :5] = 0, False
    assert (change(image, generator(), valid=valid)[:, :, :5] == 0).all()
    assert change(torch.full(SHAPES[0], 2.0), generator()).isfinite().all()


@pytest.mark.parametrize("change", ALL)
def test_autocast_changes_no_number(change):
    image = torch.randn(SHAPES[1])
    plain = change(image, generator())
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(change(image, generator()), plain)


@pytest.mark.parametrize("shape", SHAPES)
def test_a_shuffle_moves_whole_voxels_within_their_windows(shape):
    dims = len(shape) - 2
    image = torch.randn(shape)
    image[:, 1] = image[:, 0] * 2
    shuffled = local_shuffle(image, generator(), window=4)
    assert torch.equal(shuffled[:, 1], shuffled[:, 0] * 2)
    windows, touched = [image, shuffled], []
    for axis in range(2, 2 + dims):
        windows = [w.unfold(axis, 4, 4) for w in windows]
    before, after = (w.flatten(2 + dims).sort(-1).values for w in windows)
    assert torch.equal(before, after)
    touched = (windows[0] != windows[1]).flatten(2 + dims).any(-1)
    assert touched.any()
    assert not touched.all()
    assert torch.equal(shuffled[:, :, 12:], image[:, :, 12:])  # what fills no window


@pytest.mark.parametrize("shape", SHAPES)
def test_a_nonlinear_intensity_rises_from_the_lowest_to_the_highest_value(shape):
    image = torch.randn(shape) * 3 + 1
    bent = nonlinear_intensity(image, generator())
    order = image.flatten(2).argsort(-1)
    steps = bent.flatten(2).gather(2, order).diff(dim=-1)
    assert steps.min() >= -1e-5
    torch.testing.assert_close(bent.flatten(2).amin(-1), image.flatten(2).amin(-1))
    torch.testing.assert_close(bent.flatten(2).amax(-1), image.flatten(2).amax(-1))
    assert (bent - image).abs().max() > 0.2


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("paint", "low", "high"), [(inpaint, 1 / 6, 1 / 3), (outpaint, 3 / 7, 4 / 7)])
def test_paint_changes_only_what_is_inside_or_outside_the_boxes(shape, paint, low, high):
    image = torch.randn(shape)
    painted = paint(image, generator(3))
    inside = boxes(shape, generator(3), most=5, low=low, high=high)[:, None].expand(shape)
    assert torch.equal(painted != image, inside if paint is inpaint else ~inside)
    assert (painted.amin() >= image.amin()).item()
    assert (painted.amax() <= image.amax()).item()


def test_one_box_has_its_side_and_lies_anywhere_in_the_image():
    inside = boxes((400, 1, 12, 9), generator(), most=1, low=1 / 3, high=1 / 3)
    assert (inside.sum((1, 2)) == 12).all()
    assert (inside.any(2).sum(1) == 4).all()
    assert inside.any(0).all()
    assert (inside.float().mean(0)[4:-4, 3:-3] > 0.15).all()
