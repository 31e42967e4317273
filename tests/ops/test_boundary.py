"""Boundaries and signed distance maps against small cubes worked out by hand."""

import math

import numpy as np
import pytest
import torch
from scipy import ndimage

from semivox.ops.boundary import inner_boundary, label_distance, mask_of_distance, signed_distance


def distances(mask: torch.Tensor, sampling: tuple[float, ...] | None = None) -> torch.Tensor:
    """Return (1, 1, 2, *spatial) from one mask (*spatial)."""
    array = mask.numpy()
    both = [ndimage.distance_transform_edt(m, sampling=sampling) for m in (array, ~array)]
    return torch.from_numpy(np.stack(both)).float()[None, None]


def signed(mask: torch.Tensor, valid: torch.Tensor | None = None, **options) -> torch.Tensor:
    """Return the map (*spatial) of one mask (*spatial)."""
    valid = torch.ones_like(mask) if valid is None else valid
    sampling = options.pop("sampling", None)
    return signed_distance(distances(mask, sampling), mask[None, None], valid[None], **options)[0, 0]


@pytest.fixture
def cube() -> torch.Tensor:
    """Return a cube of 3^3 voxels centred in 7^3."""
    mask = torch.zeros(7, 7, 7, dtype=torch.bool)
    mask[2:5, 2:5, 2:5] = True
    return mask


def blob(seed: int = 0) -> torch.Tensor:
    generator = np.random.default_rng(seed)
    return torch.from_numpy(ndimage.gaussian_filter(generator.normal(size=(9, 9, 6)), 1.5) > 0)


def test_the_inner_boundary_of_a_cube_is_all_but_its_centre(cube):
    shell = cube.clone()
    shell[3, 3, 3] = False
    assert torch.equal(inner_boundary(cube, dims=3), shell)


def test_what_lies_beyond_the_crop_or_is_not_valid_is_no_outside():
    full = torch.ones(4, 4, dtype=torch.bool)
    assert not inner_boundary(full, dims=2).any()
    half = full.clone()
    half[2:] = False
    assert inner_boundary(half, dims=2).nonzero().tolist() == [[1, 0], [1, 1], [1, 2], [1, 3]]
    assert not inner_boundary(half, half, dims=2).any()


def test_a_cube_in_seven_cubed_has_the_values_of_the_closed_form(cube):
    sdm = signed(cube)
    assert sdm[3, 3, 3] == -1
    assert (sdm[inner_boundary(cube, dims=3)] == 0).all()
    assert inner_boundary(cube, dims=3).sum() == 26
    assert sdm[1, 3, 3].item() == pytest.approx(1 / math.sqrt(12), abs=1e-6)
    assert sdm[0, 0, 0] == 1


def test_inside_is_not_positive_outside_not_negative_and_all_within_one():
    mask = blob()
    sdm = signed(mask)
    assert (sdm[mask] <= 0).all()
    assert (sdm[~mask] > 0).all()
    assert sdm.min() == -1
    assert sdm.max() == 1


def test_the_sign_follows_the_mask_where_interpolated_distances_reach_over_it():
    mask = blob()
    blurred = torch.nn.functional.avg_pool3d(distances(mask)[0], 3, stride=1, padding=1)[None]
    sdm = signed_distance(blurred, mask[None, None], torch.ones_like(mask)[None])[0, 0]
    assert (sdm[mask] <= 0).all()
    assert (sdm[~mask] >= 0).all()


def test_an_empty_crop_is_zero_and_a_full_one_minus_one():
    empty = torch.zeros(3, 4, 5, dtype=torch.bool)
    assert (signed(empty) == 0).all()
    assert (signed(empty, empty=1.0) == 1).all()
    full = torch.ones_like(empty)
    assert (signed(full) == -1).all()
    # The volume goes on outside the crop: finite distances, still nothing but foreground.
    known = torch.stack([torch.rand(3, 4, 5) + 1, torch.zeros(3, 4, 5)])[None, None]
    assert (signed_distance(known, full[None, None], full[None]) == -1).all()


def test_a_mask_of_thickness_one_is_all_boundary():
    mask = torch.zeros(5, 5, dtype=torch.bool)
    mask[2] = True
    sdm = signed(mask)
    assert (sdm[2] == 0).all()
    assert sdm[0, 0] == 1


def test_padding_is_zero_and_does_not_count(cube):
    whole = signed(cube)
    padded = torch.nn.functional.pad(cube, (0, 0, 0, 0, 3, 0))
    valid = torch.ones_like(padded)
    valid[:3] = False
    far = torch.nn.functional.pad(distances(cube), (0, 0, 0, 0, 3, 0), value=99.0)
    sdm = signed_distance(far, padded[None, None], valid[None])[0, 0]
    assert (sdm[:3] == 0).all()
    assert torch.equal(sdm[3:], whole)


@pytest.mark.parametrize("move", [lambda x: x.flip(0), lambda x: x.flip(2), lambda x: x.rot90(1, (0, 1))])
def test_the_map_moves_with_flips_and_quarter_turns(move):
    mask = blob()
    torch.testing.assert_close(signed(move(mask)), move(signed(mask)))


def test_distances_in_mm_see_thick_slices():
    mask = torch.zeros(3, 3, 3, dtype=torch.bool)
    mask[1, 1, 1] = True
    sdm = signed(mask, sampling=(1.0, 1.0, 4.0))
    assert sdm[0, 1, 1].item() == pytest.approx(1 / math.sqrt(18))
    assert sdm[1, 1, 0].item() == pytest.approx(4 / math.sqrt(18))


def test_the_volume_norm_divides_by_the_volumes_own_maxima(cube):
    largest = torch.tensor([[[4.0, 10.0]]])
    sdm = signed(cube, norm="volume", largest=largest)
    assert sdm[3, 3, 3].item() == pytest.approx(-2 / 4)
    assert sdm[1, 3, 3].item() == pytest.approx(1 / 10)
    with pytest.raises(ValueError, match="largest"):
        signed(cube, norm="volume")


@pytest.mark.parametrize("empty", [0.0, 1.0])
def test_the_volume_norm_knows_the_foreground_beyond_a_crop(cube, empty):
    known, valid = distances(cube)[..., :2], torch.ones(1, 7, 7, 2, dtype=torch.bool)
    crop, options = cube[None, None, ..., :2], {"norm": "volume", "empty": empty}
    assert not crop.any()
    largest = torch.tensor([[[2.0, 8.0]]])
    sdm = signed_distance(known, crop, valid, largest=largest, **options)[0, 0]
    torch.testing.assert_close(sdm, known[0, 0, 1] / 8)
    # No foreground in the whole volume: no distances. As in a slice without foreground of a volume that has some.
    for most in (torch.zeros(1, 1, 2), largest):
        sdm = signed_distance(torch.zeros_like(known), crop, valid, largest=most, **options)
        assert (sdm == empty).all()


def test_classes_and_items_are_mapped_one_by_one():
    masks = [blob(seed) for seed in range(4)]
    together = signed_distance(
        torch.cat([distances(m) for m in masks]).reshape(2, 2, 2, 9, 9, 6),
        torch.stack(masks).reshape(2, 2, 9, 9, 6),
        torch.ones(2, 9, 9, 6, dtype=torch.bool),
    )
    assert torch.equal(together.flatten(0, 1), torch.stack([signed(m) for m in masks]))


def test_every_foreground_class_of_a_label_has_its_own_map(cube):
    other = torch.zeros_like(cube)
    other[5:, 5:, 5:] = True
    label = cube.long() + 2 * other
    given = torch.cat([distances(mask) for mask in (cube, other)], 1)
    found = label_distance({"distances": given}, label[None], torch.ones_like(cube)[None])
    assert torch.equal(found[0], torch.stack([signed(cube), signed(other)]))


def test_a_label_without_a_class_has_the_map_that_is_asked_for_and_volumes_their_own_largest_distance(cube):
    label, valid = torch.zeros(1, 7, 7, 7, dtype=torch.int64), torch.ones(1, 7, 7, 7, dtype=torch.bool)
    nothing = {"distances": torch.zeros(1, 1, 2, 7, 7, 7)}
    assert (label_distance(nothing, label, valid) == 0).all()
    assert (label_distance(nothing, label, valid, empty=1) == 1).all()
    far = {"distances": distances(cube), "largest": torch.tensor([[[4.0, 20.0]]])}
    found = label_distance(far, cube.long()[None], valid, norm="volume")[0, 0]
    assert found[3, 3, 3] == -0.5  # 2 voxels deep of 4
    assert found[1, 3, 3] == pytest.approx(1 / 20)


def test_the_mask_of_a_distance_by_hand():
    found = mask_of_distance(torch.tensor([-0.5, 0.0, 0.5]), slope=2 * math.log(3))
    torch.testing.assert_close(found, torch.tensor([0.75, 0.5, 0.25]))
