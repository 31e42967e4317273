"""Distance maps against distances counted one by one."""

import numpy as np
import pytest

from semivox.data.targets import distances

SPACING = (1.0, 2.0, 3.0)


def by_hand(mask, spacing):
    """The distance from each voxel of a mask to the nearest voxel outside it, in mm."""
    outside = np.argwhere(~mask) * spacing
    result = np.zeros(mask.shape)
    for voxel in np.argwhere(mask):
        result[tuple(voxel)] = np.linalg.norm(outside - voxel * spacing, axis=1).min()
    return result


def test_both_sides_of_every_class_in_mm():
    label = np.random.default_rng(0).integers(0, 3, (5, 4, 3)).astype(np.uint8)
    label[0] = 255
    found = distances(label, 3, SPACING)
    assert found.shape == (2, 2, 5, 4, 3)
    assert found.dtype == np.float16
    for index in (1, 2):
        np.testing.assert_allclose(found[index - 1, 0], by_hand(label == index, SPACING), rtol=1e-3)
        np.testing.assert_allclose(found[index - 1, 1], by_hand(label != index, SPACING), rtol=1e-3)


def test_slices_of_2d_plans_know_nothing_of_each_other():
    label = np.zeros((3, 4, 5), np.uint8)
    label[1, 1:3, 2] = 1
    found = distances(label, 2, SPACING, slices_first=True)
    assert not found[:, :, [0, 2]].any()  # slices without the class
    np.testing.assert_allclose(found[0, 1, 1], by_hand(label[1] == 0, SPACING[1:]), rtol=1e-3)


@pytest.mark.parametrize(("value", "depth"), [(0, 0), (1, np.sqrt(4**2 + 8**2 + 12**2))])
def test_absent_and_ubiquitous_classes_have_finite_maps(value, depth):
    found = distances(np.full((4, 4, 4), value, np.uint8), 2, SPACING)
    np.testing.assert_allclose(found[0, 0], depth, rtol=1e-3)
    assert not found[0, 1].any()
