"""What a critic's answers cost, against numbers worked out by hand."""

import math

import pytest
import torch
from torch.nn import functional as F

from semivox.ops.adversarial import critic_loss, fast_gradient, one_hot, virtual_attack


def answers(*logits: float) -> torch.Tensor:
    """Return logits (1, 1, N)."""
    return torch.tensor(logits, dtype=torch.float64)[None, None]


def everywhere(logits: torch.Tensor) -> torch.Tensor:
    return torch.ones(len(logits), *logits.shape[2:], dtype=torch.bool)


@pytest.mark.parametrize(
    ("logit", "real", "cost"),
    [(0, True, 0.693147), (0, False, 0.693147), (math.log(3), True, 0.287682), (math.log(3), False, 1.386294)],
)
def test_an_undecided_critic_and_one_that_says_three_quarters(logit, real, cost):
    logits = answers(logit, logit)
    assert critic_loss(logits, everywhere(logits), real=real).item() == pytest.approx(cost, abs=1e-6)


@pytest.mark.parametrize("real", [True, False])
def test_it_is_the_cross_entropy_of_the_answers_and_stays_finite_where_that_of_probabilities_does_not(real):
    logits = torch.randn(2, 1, 4, 5, requires_grad=True)
    loss = critic_loss(logits, everywhere(logits), real=real)
    torch.testing.assert_close(loss, F.binary_cross_entropy(logits.sigmoid(), torch.full_like(logits, float(real))))
    sure = torch.full((1, 1, 2, 2), -500.0 if real else 500.0, requires_grad=True)
    wrong = critic_loss(sure, everywhere(sure), real=real)
    wrong.backward()
    assert wrong.item() == 500
    assert sure.grad.abs().sum() == 1


def test_only_places_with_a_valid_voxel_count():
    logits, valid = answers(0, 7, math.log(3)), torch.tensor([[True, False, True]])
    assert critic_loss(logits, valid, real=True).item() == pytest.approx((0.693147 + 0.287682) / 2, abs=1e-6)
    assert critic_loss(logits, valid & False, real=True) == 0


@pytest.mark.parametrize("spatial", [(4, 4), (4, 4, 2)])
def test_a_place_of_a_coarser_grid_counts_where_one_of_its_voxels_does(spatial):
    grid = [length // 2 for length in spatial]
    valid = torch.zeros(1, *spatial, dtype=torch.bool)
    valid[(0, *([0] * len(spatial)))] = True
    logits = torch.full((1, 1, *grid), 9.0)
    logits[(0, 0, *([0] * len(spatial)))] = 0
    assert critic_loss(logits, valid, real=True).item() == pytest.approx(math.log(2))


def test_half_precision_is_summed_in_single():
    logits = torch.full((1, 1, 300, 300), 0.5, dtype=torch.bfloat16)
    loss = critic_loss(logits, everywhere(logits), real=True)
    assert loss.dtype == torch.float32
    assert loss.item() == pytest.approx(math.log(1 + math.exp(-0.5)), rel=1e-5)


def test_a_label_is_a_sure_prediction():
    p = one_hot(torch.tensor([[0, 2], [1, 1]]), 3)
    assert p.dtype == torch.float32
    assert p.tolist() == [[[1, 0], [0, 0], [0, 1]], [[0, 0], [1, 1], [0, 0]]]


def test_every_valid_voxel_moves_a_step_to_where_the_loss_is_larger_and_the_graph_stays():
    image = torch.tensor([[[1.0, 2.0, 3.0, 4.0]]], requires_grad=True)  # (1, 1, 4)
    weights = torch.tensor([3.0, -2.0, 0.0, 5.0], requires_grad=True)
    loss = (weights * image).sum()
    moved = fast_gradient(image, loss, 0.5, torch.tensor([[True, True, True, False]]))
    assert moved.tolist() == [[[1.5, 1.5, 3.0, 4.0]]]
    assert not moved.requires_grad
    assert image.grad is None
    loss.backward()
    assert weights.grad.tolist() == [1, 2, 3, 4]


def attack(image, away, valid=None, **options):
    valid = everywhere(image) if valid is None else valid
    options = {"xi": 0.5, "size": 0.1} | options
    return virtual_attack(image, away, valid, torch.Generator().manual_seed(0), **options)


def test_an_attack_goes_where_the_prediction_moves_by_hand():
    found = attack(torch.zeros(1, 1, 4), lambda x: x[..., 0].square().sum())
    assert found.abs().flatten().tolist() == pytest.approx([0.2, 0, 0, 0])
    assert not found.requires_grad


def test_an_attack_has_its_size_in_every_image_and_spares_what_is_not_valid():
    valid = torch.ones(3, 8, 8, dtype=torch.bool)
    valid[1, :4], valid[2] = False, False
    image = torch.randn(3, 2, 8, 8)
    seen = []
    found = attack(image, lambda x: (seen.append(x), x.square().sum())[1] * 1e-9, valid)
    for change, size in ((seen[0].detach() - image, 0.5), (found, 0.1)):
        assert change[0].square().mean().sqrt().item() == pytest.approx(size, rel=1e-4)
        assert change[1, :, 4:].square().mean().sqrt().item() == pytest.approx(size, rel=1e-4)
        assert (change[1, :, :4] == 0).all()
        assert (change[2] == 0).all()
