"""Dice, cross-entropy and masked errors against numbers worked out by hand."""

import math

import pytest
import torch

from semivox.ops.dice import (
    dice_ce,
    masked_cross_entropy,
    masked_js,
    masked_kl,
    masked_mse,
    soft_dice_between,
    soft_dice_loss,
)


def softmax_pair(*foreground: float) -> torch.Tensor:
    """Return probabilities (1, 2, N) with these foreground values."""
    p = torch.tensor(foreground, dtype=torch.float64)
    return torch.stack([1 - p, p]).unsqueeze(0)


def test_dice_of_two_voxels_is_one_ninth():
    loss = soft_dice_loss(softmax_pair(0.8, 0.4), torch.tensor([[1, 0]]))
    assert loss.item() == pytest.approx(1 / 9, abs=1e-5)


def test_dice_is_zero_at_the_truth_and_for_a_class_that_is_nowhere():
    assert soft_dice_loss(softmax_pair(1, 0), torch.tensor([[1, 0]])).item() == pytest.approx(0, abs=1e-6)
    assert soft_dice_loss(softmax_pair(0, 0), torch.tensor([[0, 0]])).item() == pytest.approx(0, abs=1e-6)


def test_dice_averages_foreground_classes_and_leaves_the_background_out():
    label = torch.tensor([[0, 1, 2]])
    p = torch.zeros(1, 3, 3, dtype=torch.float64)
    p[0, 1, 1] = 1  # class 1 is right, class 2 and the background are missed
    assert soft_dice_loss(p, label).item() == pytest.approx((0 + 1) / 2, abs=1e-4)


def test_dice_ce_is_the_mean_of_its_halves():
    logits = torch.tensor([[[0.0, 0.0], [math.log(4), math.log(2 / 3)]]])  # foreground .8 and .4
    label = torch.tensor([[1, 0]])
    cross_entropy = -(math.log(0.8) + math.log(0.6)) / 2
    assert masked_cross_entropy(logits, label).item() == pytest.approx(cross_entropy, abs=1e-6)
    assert dice_ce(logits, label).item() == pytest.approx((cross_entropy + 1 / 9) / 2, abs=1e-5)


@pytest.mark.parametrize("loss", [dice_ce, masked_cross_entropy])
def test_voxels_that_are_not_valid_change_nothing(loss):
    generator = torch.Generator().manual_seed(0)
    logits, label = torch.randn(2, 3, 4, 4, generator=generator), torch.randint(3, (2, 4, 4), generator=generator)
    valid = torch.rand(2, 4, 4, generator=generator) > 0.3
    other = torch.where(valid.unsqueeze(1), logits, 7.0), torch.where(valid, label, 2)
    assert loss(logits, label, valid) == loss(*other, valid)
    assert loss(logits, label, valid) != loss(logits, label)


@pytest.mark.parametrize("loss", [dice_ce, masked_cross_entropy])
def test_valid_everywhere_is_the_same_as_no_mask(loss):
    generator = torch.Generator().manual_seed(0)
    logits, label = torch.randn(2, 3, 5, generator=generator), torch.randint(3, (2, 5), generator=generator)
    torch.testing.assert_close(loss(logits, label, torch.ones_like(label, dtype=torch.bool)), loss(logits, label))


def test_masked_mse_averages_over_valid_voxels_and_channels():
    p, q = torch.zeros(1, 2, 3), torch.tensor([[[1.0, 2.0, 50.0], [3.0, 0.0, 50.0]]])
    valid = torch.tensor([[True, True, False]])
    assert masked_mse(p, q, valid).item() == pytest.approx((1 + 4 + 9 + 0) / 4)
    assert masked_mse(p, q[..., :2].repeat(1, 1, 2)[..., :3]).item() == pytest.approx((1 + 4 + 1 + 9 + 0 + 9) / 6)


def test_divergence_by_hand_and_zero_of_equal_predictions():
    """T15, without a geometry."""
    p = torch.tensor([0.5, 0.5])[None, :, None]
    logits = torch.tensor([0.25, 0.75]).log()[None, :, None]
    mask = torch.ones(1, 1, dtype=torch.bool)
    assert masked_kl(p, logits, mask).item() == pytest.approx(0.5 * math.log(2) + 0.5 * math.log(2 / 3))
    assert masked_kl(torch.tensor([1.0, 0.0])[None, :, None], logits, mask).item() == pytest.approx(math.log(4))
    logits, mask = torch.randn(2, 3, 4, 5), torch.ones(2, 4, 5, dtype=torch.bool)
    assert masked_kl(logits.softmax(1), logits, mask).item() == pytest.approx(0, abs=1e-6)


def test_divergence_is_the_mean_of_each_image_and_an_image_without_voxels_counts_as_zero():
    generator = torch.Generator().manual_seed(0)
    p, logits = torch.rand(3, 2, 6, generator=generator).softmax(1), torch.randn(3, 2, 6, generator=generator)
    mask = torch.zeros(3, 6, dtype=torch.bool)
    mask[0, :2], mask[1, :5] = True, True
    each = (p * (p.log() - logits.log_softmax(1))).sum(1)
    torch.testing.assert_close(masked_kl(p, logits, mask), (each[0, :2].mean() + each[1, :5].mean()) / 3)
    assert masked_kl(p, logits, torch.zeros_like(mask)) == 0  # T15: no number of an empty mask


def test_no_gradient_of_the_divergence_flows_to_the_target():
    p, logits = torch.rand(1, 2, 3).softmax(1).requires_grad_(), torch.randn(1, 2, 3, requires_grad=True)
    masked_kl(p, logits, torch.ones(1, 3, dtype=torch.bool)).backward()
    assert p.grad is None
    torch.testing.assert_close(logits.grad, (logits.softmax(1) - p).detach() / 3)


@pytest.mark.parametrize(
    ("p", "q", "apart"), [(0.75, 0.25, 0.130812), (0.5, 0.5, 0), (1 - 1e-9, 1e-9, 0.693147), (0.5, 1e-9, 0.215762)]
)
def test_two_predictions_are_apart_by_hand(p, q, apart):
    """Of 1/2 and 0: H(1/4) - ln 2 / 2 = .562335 - .346574. Of the mean of logits, as once released, it is none."""
    odds = [torch.tensor([1 - x, x], dtype=torch.float64).log()[None, :, None] for x in (p, q)]
    everywhere = torch.ones(1, 1, dtype=torch.bool)
    assert masked_js(*odds, everywhere).item() == pytest.approx(apart, abs=2e-6)
    assert masked_js(*odds[::-1], everywhere).item() == pytest.approx(apart, abs=2e-6)


def test_two_predictions_are_apart_where_they_are_valid_and_both_move():
    p, q = (torch.randn(2, 3, 5, requires_grad=True) for _ in range(2))
    valid = torch.tensor([[True] * 2 + [False] * 3, [True] * 5])
    each = [masked_js(p[item : item + 1], q[item : item + 1], valid[item : item + 1]) for item in (0, 1)]
    torch.testing.assert_close(masked_js(p, q, valid), (2 * each[0] + 5 * each[1]) / 7)
    masked_js(p, q, valid).backward()
    for x in (p, q):
        assert (x.grad[:1, :, 2:] == 0).all()
        assert (x.grad[:, :, :2] != 0).all()
    assert masked_js(p, q, torch.zeros_like(valid)) == 0
    sure = torch.tensor([[[500.0], [-500.0]]], requires_grad=True)
    masked_js(sure, -sure.detach(), torch.ones(1, 1, dtype=torch.bool)).backward()
    assert sure.grad.isfinite().all()


def test_a_crop_without_a_valid_voxel_gives_zero_and_no_gradient():
    logits = torch.randn(1, 2, 4, requires_grad=True)
    nowhere = torch.zeros(1, 4, dtype=torch.bool)
    loss = dice_ce(logits, torch.zeros(1, 4, dtype=torch.int64), nowhere) + masked_mse(logits, logits + 1, nowhere)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_gradients_agree_with_finite_differences():
    generator = torch.Generator().manual_seed(0)
    p = torch.rand(2, 3, 4, generator=generator, dtype=torch.float64).requires_grad_()
    label, valid = torch.randint(3, (2, 4), generator=generator), torch.rand(2, 4, generator=generator) > 0.3
    assert torch.autograd.gradcheck(lambda x: soft_dice_loss(x, label, valid), p)
    assert torch.autograd.gradcheck(lambda x: masked_cross_entropy(x, label, valid), p)


def test_two_maps_by_hand_and_one_map_and_itself():
    p, q = (torch.tensor([[[1 - x], [x]]]) for x in (0.8, 0.4))
    assert soft_dice_between(p, q, smooth=0.0).item() == pytest.approx(0.2)
    assert soft_dice_between(p, p).item() == pytest.approx(0, abs=1e-6)
    assert soft_dice_between(p, q, torch.tensor([[False]])) == 0


def test_a_map_and_a_label_are_as_far_apart_as_the_supervised_loss_says():
    p, label = torch.randn(2, 3, 4, 4).softmax(1), torch.randint(3, (2, 4, 4))
    valid = torch.rand(2, 4, 4) > 0.3
    sure = torch.nn.functional.one_hot(label, 3).movedim(-1, 1).float()
    torch.testing.assert_close(soft_dice_between(p, sure, valid), soft_dice_loss(p, label, valid))
