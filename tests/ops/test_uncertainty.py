"""Entropy, masks of the most certain voxels, and the loss on pseudo labels, by hand and against their definitions."""

import math

import pytest
import torch
from torch.nn import functional as F

from semivox.ops.uncertainty import (
    entropy,
    entropy_loss,
    likeliest,
    most_certain,
    most_certain_of_each,
    pseudo_cross_entropy,
    pseudo_labels,
    surer_mean,
)

# Entropy


def test_entropy_is_zero_of_certainty_and_log_k_of_ignorance():
    p = torch.tensor([[1.0, 0.0, 0.0], [1 / 3, 1 / 3, 1 / 3], [0.5, 0.5, 0.0]]).T[None]  # (1, 3, 3)
    torch.testing.assert_close(entropy(p), torch.tensor([[0.0, math.log(3), math.log(2)]]))


def test_entropy_has_the_shape_of_the_image_and_single_precision():
    p = torch.rand(2, 3, 4, 5, 6).softmax(1)
    assert entropy(p).shape == (2, 4, 5, 6)
    assert entropy(p.bfloat16()).dtype == torch.float32


# The mean in which the surer one weighs more


def test_the_surer_prediction_weighs_more_by_hand_and_the_order_does_not_matter():
    sure, lost = torch.tensor([[1.0, 0.0]])[..., None], torch.tensor([[0.5, 0.5]])[..., None]
    expected = torch.tensor([[[(math.e + 0.5) / (math.e + 1)], [0.5 / (math.e + 1)]]])
    torch.testing.assert_close(surer_mean(sure, lost), expected)
    torch.testing.assert_close(surer_mean(lost, sure), expected)


def test_entropies_of_three_classes_are_divided_by_log_three():
    sure, lost = torch.tensor([[1.0, 0.0, 0.0]])[..., None], torch.full((1, 3, 1), 1 / 3)
    assert surer_mean(sure, lost)[0, 0].item() == pytest.approx((math.e + 1 / 3) / (math.e + 1), rel=1e-6)


def test_predictions_that_are_equally_sure_have_their_plain_mean():
    p = torch.tensor([[0.9, 0.1], [0.2, 0.8]]).T[None].contiguous()
    torch.testing.assert_close(surer_mean(p, p.flip(1)), torch.full_like(p, 0.5))


# The mean entropy as a loss


def test_the_entropy_loss_is_one_in_full_doubt_and_by_hand_for_odds_of_three_to_one():
    assert entropy_loss(torch.zeros(2, 5, 3, 3)).item() == pytest.approx(1)
    logits = torch.tensor([math.log(3), 0.0]).reshape(1, 2, 1, 1)
    assert entropy_loss(logits).item() == pytest.approx(0.811278, abs=1e-6)


def test_the_entropy_loss_is_the_mean_over_valid_voxels_and_zero_of_none():
    logits = torch.tensor([[math.log(3), 50.0, 0.0], [0.0, 0.0, 0.0]])[None]  # (1, 2, 3): .811278, 0, 1
    assert entropy_loss(logits, torch.tensor([[True, True, False]])).item() == pytest.approx(0.405639, abs=1e-6)
    assert entropy_loss(logits, torch.tensor([[True, False, True]])).item() == pytest.approx(0.905639, abs=1e-6)
    assert entropy_loss(logits, torch.zeros(1, 3, dtype=torch.bool)).item() == 0


def test_the_gradient_of_the_entropy_loss_is_finite_however_sure_the_net_is_and_falls_towards_sureness():
    logits = torch.tensor([[300.0, 1.0, 0.0], [0.0, 0.0, 0.0]])[None].requires_grad_()
    entropy_loss(logits).backward()
    assert logits.grad[0, :, 0].tolist() == [0, 0]
    assert logits.grad[0, 0, 1] < 0  # the likelier class gains
    assert logits.grad[0, :, 2].tolist() == [0, 0]  # full doubt leans nowhere


# The most certain voxels


def test_the_lowest_are_kept_and_ties_go_to_the_first():
    assert most_certain(torch.tensor([0.3, 0.2, 0.1, 0.2]), 0.5).tolist() == [False, True, True, False]
    assert most_certain(torch.tensor([0.3, 0.2, 0.1, 0.2]), 0.75).tolist() == [False, True, True, True]


@pytest.mark.parametrize("n", [1, 5, 10, 99, 100, 1000])
@pytest.mark.parametrize("share", [0, 0.1, 0.2, 0.29, 0.7, 0.999, 1])  # .29 * 100 is 28.999...
@pytest.mark.parametrize("values", ["different", "equal"])
def test_the_share_is_exact_for_any_number_and_any_ties(n, share, values):
    """T17: within 1 / N of the share, and floor(share * N) exactly."""
    doubt = torch.randperm(n, generator=torch.Generator().manual_seed(0)).float() if values == "different" else None
    kept = most_certain(torch.ones(n) if doubt is None else doubt, share)
    assert kept.sum() == math.floor(round(share * n, 6))
    if doubt is not None:
        assert (doubt[kept] < kept.sum()).all()


def test_only_valid_voxels_compete_and_count():
    doubt = torch.tensor([[0.1, 0.5, 0.2, 0.4, 0.3, 0.0]])
    valid = torch.tensor([[False, True, True, True, True, False]])
    assert most_certain(doubt, 0.5, valid).tolist() == [[False, False, True, False, True, False]]
    assert torch.equal(most_certain(doubt, 1, valid), valid)
    assert not most_certain(doubt, 1, torch.zeros_like(valid)).any()


def test_voxels_of_all_images_compete_and_the_negative_gives_the_least_certain():
    doubt = torch.tensor([[0.1, 0.2], [0.3, 0.4]])
    assert most_certain(doubt, 0.5).tolist() == [[True, True], [False, False]]
    assert most_certain(-doubt, 0.5).tolist() == [[False, False], [True, True]]


# Pseudo labels


@pytest.fixture
def images():
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(2, 3, 4, 5, generator=random, dtype=torch.float64).requires_grad_()
    return logits, torch.randint(3, (2, 4, 5), generator=random)


def test_full_confidence_gives_the_mean_cross_entropy_of_the_voxels_that_have_one(images):
    """T14."""
    logits, label = images
    everywhere = torch.ones(2, 4, 5)
    loss = pseudo_cross_entropy(logits, label, everywhere, 0.97)
    torch.testing.assert_close(loss, F.cross_entropy(logits.float(), label))
    # A voxel that is certainly right has a loss of exactly 0 and leaves the mean.
    sure = logits.detach().float()
    sure[0, :, 0] = -1e4
    sure[0].scatter_(0, label[:1], 1e4)
    errors = F.cross_entropy(sure, label, reduction="none")
    assert (errors == 0).sum() == 20
    torch.testing.assert_close(pseudo_cross_entropy(sure, label, everywhere, 0.97), errors[1].mean())


def test_no_confidence_gives_an_exact_zero_with_a_zero_gradient(images):
    """T14."""
    logits, label = images
    loss = pseudo_cross_entropy(logits, label, torch.full((2, 4, 5), 0.9699), 0.97)
    loss.backward()
    assert loss == 0
    assert not logits.grad.any()


def test_each_image_is_weighed_by_the_part_of_it_that_is_confident(images):
    """The rule is the image's: a voxel that is not confident counts like its neighbours."""
    logits, label = images
    confidence = torch.zeros(2, 4, 5)
    confidence[0, 0], confidence[1, :2] = 0.97, 0.98  # a quarter of the first image, half of the second
    errors = F.cross_entropy(logits.float(), label, reduction="none")
    expected = (0.25 * errors[0].sum() + 0.5 * errors[1].sum()) / 40
    found = pseudo_cross_entropy(logits, label, confidence, 0.97)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(*(torch.autograd.grad(loss, logits)[0] for loss in (found, expected)))


def test_voxels_that_are_not_valid_change_nothing(images):
    logits, label = images
    valid = torch.ones(2, 4, 5, dtype=torch.bool)
    valid[0, :2] = False
    confidence = valid.float()
    other = torch.where(valid[:, None], logits, 7), torch.where(valid, label, 0), torch.ones(2, 4, 5)
    expected = pseudo_cross_entropy(logits, label, confidence, 0.97, valid)
    assert pseudo_cross_entropy(*other, 0.97, valid) == expected
    errors = F.cross_entropy(logits.float(), label, reduction="none")
    torch.testing.assert_close(expected, errors[valid].mean())
    assert pseudo_cross_entropy(logits, label, confidence, 0.97, torch.zeros_like(valid)) == 0


def test_within_each_class_a_share_of_the_surest_is_kept():
    """By hand, as the docstring has it; and what is not valid does not compete."""
    doubt, label = torch.tensor([0.1, 0.2, 0.3, 0.9]), torch.tensor([0, 0, 1, 1])
    assert most_certain_of_each(doubt, label, 2, 0.5).tolist() == [True, False, True, False]
    valid = torch.tensor([False, True, True, True])
    assert most_certain_of_each(doubt, label, 2, 1.0, valid).tolist() == valid.tolist()
    assert not most_certain_of_each(doubt, label, 2, 0.4).any()


def test_the_likeliest_class_comes_with_its_probability_in_single_precision():
    """Odds of 3 to 1 for the second class."""
    probability, label = likeliest(torch.tensor([[[0.0], [math.log(3)]]], dtype=torch.float64))
    torch.testing.assert_close(probability, torch.tensor([[0.75]]))
    assert label.tolist() == [[1]]


def test_pseudo_labels_come_with_or_without_dropout_and_leave_the_net_in_its_mode():
    net = torch.nn.Dropout(0.5).train()
    x = torch.full((1, 2, 1000), math.log(3)) * torch.tensor([0.0, 1.0])[None, :, None]
    still, _ = pseudo_labels(net, x.requires_grad_(), mode="eval")
    torch.testing.assert_close(still, torch.full((1, 1000), 0.75))
    assert not still.requires_grad
    assert net.training
    assert set(pseudo_labels(net, x, mode="train")[0].mul(100).round().unique().tolist()) == {50, 90}
