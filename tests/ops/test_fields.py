"""The pieces of the perturbations by hand: draws per item, bases and bands."""

import pytest
import torch
from scipy import stats

from semivox.errors import ConfigError
from semivox.ops.fields import along_axes, beta, drawn_places, gaussian_band, legendre_basis, sometimes, spline_basis


def test_sometimes_draws_with_its_probability_within_its_range():
    drawn = sometimes(4000, torch.Generator().manual_seed(0), probability=0.3, low=2, high=3, otherwise=-1)
    chosen = drawn != -1
    assert abs(chosen.float().mean() - 0.3) < 0.03
    assert drawn[chosen].min() >= 2
    assert drawn[chosen].max() < 3
    assert abs(drawn[chosen].mean() - 2.5) < 0.05


def test_a_probability_moves_no_later_draw():
    first, second = torch.Generator().manual_seed(0), torch.Generator().manual_seed(0)
    sometimes(3, first, probability=0.0, low=0, high=1, otherwise=0)
    sometimes(3, second, probability=1.0, low=5, high=9, otherwise=1)
    assert torch.equal(first.get_state(), second.get_state())


@pytest.mark.parametrize("concentration", [0.1, 0.2, 0.5, 1.0])
def test_beta_numbers_have_the_quantiles_of_their_distribution(concentration):
    drawn = beta((4000,), torch.Generator().manual_seed(0), concentration)
    assert drawn.dtype == torch.float32
    assert drawn.isfinite().all()
    for quantile in (0.2, 0.4, 0.5, 0.6, 0.8):
        bound = stats.beta.ppf(quantile, concentration, concentration)
        assert (drawn <= bound).float().mean().item() == pytest.approx(quantile, abs=0.03)


def test_beta_numbers_have_their_shape_and_seed_and_no_other_concentration():
    drawn = [beta((2, 3), torch.Generator().manual_seed(seed), 0.2) for seed in (0, 0, 1)]
    assert drawn[0].shape == (2, 3)
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])
    for concentration in (0, 1.01):
        with pytest.raises(ConfigError, match="above 0 up to 1"):
            beta((1,), torch.Generator(), concentration)


def test_splines_sum_to_one_and_reproduce_a_straight_line():
    basis = spline_basis(20, 3, torch.device("cpu"))
    torch.testing.assert_close(basis.sum(1), torch.ones(20))
    assert basis.min() >= 0
    line = basis @ torch.arange(-1.0, 5)  # control points at their own abscissae, in cells
    torch.testing.assert_close(line, (torch.arange(20) + 0.5) * 3 / 20)


def test_legendre_polynomials_are_orthogonal():
    basis = legendre_basis(2000, torch.device("cpu"))
    torch.testing.assert_close(basis.T @ basis / 1000, torch.diag(2 / torch.tensor([1.0, 3, 5, 7])), atol=1e-4, rtol=0)


def test_a_gaussian_band_of_no_width_is_the_identity_and_others_have_their_deviation():
    bands = gaussian_band(41, torch.tensor([0.0, 2.0]))
    assert torch.equal(bands[0], torch.eye(41))
    offset = torch.arange(41) - 20.0
    torch.testing.assert_close((bands[1, 20] * offset**2).sum().sqrt(), torch.tensor(2.0), atol=1e-3, rtol=0)


def test_along_axes_multiplies_each_axis_by_its_own_matrix():
    x, first, second = torch.randn(2, 3, 4, 5), torch.randn(2, 6, 4), torch.randn(7, 5)
    expected = torch.stack([first[item] @ x[item] @ second.T for item in range(2)])
    torch.testing.assert_close(along_axes(x, [first, second]), expected)


def test_places_are_drawn_once_each_and_others_only_where_they_run_out():
    held = torch.tensor([[True, False, True, True, False], [False, True, False, False, False]])
    drawn = drawn_places(held, 3, torch.Generator().manual_seed(0))
    assert sorted(drawn[0].tolist()) == [0, 2, 3]
    assert 1 in drawn[1]
    assert len(set(drawn[1].tolist())) == 3
    assert drawn_places(held, 9, torch.Generator().manual_seed(0)).shape == (2, 5)
