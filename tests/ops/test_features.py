"""Perturbed features, against numbers worked out by hand."""

import pytest
import torch

from semivox.ops.features import channel_drop, feature_drop, feature_noise


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def test_noise_multiplies_every_value_by_a_number_of_its_own_near_one():
    x = torch.full((2, 3, 40, 40), 5.0)
    factor = feature_noise(x, generator(), 0.3) / x
    assert factor.min().item() == pytest.approx(0.7, abs=1e-3)
    assert factor.max().item() == pytest.approx(1.3, abs=1e-3)
    assert factor.std().item() == pytest.approx(0.3 / 3**0.5, rel=0.02)  # as of a uniform number
    assert not torch.equal(factor[0], factor[1])
    assert torch.equal(feature_noise(x * 0, generator()), x * 0)


@pytest.mark.parametrize("size", [(5,), (3, 2), (2, 2, 3)])
def test_channels_are_dropped_whole_and_the_others_enlarged(size):
    found = channel_drop(torch.ones(4, 500, *size), generator(), 0.25).flatten(2)
    assert (found == found[..., :1]).all()
    assert found.unique().tolist() == pytest.approx([0, 4 / 3])
    assert (found == 0).float().mean().item() == pytest.approx(0.25, abs=0.03)
    assert not torch.equal(found[0], found[1])


def test_the_peak_of_the_mean_over_channels_is_dropped_by_hand():
    """Means 1 2 4: a part of .75 drops what is 3 or more, one of .5 what is 2 or more; another image counts not."""
    x = torch.tensor([[[0.0, 3.0, 8.0], [2.0, 1.0, 0.0]], [[90.0, 0.0, 0.0], [90.0, 0.0, 0.0]]])  # (2, 2, 3)
    assert feature_drop(x, generator(), 0.75, 0.75).tolist()[0] == [[0, 3, 0], [2, 1, 0]]
    assert feature_drop(x, generator(), 0.5, 0.5).tolist()[0] == [[0, 0, 0], [2, 0, 0]]
    assert (feature_drop(x, generator(), 0.5, 0.5)[1] == 0).all()


def test_each_image_has_a_limit_of_its_own_within_the_range():
    x = torch.arange(1.0, 101).expand(200, 1, 100)
    kept = (feature_drop(x, generator()) != 0).flatten(1).sum(1)
    assert 59 <= kept.min() < 65
    assert 85 < kept.max() <= 90


@pytest.mark.parametrize("spoil", [feature_noise, channel_drop, feature_drop])
def test_a_seed_decides_what_is_spoilt_and_gradients_flow_to_what_is_left(spoil):
    x = torch.rand(2, 4, 6, 5, requires_grad=True)
    first = spoil(x, generator())
    assert torch.equal(first, spoil(x, generator()))
    assert not torch.equal(first, spoil(x, generator(1)))
    first.sum().backward()
    assert torch.equal(x.grad != 0, first != 0)
    assert spoil(x.bfloat16(), generator()).dtype == torch.bfloat16
