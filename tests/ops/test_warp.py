"""Laws of a geometry that images, labels, masks and targets follow, in 2D and 3D."""

import pytest
import torch

from semivox.errors import ConfigError, GeometryError
from semivox.ops.motion import KINDS, geometry

SHAPES = [(3, 2, 12, 12), (3, 1, 12, 12, 8)]
RESAMPLING = ("affine", "elastic")
EXACT = ("none", "flips", "turns")


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def centres(shape, spacing):
    """(B, dims, *size): where every voxel's centre is, in mm from the middle of the crop."""
    axes = [(torch.arange(n) - (n - 1) / 2) * side for n, side in zip(shape[2:], spacing, strict=True)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij")).expand(shape[0], -1, *shape[2:])


def source_map(warp, shape, spacing):
    """(B, dims, dims + 1): the affine map from result to source in mm, as the moved coordinates show it."""
    where = centres(shape, spacing)
    moved, maps = warp(where), []
    for item in range(shape[0]):
        keep = warp.inside[item]
        for axis in range(where.shape[1]):  # a voxel's width from the faces, where interpolation is not linear
            n = shape[2 + axis]
            limit = (n - 1) / 2 * spacing[axis] * (1 - 1e-3)
            keep = keep & (moved[item, axis].abs() < limit)
        known = torch.cat([where[item][:, keep], torch.ones(1, int(keep.sum()))]).T
        maps.append(torch.linalg.lstsq(known, moved[item][:, keep].T).solution.T)
    return torch.stack(maps)


@pytest.mark.parametrize("shape", SHAPES)
def test_kind_none_changes_nothing(shape):
    image = torch.randn(shape)
    warp = geometry(shape, generator(), "none")
    assert torch.equal(warp(image), image)
    assert warp.inside.all()


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["flips", "turns"])
def test_flips_and_turns_come_back_bit_for_bit(shape, kind):
    image = torch.randn(shape)
    for seed in range(8):
        warp = geometry(shape, generator(seed), kind)
        assert torch.equal(warp.inverse()(warp(image)), image)
        assert torch.equal(warp(warp.inverse()(image)), image)
        assert torch.equal(warp(image).flatten(2).sort().values, image.flatten(2).sort().values)


def test_turns_reach_all_eight_symmetries_of_the_slice_equally_often():
    picture = torch.arange(4).reshape(1, 2, 2)
    moved = geometry((4000, 1, 2, 2), generator(), "turns")(picture.expand(4000, 2, 2))
    found, counts = moved.flatten(1).unique(dim=0, return_counts=True)
    turned = [torch.rot90(side, k, (1, 2)).flatten() for side in (picture, picture.flip(1)) for k in range(4)]
    assert torch.equal(found, torch.stack(turned).unique(dim=0))
    assert counts.min() > 400


@pytest.mark.parametrize("slice_axis", [0, 1, 2])
def test_turns_keep_every_slice_a_slice_in_its_place(slice_axis):
    shape = (16, 1, 6, 6, 6)
    slices = torch.arange(6).reshape([6 if axis == slice_axis else 1 for axis in range(3)]).expand(shape)
    assert torch.equal(geometry(shape, generator(), "turns", slice_axis=slice_axis)(slices), slices)


@pytest.mark.parametrize(("shape", "spacing"), [((64, 1, 6, 4), None), ((64, 1, 6, 6), (1.0, 1.5))])
def test_a_plane_of_unequal_sides_is_turned_by_half_turns_only(shape, spacing):
    rows = torch.arange(6)[:, None].expand(shape)
    moved = geometry(shape, generator(), "turns", spacing=spacing)(rows)
    assert all(torch.equal(item, rows[0]) or torch.equal(item, rows[0].flip(1)) for item in moved)
    assert not torch.equal(moved, rows)


@pytest.mark.parametrize("slice_axis", [0, 2])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (1.4, 1.4, 2.5)])
def test_an_affine_geometry_is_a_similarity_in_mm_within_its_ranges(spacing, slice_axis):
    shape = (24, 1, 16, 16, 16)
    warp = geometry(shape, generator(1), "affine", spacing=spacing, slice_axis=slice_axis)
    linear = source_map(warp, shape, spacing)[:, :, :3]
    scale = linear.det().pow(-1 / 3)
    torch.testing.assert_close(
        linear.mT @ linear * scale[:, None, None] ** 2, torch.eye(3).expand(24, 3, 3), atol=1e-4, rtol=0
    )
    assert scale.min() >= 0.85 - 1e-4
    assert scale.max() <= 1.2 + 1e-4
    assert scale.std() > 0.03
    tilt = torch.rad2deg((linear[:, slice_axis, slice_axis] * scale).clamp(max=1).acos())
    assert tilt.max() < 7.2  # two tilts of 5 degrees about axes at right angles
    first, second = (axis for axis in range(3) if axis != slice_axis)
    turn = torch.rad2deg(torch.atan2(linear[:, second, first], linear[:, first, first])).abs()
    assert 8 < turn.max() < 15.5


def test_a_ball_in_mm_stays_a_ball():
    shape, spacing = (12, 1, 32, 32, 32), (1.0, 1.0, 2.0)  # turned mostly in a plane of unequal sides
    where = centres(shape, spacing)
    warp = geometry(shape, generator(2), "affine", spacing=spacing, slice_axis=0)
    for moved in warp((where.norm(dim=1) < 11).float()):
        spread = torch.cov(where[0][:, moved > 0.5])
        torch.testing.assert_close(spread / spread.trace() * 3, torch.eye(3), atol=0.06, rtol=0)


@pytest.mark.parametrize("kind", RESAMPLING)
def test_nothing_moves_between_thick_slices(kind):
    shape, spacing = (8, 1, 16, 16, 6), (1.4, 1.4, 10.0)
    moved = geometry(shape, generator(), kind, spacing=spacing)(centres(shape, spacing), fill="border")
    torch.testing.assert_close(moved[:, 2], centres(shape, spacing)[:, 2], atol=1e-4, rtol=0)
    assert (moved[:, :2] - centres(shape, spacing)[:, :2]).abs().max() > 1


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


@pytest.mark.parametrize("shape", [(16, 1, 48, 48), (16, 1, 32, 32, 16)])
def test_an_elastic_geometry_bends_but_never_folds(shape):
    axes = range(1, len(shape) - 1)
    source = geometry(shape, generator(), "elastic").grid.flip(-1) * torch.tensor(shape[2:]) / 2  # voxels
    first = (slice(None), *[slice(0, length - 1) for length in shape[2:]])
    slopes = torch.stack([source.diff(dim=axis)[first] for axis in axes], -1)
    assert slopes.det().min() > 0
    assert (slopes - slopes.mean(tuple(axes), keepdim=True)).abs().amax((*axes, -2, -1)).max() > 0.1


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


@pytest.mark.parametrize("kind", ["flips", "turns", "affine", "elastic"])
def test_a_seed_decides_the_draw_and_items_differ(kind):
    image = torch.randn(1, 1, 12, 12, 8).expand(8, 1, 12, 12, 8)
    first, again, other = (geometry(image.shape, generator(seed), kind)(image) for seed in (7, 7, 8))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert len({tuple(item.flatten().tolist()) for item in first}) >= 4


@pytest.mark.parametrize("kind", RESAMPLING)
def test_autocast_moves_no_voxel(kind):
    plain = geometry(SHAPES[1], generator(), kind).grid
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(geometry(SHAPES[1], generator(), kind).grid, plain)


def test_gradients_pass_through_a_resampling_warp():
    warp = geometry((2, 1, 8, 8), generator(), "affine")
    x = torch.randn(2, 1, 8, 8, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(warp, (x,))


def test_what_does_not_fit_is_refused_in_plain_words():
    warp = geometry((2, 1, 8, 8), generator(), "affine")
    with pytest.raises(GeometryError, match=r"made for \(2, \.\.\., 8, 8\) was called on \(2, 1, 8, 9\)"):
        warp(torch.zeros(2, 1, 8, 9))
    with pytest.raises(GeometryError, match="was called on"):
        warp(torch.zeros(3, 1, 8, 8))
    with pytest.raises(ConfigError, match="did you mean 'nearest'"):
        warp(torch.zeros(2, 1, 8, 8), mode="neares")
    with pytest.raises(ConfigError, match="did you mean 'elastic'"):
        geometry((2, 1, 8, 8), generator(), "elastik")
    with pytest.raises(GeometryError, match="spacing"):
        geometry((2, 1, 8, 8), generator(), "affine", spacing=(1.0, 1.0, 1.0))
    with pytest.raises(GeometryError, match="slice axis 3"):
        geometry((2, 1, 8, 8, 8), generator(), "turns", slice_axis=3)
    with pytest.raises(GeometryError, match="expected \\(B, C, X, Y\\)"):
        geometry((2, 1, 8), generator(), "flips")
