"""Laws of the random geometries: what each kind may move, how far, and that it is drawn from the generator alone."""

import pytest
import torch

from semivox.errors import ConfigError, GeometryError
from semivox.ops.motion import geometry

SHAPES = [(3, 2, 12, 12), (3, 1, 12, 12, 8)]
RESAMPLING = ("affine", "wide", "elastic")


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


RANGES = {"affine": ((0.85, 1.2), 7.2, (8, 15.5)), "wide": ((0.7, 1.4), 14.3, (20, 31))}


@pytest.mark.parametrize("kind", RANGES)
@pytest.mark.parametrize("slice_axis", [0, 2])
@pytest.mark.parametrize("spacing", [(1.0, 1.0, 1.0), (1.4, 1.4, 2.5)])
def test_an_affine_geometry_is_a_similarity_in_mm_within_its_ranges(spacing, slice_axis, kind):
    (smallest, largest), tilted, (turned, most) = RANGES[kind]  # two tilts about axes at right angles add up
    shape = (24, 1, 16, 16, 16)
    warp = geometry(shape, generator(1), kind, spacing=spacing, slice_axis=slice_axis)
    linear = source_map(warp, shape, spacing)[:, :, :3]
    scale = linear.det().pow(-1 / 3)
    torch.testing.assert_close(
        linear.mT @ linear * scale[:, None, None] ** 2, torch.eye(3).expand(24, 3, 3), atol=1e-4, rtol=0
    )
    assert scale.min() >= smallest - 1e-4
    assert scale.max() <= largest + 1e-4
    assert scale.std() > 0.2 * (largest - smallest) / 2
    tilt = torch.rad2deg((linear[:, slice_axis, slice_axis] * scale).clamp(max=1).acos())
    assert tilt.max() < tilted
    first, second = (axis for axis in range(3) if axis != slice_axis)
    turn = torch.rad2deg(torch.atan2(linear[:, second, first], linear[:, first, first])).abs()
    assert turned < turn.max() < most


@pytest.mark.parametrize("kind", RESAMPLING)
@pytest.mark.parametrize("slice_axis", [None, 0])
def test_a_rotation_of_its_own_replaces_that_of_the_kind_about_the_slice_axis(kind, slice_axis):
    shape = (64, 1, 16, 16) if slice_axis is None else (64, 1, 8, 8, 8)
    first, second = (axis for axis in range(len(shape) - 2) if axis != slice_axis)

    def turns(**words):
        warp = geometry(shape, generator(3), kind, slice_axis=slice_axis, **words)
        linear = source_map(warp, shape, (1.0,) * (len(shape) - 2))
        return torch.rad2deg(torch.atan2(linear[:, second, first], linear[:, first, first])).abs()

    assert turns().max() < 45
    assert 120 < turns(rotation=180).max() <= 180
    assert turns(rotation=0).max() < 15  # tilts, and an elastic map's own bending
    with pytest.raises(ConfigError, match="geometry 'turns' has no angles: leave out rotation"):
        geometry(shape, generator(), "turns", rotation=30)


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


@pytest.mark.parametrize("shape", [(16, 1, 48, 48), (16, 1, 32, 32, 16)])
def test_an_elastic_geometry_bends_but_never_folds(shape):
    axes = range(1, len(shape) - 1)
    source = geometry(shape, generator(), "elastic").grid.flip(-1) * torch.tensor(shape[2:]) / 2  # voxels
    first = (slice(None), *[slice(0, length - 1) for length in shape[2:]])
    slopes = torch.stack([source.diff(dim=axis)[first] for axis in axes], -1)
    assert slopes.det().min() > 0
    assert (slopes - slopes.mean(tuple(axes), keepdim=True)).abs().amax((*axes, -2, -1)).max() > 0.1


@pytest.mark.parametrize("kind", ["flips", "turns", "affine", "wide", "elastic"])
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


def test_what_does_not_fit_is_refused_in_plain_words():
    with pytest.raises(ConfigError, match="did you mean 'elastic'"):
        geometry((2, 1, 8, 8), generator(), "elastik")
    with pytest.raises(GeometryError, match="spacing"):
        geometry((2, 1, 8, 8), generator(), "affine", spacing=(1.0, 1.0, 1.0))
    with pytest.raises(GeometryError, match="slice axis 3"):
        geometry((2, 1, 8, 8, 8), generator(), "turns", slice_axis=3)
    with pytest.raises(GeometryError, match="expected \\(B, C, X, Y\\)"):
        geometry((2, 1, 8), generator(), "flips")
