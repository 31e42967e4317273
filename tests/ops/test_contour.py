"""The elastic energy of contours against closed forms."""

import math

import pytest
import torch

from semivox.ops.contour import elastic_interaction


def pair(foreground: torch.Tensor) -> torch.Tensor:
    """Return (1, 2, *spatial) whose last channel is `foreground`."""
    return torch.stack([1 - foreground, foreground]).unsqueeze(0)


def wave(*cycles: int, size: tuple[int, ...]) -> torch.Tensor:
    """Return cos(2 pi sum_i cycles_i x_i / N_i), float64."""
    axes = torch.meshgrid(*(torch.arange(n, dtype=torch.float64) / n for n in size), indexing="ij")
    return (2 * math.pi * sum(m * x for m, x in zip(cycles, axes, strict=True))).cos()


def energy(wrong: torch.Tensor, **options) -> float:
    """Return the energy where truth minus prediction is `wrong`."""
    return elastic_interaction(pair(-wrong), torch.zeros(1, *wrong.shape, dtype=torch.int64), **options).item()


def random_pair(*size: int, classes: int = 2, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    p = torch.rand(2, classes, *size, generator=generator, dtype=torch.float64).softmax(1)
    return p, torch.randint(classes, (2, *size), generator=generator)


@pytest.mark.parametrize("m", [1, 3, 7])
def test_t26b_the_energy_of_m_waves_across_a_slice_is_half_of_m(m):
    assert energy(wave(m, 0, size=(16, 16))) == pytest.approx(m / 2)
    assert energy(wave(0, m, size=(16, 16))) == pytest.approx(m / 2)  # the axis that a real transform halves
    assert energy(wave(0, m, 0, size=(16, 16, 16))) == pytest.approx(m / 2)
    assert energy(wave(0, m, size=(15, 15))) == pytest.approx(m / 2)  # an odd length


def test_waves_along_a_diagonal_have_the_length_of_their_frequency():
    assert energy(wave(3, 4, size=(16, 16))) == pytest.approx(5 / 2)


def test_a_disc_that_moves_away_gains_energy_while_they_overlap():
    grid = torch.arange(64)
    discs = {
        shift: ((grid[:, None] - 32) ** 2 + (grid - 20 - shift) ** 2 < 16).double() for shift in (0, 2, 4, 8, 12, 18)
    }
    found = [energy(discs[0] - disc) for disc in discs.values()]
    assert found == pytest.approx([0, 0.085, 0.121, 0.151, 0.147, 0.146], abs=5e-4)


def test_t26c_a_constant_on_the_prediction_changes_nothing():
    p, y = random_pair(6, 8, 4)
    torch.testing.assert_close(elastic_interaction(p + 0.3, y), elastic_interaction(p, y))


def test_the_gradient_is_that_of_the_formula():
    """dE/dp = -2 alpha Re F^-1 [|k| F[y - alpha p]] / |Omega|, by full complex transforms."""
    p, y = random_pair(6, 6)
    p.requires_grad_()
    elastic_interaction(p, y, alpha=0.7).backward()
    k = torch.fft.fftfreq(6, 1 / 6, dtype=torch.float64)
    length = (k[:, None] ** 2 + k**2).sqrt()
    wrong = y - 0.7 * p[:, 1]
    expected = -2 * 0.7 * torch.fft.ifft2(length * torch.fft.fft2(wrong)).real / 36
    torch.testing.assert_close(p.grad[:, 1], expected.detach() / len(y))  # the mean over two images
    assert p.grad[:, 0].abs().sum() == 0


@pytest.mark.parametrize("options", [{}, {"slice_axis": 1}, {"sigma": 0.25}, {"spacing": (1.0, 0.7, 3.0)}], ids=str)
def test_gradients_agree_with_finite_differences(options):
    p, y = random_pair(3, 4, 5, classes=3)
    valid = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(1)) > 0.3
    assert torch.autograd.gradcheck(lambda x: elastic_interaction(x, y, valid, **options), p.requires_grad_())


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_slice_by_slice_is_the_mean_over_slices_as_images(axis):
    p, y = random_pair(4, 6, 8)
    spacing = (1.0, 0.5, 2.0)
    inside = tuple(s for i, s in enumerate(spacing) if i != axis)
    slices = zip(p.unbind(2 + axis), y.unbind(1 + axis), strict=True)
    mean = torch.stack([elastic_interaction(q, label, spacing=inside) for q, label in slices]).mean()
    torch.testing.assert_close(elastic_interaction(p, y, spacing=spacing, slice_axis=axis), mean)
    assert not torch.isclose(elastic_interaction(p, y, spacing=spacing), mean)


def test_frequencies_are_per_millimetre():
    """A wave of 8 mm in a slice of 32 x 32 mm is one of 4 cycles, whatever the voxels; equal sides leave no mark."""
    wide = energy(wave(4, 0, size=(16, 32)), spacing=(2.0, 1.0))
    assert wide == pytest.approx(4 / 2)
    assert energy(wave(4, 0, size=(16, 32)), spacing=(1.0, 1.0)) == pytest.approx(4 / 2 * math.sqrt(2))
    p, y = random_pair(4, 6, 8)
    torch.testing.assert_close(elastic_interaction(p, y, spacing=(3.0, 3.0, 3.0)), elastic_interaction(p, y))


def test_the_released_prediction_enters_cut_and_stretched():
    p, y = random_pair(6, 6)
    cut = torch.stack([p[:, 0], ((p[:, 1] - 0.5) / 0.25).clamp(0, 1)], 1)
    torch.testing.assert_close(
        elastic_interaction(p, y, alpha=0.35, sigma=0.25), elastic_interaction(cut, y, alpha=0.35)
    )


def test_voxels_that_are_not_valid_change_nothing_and_the_truth_has_no_energy():
    p, y = random_pair(6, 6, classes=3)
    valid = torch.rand(2, 6, 6, generator=torch.Generator().manual_seed(1)) > 0.3
    other = torch.where(valid.unsqueeze(1), p, 7.0), torch.where(valid, y, 2)
    torch.testing.assert_close(elastic_interaction(*other, valid), elastic_interaction(p, y, valid))
    truth = torch.stack([y == k for k in range(3)], 1).double()
    assert elastic_interaction(truth, y) == 0
    assert elastic_interaction(p, y) > 0


def test_classes_and_images_are_averaged():
    p, y = random_pair(6, 6, classes=3)
    each = [
        elastic_interaction(torch.stack([1 - q, q]).unsqueeze(0), (label == k).long().unsqueeze(0))
        for image, label in zip(p, y, strict=True)
        for k, q in enumerate(image)
        if k
    ]
    torch.testing.assert_close(elastic_interaction(p, y), torch.stack(each).mean())
