"""Connected components, by hand and against SciPy."""

import numpy as np
import pytest
import torch
from scipy import ndimage

from semivox.ops.components import largest_components


def by_scipy(label):
    """Return the largest component of every class of one image, the first of equals."""
    kept = np.zeros_like(label)
    for k in np.unique(label[label > 0]):
        parts, _ = ndimage.label(label == k)
        kept[parts == 1 + np.bincount(parts.ravel())[1:].argmax()] = k
    return kept


def test_the_larger_part_stays_and_corners_do_not_connect():
    label = torch.tensor([[[1, 1, 0, 2], [0, 0, 1, 0], [2, 2, 0, 1]]])
    expected = torch.tensor([[[1, 1, 0, 0], [0, 0, 0, 0], [2, 2, 0, 0]]])
    assert torch.equal(largest_components(label, 3), expected)


def test_of_equals_the_first_stays_and_images_do_not_mix():
    label = torch.tensor([[1, 0, 1, 0], [0, 1, 1, 1], [0, 0, 0, 0], [1, 1, 1, 1]])
    expected = torch.tensor([[1, 0, 0, 0], [0, 1, 1, 1], [0, 0, 0, 0], [1, 1, 1, 1]])
    for image, kept in ((label[..., None], expected[..., None]), (label[:, None], expected[:, None])):
        assert torch.equal(largest_components(image, 2), kept)


@pytest.mark.parametrize("size", [(31, 40), (11, 12, 13)])
@pytest.mark.parametrize("classes", [2, 4])
def test_components_of_random_labels_are_scipys(size, classes):
    generator = torch.Generator().manual_seed(0)
    for share in (0.3, 0.5, 0.7):  # specks, tangles, and nearly all in one piece
        label = torch.randint(1, classes, (3, *size), generator=generator)
        label = label * (torch.rand(3, *size, generator=generator) < share)
        found = largest_components(label, classes)
        for image, kept in zip(label, found, strict=True):
            assert np.array_equal(kept.numpy(), by_scipy(image.numpy()))


def test_a_long_winding_component_is_one():
    label = torch.zeros(1, 41, 41, dtype=torch.int64)
    label[0, ::2] = 1
    label[0, 1::4, -1] = 1
    label[0, 3::4, 0] = 1
    assert torch.equal(largest_components(label, 2), label)
    assert torch.equal(largest_components(label.mT.contiguous(), 2), label.mT)


def test_of_nothing_nothing_stays():
    assert not largest_components(torch.zeros(2, 4, 5, 3, dtype=torch.int64), 3).any()
