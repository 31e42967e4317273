"""Laws of a warp: images, labels, masks and targets follow one geometry, and come back by its inverse."""

import pytest
import torch

from semivox.errors import ConfigError, GeometryError
from semivox.ops.motion import KINDS, geometry

SHAPES = [(3, 2, 12, 12), (3, 1, 12, 12, 8)]
EXACT = ("none", "flips", "turns")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def centres(shape, spacing):
    """(B, dims, *size): where every voxel's centre is, in mm from the middle of the crop."""
    axes = [(torch.arange(n) - (n - 1) / 2) * side for n, side in zip(shape[2:], spacing, strict=True)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij")).expand(shape[0], -1, *shape[2:])


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["flips", "turns"])
def test_flips_and_turns_come_back_bit_for_bit(shape, kind):
    image = torch.randn(shape)
    for seed in range(8):
        warp = geometry(shape, generator(seed), kind)
        assert torch.equal(warp.inverse()(warp(image)), image)
        assert torch.equal(warp(warp.inverse()(image)), image)
        assert torch.equal(warp(image).flatten(2).sort().values, image.flatten(2).sort().values)


@pytest.mark.parametrize(("shape", "spacing"), [((6, 1, 24, 20), (1.0, 1.5)), ((6, 1, 16, 20, 12), (1.0, 1.5, 2.0))])
def test_an_affine_geometry_and_its_inverse_cancel(shape, spacing):
    where = centres(shape, spacing)
    warp = geometry(shape, generator(3), "affine", spacing=spacing)
    back = warp.inverse()
    twice = back(warp(where))
    core = back(back.inside & warp(back(torch.ones(shape[0], *shape[2:], dtype=torch.bool))))
    for axis in range(2, 2 + len(spacing)):  # two voxels from every edge of what survived both
        for step in (-2, -1, 1, 2):
            core = core & core.roll(step, axis - 1)
    inner = (slice(None), slice(None), *[slice(4, -4)] * len(spacing))
    assert core[inner[1:]].float().mean() > 0.5
    error = ((twice - where).abs().amax(1) * core)[inner[1:]]
    assert error.max() < 1e-3


def test_an_elastic_geometry_has_no_inverse():
    with pytest.raises(ConfigError, match="elastic geometry has no inverse"):
        geometry((1, 1, 16, 16), generator(), "elastic").inverse()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_labels_and_masks_keep_their_values_and_types(shape, kind):
    warp = geometry(shape, generator(), kind)
    label = torch.tensor([0, 3, 2**40 + 1])[torch.randint(3, (shape[0], *shape[2:]))]
    assert warp(label).dtype == torch.int64
    assert set(warp(label).unique().tolist()) <= {0, 3, 2**40 + 1}
    assert warp(label > 0).dtype == torch.bool
    assert torch.equal(warp(label > 0), warp(label) > 0)
    assert torch.equal(warp(label.double(), mode="nearest"), warp(label).double())


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_inside_is_where_a_mask_of_ones_goes_and_outside_is_zero(shape, kind):
    warp = geometry(shape, generator(5), kind)
    assert torch.equal(warp(torch.ones(shape[0], *shape[2:], dtype=torch.bool)), warp.inside)
    assert warp.inside.all() == (kind in EXACT)
    constant = torch.full(shape, 3.0)
    inside = warp.inside[:, None].expand(shape)
    torch.testing.assert_close(warp(constant), constant * inside)
    torch.testing.assert_close(warp(constant, fill="border"), constant)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_images_and_labels_move_by_the_same_geometry(shape, kind):
    dims = len(shape) - 2
    distance = centres(shape, (1.0,) * dims).sub(1).norm(dim=1)  # to a point off the middle, in voxels
    warp = geometry(shape, generator(4), kind)
    seen, marked = warp(distance, fill="border"), warp(distance < 3)
    half = dims**0.5 / 2 + 0.05  # from a point to the nearest voxel's centre
    assert marked[seen < 3 - half].all()
    assert not marked[seen > 3 + half].any()


def test_targets_with_several_channel_axes_follow_like_images():
    warp = geometry(SHAPES[1], generator(), "affine")
    target = torch.rand(3, 2, 2, 12, 12, 8)
    moved = warp(target, fill="border")
    assert moved.shape == target.shape
    torch.testing.assert_close(moved[:, 1], warp(target[:, 1], fill="border"))


def test_gradients_pass_through_a_resampling_warp():
    warp = geometry((2, 1, 8, 8), generator(), "affine")
    x = torch.randn(2, 1, 8, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(warp, (x,))


def test_a_tensor_of_another_size_is_refused_in_plain_words():
    warp = geometry((2, 1, 8, 8), generator(), "affine")
    with pytest.raises(GeometryError, match=r"made for \(2, \.\.\., 8, 8\) was called on \(2, 1, 8, 9\)"):
        warp(torch.zeros(2, 1, 8, 9))
    with pytest.raises(GeometryError, match="was called on"):
        warp(torch.zeros(3, 1, 8, 8))
    with pytest.raises(ConfigError, match="did you mean 'nearest'"):
        warp(torch.zeros(2, 1, 8, 8), mode="neares")
