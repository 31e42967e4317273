"""The sliding window covers every voxel, and changes nothing where windows agree."""

import pytest
import torch

from semivox.errors import GeometryError
from semivox.ops.windows import slide


def voxelwise(patches):
    """A net that sees one voxel at a time: windows cannot disagree, so slide must return exactly this of the volume."""
    return torch.stack([patches[:, 0].sigmoid(), 1 - patches[:, 0].sigmoid()], 1)


SHAPES = [
    ((13, 9, 7), (6, 4, 3)),  # not divisible by the stride
    ((5, 9, 2), (6, 4, 3)),  # smaller than the patch along two axes
    ((3, 2, 1), (8, 8, 8)),  # along all
    ((6, 4, 3), (6, 4, 3)),  # one window
    ((5, 13, 9), (6, 4)),  # slices
    ((2, 3, 9), (6, 4)),  # slices smaller than the patch
]


@pytest.mark.parametrize(("shape", "patch"), SHAPES)
@pytest.mark.parametrize("blend", ["gaussian", "plain"])
@pytest.mark.parametrize("step_size", [0.3, 1.0])
def test_every_voxel_is_covered_and_keeps_its_place(shape, patch, blend, step_size):
    image = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
    found = slide(image, voxelwise, patch=patch, blend=blend, step_size=step_size, batch=3, mirror=(0, 1))
    assert found.shape == (2, *shape)
    torch.testing.assert_close(found, voxelwise(image[None])[0])


@pytest.mark.parametrize(("shape", "patch"), SHAPES)
def test_a_constant_net_returns_the_constant(shape, patch):
    found = slide(torch.zeros(1, *shape), lambda x: torch.full((len(x), 3, *patch), 0.3), patch=patch)
    torch.testing.assert_close(found, torch.full((3, *shape), 0.3))


def test_windows_start_at_multiples_of_the_stride_and_end_with_the_volume():
    firsts = []

    def record(patches):
        firsts.extend(patches[:, 0, 0, 0, 0].tolist())
        return patches

    image = torch.arange(11.0).view(1, 11, 1, 1)
    slide(image, record, patch=(4, 1, 1), stride=(3, 1, 1), batch=2)
    assert firsts == [0, 3, 6, 7]


def test_batches_hold_as_many_windows_as_asked():
    sizes = []

    def record(patches):
        sizes.append(len(patches))
        return patches

    slide(torch.zeros(1, 7, 8, 8), record, patch=(8, 8), batch=3)
    assert sizes == [3, 3, 1]


def test_gaussian_windows_trust_their_middle():
    """Two windows meet on voxels 2 and 3; each voxel is nearer to the middle of one of them."""
    calls = iter([0.0, 1.0])
    options = {"patch": (4, 1, 1), "stride": (2, 1, 1), "batch": 1}
    found = slide(torch.zeros(1, 6, 1, 1), lambda x: torch.full_like(x, next(calls)), **options).flatten()
    inner, outer = (torch.exp(torch.tensor(-0.5 * (x / 0.5) ** 2)) for x in (0.5, 1.5))
    expected = outer / (inner + outer)
    torch.testing.assert_close(found, torch.tensor([0, 0, expected, 1 - expected, 1, 1]))


def test_mirrored_views_are_averaged_in_all_combinations():
    def lopsided(patches):
        p = torch.zeros_like(patches)
        p[:, :, 0, 0] = 1  # one corner of the plane, along all of the last axis
        return p

    found = slide(torch.zeros(1, 4, 4, 4), lopsided, patch=(4, 4, 4), mirror=(0, 1))
    corners = found[0, :, :, 0]
    assert corners[[0, 0, 3, 3], [0, 3, 0, 3]].tolist() == [0.25] * 4
    assert corners.sum() == 1


def test_half_precision_is_summed_in_full():
    """1 + 2^-9 is 1 in bf16."""
    parts = iter([1.0, 2.0**-9])
    options = {"patch": (4, 4, 4), "mirror": (0,)}
    found = slide(torch.zeros(1, 4, 4, 4), lambda x: x.bfloat16().fill_(next(parts)), **options)
    torch.testing.assert_close(found, torch.full((1, 4, 4, 4), (1 + 2.0**-9) / 2), rtol=0, atol=1e-7)


def test_no_gradients_are_recorded():
    weight = torch.ones((), requires_grad=True)
    assert not slide(torch.ones(1, 4, 4, 4), lambda x: x * weight, patch=(4, 4, 4)).requires_grad


@pytest.mark.parametrize(
    ("patch", "options", "message"),
    [
        ((4, 4, 4), {"stride": (5, 4, 4)}, "stride"),
        ((4, 4, 4), {"stride": (4, 4)}, "stride"),
        ((4, 4, 4), {"step_size": 0.0}, "step size"),
        ((4,), {}, "axes"),
    ],
)
def test_holes_and_misfits_are_refused(patch, options, message):
    with pytest.raises(GeometryError, match=message):
        slide(torch.zeros(1, 8, 8, 8), lambda x: x, patch=patch, **options)
