"""Losses of two views of drawn pixels against closed forms."""

import math

import pytest
import torch
from torch.nn import functional as F

from semivox.errors import ConfigError
from semivox.ops.contrast import info_nce
from semivox.ops.views import PULL, column_contrast, cosine_distance, nt_xent, queue_contrast, vicreg_terms

SQUARE = torch.tensor([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])


def rows(count: int, width: int = 5, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def every(count: int) -> torch.Tensor:
    return torch.ones(count, dtype=torch.bool)


def own_pixels(z_1, z_2, tau=0.5):
    return nt_xent(z_1, z_2, torch.arange(len(z_1)), every(len(z_1)), tau=tau)


def moco(q, k, queue, filled=None, tau=0.5, **options):
    filled = every(len(queue)) if filled is None else filled
    return queue_contrast(q, k, queue, filled, every(len(q)), tau=tau, **options)


def test_nt_xent_of_two_orthonormal_pairs_counts_both_rows_of_the_other_pixel():
    assert own_pixels(torch.eye(2), torch.eye(2)).item() == pytest.approx(math.log(1 + 2 * math.exp(-2)), abs=1e-6)
    assert own_pixels(torch.eye(2), torch.eye(2)).item() == pytest.approx(0.239545, abs=1e-6)


def test_nt_xent_is_the_loss_of_its_definition_one_row_at_a_time():
    z_1, z_2 = rows(4), rows(4, seed=1)
    z = F.normalize(torch.cat([z_1, z_2]), dim=1)
    likeness = (z @ z.T / 0.5).exp()
    terms = [
        -math.log(likeness[i, (i + 4) % 8] / (likeness[i].sum() - likeness[i, i])) for i in range(8)
    ]  # fmt: skip
    assert own_pixels(z_1, z_2).item() == pytest.approx(sum(terms) / 8)
    torch.testing.assert_close(own_pixels(3 * z_1, z_2 / 2), own_pixels(z_2, z_1))


def test_nt_xent_knows_more_negatives_than_info_nce():
    z_1, z_2 = (F.normalize(rows(6, seed=seed), dim=1) for seed in (0, 1))
    assert own_pixels(z_1, z_2) > info_nce(z_1, z_2, 0.5) / 2


def test_a_pixel_drawn_twice_is_not_its_own_negative():
    z_1, z_2 = rows(3), rows(3, seed=1)
    again = torch.tensor([0, 1, 2, 0])
    twice = nt_xent(z_1[again], z_2[again], again, every(4), tau=0.5)
    z = F.normalize(torch.cat([z_1[again], z_2[again]]), dim=1)
    likeness, same = (z @ z.T / 0.5).exp(), again.repeat(2)[:, None] == again.repeat(2)
    own = likeness.diagonal(4).repeat(2)
    torch.testing.assert_close(twice, -(own / (own + (likeness * ~same).sum(1))).log().mean())
    fooled = nt_xent(z_1[again], z_2[again], torch.arange(4), every(4), tau=0.5)
    assert fooled > twice


@pytest.mark.parametrize("pixels", [[3], [3, 3, 3]])
def test_nt_xent_without_another_pixel_is_an_exact_zero_with_a_zero_gradient(pixels):
    z = rows(len(pixels)).requires_grad_()
    loss = nt_xent(z, rows(len(pixels), seed=1), torch.tensor(pixels), every(len(pixels)), tau=0.1)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(z.grad, torch.zeros_like(z))


def test_moco_of_an_orthogonal_queue_has_the_closed_form_of_info_nce():
    key = torch.eye(3)[:1]
    assert moco(key, key, torch.eye(3)[1:2]).item() == pytest.approx(0.126928, abs=1e-6)
    assert moco(key, key, torch.eye(3)[1:2].expand(512, 3)).item() == pytest.approx(4.252653, abs=1e-6)


def test_without_neighbours_it_is_moco():
    q, k, queue = rows(4), rows(4, seed=1), rows(7, seed=2)
    torch.testing.assert_close(moco(q, k, queue, neighbours=0), moco(q, k, queue))
    likeness = F.normalize(torch.stack([k, *queue[:, None].expand(7, 4, 5)]), dim=-1) * F.normalize(q, dim=1)
    by_hand = F.cross_entropy(likeness.sum(-1).T / 0.5, torch.zeros(4, dtype=torch.int64))
    torch.testing.assert_close(moco(q, k, queue), by_hand)


def test_neighbours_are_the_rows_nearest_to_the_key_and_not_to_the_query():
    q, k, queue = torch.eye(3)[:1], torch.eye(3)[1:2], torch.eye(3)
    alone = moco(q, k, queue)
    # The logits are 0 for the key and 2 0 0 for the queue, whose second row is the key's neighbour.
    expected = math.log(math.exp(2) + 3)
    assert alone.item() == pytest.approx(expected)
    assert moco(q, k, queue, neighbours=1).item() == pytest.approx((1 + PULL) * expected)
    assert moco(q, k, queue, neighbours=3).item() == pytest.approx(expected + PULL * (expected - 2 / 3))


def test_rows_that_are_not_filled_are_neither_negatives_nor_neighbours():
    q, k, queue = rows(4), rows(4, seed=1), rows(7, seed=2)
    filled = torch.arange(7) < 2
    short = moco(q, k, queue[:2], neighbours=2)
    torch.testing.assert_close(moco(q, k, queue, filled, neighbours=5), short)


@pytest.mark.parametrize("neighbours", [0, 5])
def test_each_query_may_have_rows_of_its_own(neighbours):
    q, k, queue = rows(4), rows(4, seed=1), rows(7, seed=2)
    own = torch.rand(4, 7, generator=torch.Generator().manual_seed(3)) > 0.4
    each = [moco(q[i : i + 1], k[i : i + 1], queue, own[i], neighbours=neighbours) for i in range(4)]
    torch.testing.assert_close(moco(q, k, queue, own, neighbours=neighbours), torch.stack(each).mean())


def test_t26a_equal_voxels_and_one_orthogonal_volume_have_the_closed_form():
    u = torch.eye(3)[:2]
    voxels, own = u[:1].expand(5, 3), torch.tensor([[False, True]]).expand(5, 2)
    for tau in (0.1, 0.5, 1.0):
        loss = queue_contrast(voxels, voxels, u, own, every(5), tau=tau)
        assert loss.item() == pytest.approx(math.log(1 + math.exp(-1 / tau)), abs=1e-6)


def test_an_empty_queue_gives_an_exact_zero_with_a_zero_gradient():
    q = rows(4).requires_grad_()
    loss = moco(q, rows(4, seed=1), torch.zeros(7, 5).double(), ~every(7), neighbours=3)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(q.grad, torch.zeros_like(q))


@pytest.mark.parametrize("neighbours", [-1, 8])
def test_more_neighbours_than_rows_are_refused(neighbours):
    with pytest.raises(ConfigError, match="take 0 to 7"):
        moco(rows(4), rows(4), rows(7), neighbours=neighbours)


def test_byols_distance_is_0_for_one_direction_2_for_orthogonal_rows_and_4_for_opposite_ones():
    p = torch.eye(3)
    assert cosine_distance(2 * p, p, every(3)).item() == 0
    assert cosine_distance(p, p.roll(1, 0), every(3)).item() == 2
    assert cosine_distance(p, -p, every(3)).item() == 4


def test_equal_views_that_are_spread_and_decorrelated_cost_vicreg_nothing():
    assert [term.item() for term in vicreg_terms(SQUARE, SQUARE, every(4))] == [0, 0, 0]


def test_collapsed_rows_have_the_largest_variance_term_and_no_other():
    invariance, variance, covariance = vicreg_terms(torch.ones(6, 3), torch.ones(6, 3), every(6))
    assert (invariance.item(), covariance.item()) == (0, 0)
    assert variance.item() == pytest.approx(1 - math.sqrt(1e-4))


def test_vicregs_terms_by_hand():
    flat = SQUARE * torch.tensor([0.5, 0.0])  # standard deviations sqrt(1/3) and 0
    invariance, variance, covariance = vicreg_terms(flat, SQUARE, every(4))
    assert invariance.item() == pytest.approx((0.25 + 1) / 2)
    assert variance.item() == pytest.approx(((1 - math.sqrt(1 / 3 + 1e-4)) + 0.99) / 4)
    assert covariance.item() == 0
    tied = SQUARE[:, :1].expand(4, 2)  # both dimensions the same, with variance 4/3
    assert vicreg_terms(tied, SQUARE, every(4))[2].item() == pytest.approx(2 * (4 / 3) ** 2 / 2)


def queued(z_1, z_2, on):
    queue = rows(9, seed=2).to(z_1.dtype)
    return queue_contrast(z_1, z_2, queue, every(9), on, tau=0.3, neighbours=2)


LOSSES = {
    "nt_xent": lambda z_1, z_2, on: nt_xent(z_1, z_2, torch.arange(len(z_1)), on, tau=0.3),
    "queue_contrast": queued,
    "cosine_distance": cosine_distance,
    "vicreg": lambda z_1, z_2, on: torch.stack(vicreg_terms(z_1, z_2, on)).sum(),
}


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_rows_that_are_not_valid_change_nothing(loss):
    z_1, z_2, on = rows(8).requires_grad_(), rows(8, seed=1), torch.arange(8) % 3 > 0
    with_them = loss(z_1, z_2, on)
    torch.testing.assert_close(with_them, loss(z_1[on], z_2[on], every(5)))
    with_them.backward()
    assert not z_1.grad[~on].any()
    assert z_1.grad[on].any()


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_without_a_valid_row_a_loss_is_an_exact_zero_with_a_zero_gradient(loss):
    z = rows(4).requires_grad_()
    found = loss(z, rows(4, seed=1), ~every(4))
    found.backward()
    assert found.item() == 0
    assert torch.equal(z.grad, torch.zeros_like(z))


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_the_order_of_rows_means_nothing(loss):
    z_1, z_2, order = rows(8), rows(8, seed=1), torch.randperm(8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(loss(z_1[order], z_2[order], every(8)), loss(z_1, z_2, every(8)))
    assert not torch.isclose(loss(z_1[order], z_2, every(8)), loss(z_1, z_2, every(8)))


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_gradients_agree_with_finite_differences(loss):
    z_2, on = rows(5, seed=1), torch.tensor([True, True, False, True, True])
    assert torch.autograd.gradcheck(lambda z: loss(z, z_2, on), rows(5).requires_grad_())


@pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
def test_losses_are_single_precision_under_autocast(loss):
    z_1, z_2 = rows(8).float(), rows(8, seed=1).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = loss(z_1, z_2, every(8)), loss(z_1.bfloat16(), z_2.bfloat16(), every(8))
    assert inside[0] == loss(z_1, z_2, every(8))
    assert inside[1].dtype == torch.float32


@pytest.mark.parametrize("loss", [LOSSES["queue_contrast"], LOSSES["cosine_distance"]])
def test_what_the_teacher_gives_gets_no_gradient(loss):
    z_2 = rows(5, seed=1).requires_grad_()
    loss(rows(5).requires_grad_(), z_2, every(5)).backward()
    assert z_2.grad is None


@pytest.mark.parametrize("loss", [LOSSES["nt_xent"], LOSSES["vicreg"]])
def test_both_views_of_the_student_learn(loss):
    z_1, z_2 = rows(5).requires_grad_(), rows(5, seed=1).requires_grad_()
    loss(z_1, z_2, every(5)).backward()
    assert z_1.grad.any()
    assert z_2.grad.any()


# Columns


def columns(z_1, z_2, tau=0.1):
    return column_contrast(z_1, z_2, every(len(z_1)), tau=tau)


@pytest.mark.parametrize("tau", [0.1, 0.5])
def test_t31_equal_columns_give_log_d_and_orthonormal_ones_their_closed_form(tau):
    constant = torch.full((9, 4), 0.7)
    assert columns(constant, constant, tau).item() == pytest.approx(math.log(4), abs=1e-6)
    collapsed = rows(1, 4)[:, :1].expand(9, 4) * torch.arange(1, 10)[:, None]  # one direction, not constant
    assert columns(collapsed, collapsed, tau).item() == pytest.approx(math.log(4))
    orthonormal = torch.linalg.qr(rows(9, 4)).Q
    expected = math.log(1 + 3 * math.exp(-1 / tau))
    assert columns(orthonormal, 5 * orthonormal, tau).item() == pytest.approx(expected)


def test_t32_the_gradient_on_a_similarity_is_its_softmax_over_tau_and_d():
    """So the most alike of other dimensions is pushed hardest: the hardness that ordinary contrast has."""
    z_1, z_2, tau = rows(9, 4).requires_grad_(), rows(9, 4, seed=1), 0.2
    similarity = F.normalize(z_1, dim=0).T @ F.normalize(z_2, dim=0)
    p = (similarity / tau).softmax(1).detach()
    expected = (p - torch.eye(4)) / (tau * 4)  # p_jl / (tau D) for l != j
    chained = torch.autograd.grad(similarity, z_1, expected)[0]
    torch.testing.assert_close(torch.autograd.grad(columns(z_1, z_2, tau), z_1)[0], chained)
    others = expected.masked_fill(torch.eye(4, dtype=torch.bool), -1)
    assert torch.equal(others.argmax(1), similarity.detach().masked_fill(torch.eye(4) > 0, -9).argmax(1))


def test_t33_the_order_of_rows_changes_nothing_and_that_of_dimensions_as_little_if_both_views_share_it():
    z_1, z_2 = rows(9, 4), rows(9, 4, seed=1)
    loss = columns(z_1, z_2)
    order, dimensions = torch.tensor([3, 1, 4, 0, 5, 8, 2, 6, 7]), torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(columns(z_1[order], z_2[order]), loss)
    assert not torch.isclose(columns(z_1[order], z_2), loss)
    torch.testing.assert_close(columns(z_1[:, dimensions], z_2[:, dimensions]), loss)
    assert not torch.isclose(columns(z_1[:, dimensions], z_2), loss)
    z_1.requires_grad_()
    (gradient,) = torch.autograd.grad(columns(z_1, z_2), z_1)
    (permuted,) = torch.autograd.grad(columns(z_1[:, dimensions], z_2[:, dimensions]), z_1)
    torch.testing.assert_close(permuted, gradient)


def test_rows_that_are_not_valid_are_in_no_column_and_the_teacher_gets_no_gradient():
    z_1, z_2 = rows(9, 4).requires_grad_(), rows(9, 4, seed=1).requires_grad_()
    valid = torch.arange(9) < 6
    loss = column_contrast(z_1, z_2, valid, tau=0.1)
    torch.testing.assert_close(loss, columns(z_1[:6], z_2[:6]))
    loss.backward()
    assert z_1.grad[6:].abs().sum() == 0
    assert z_2.grad is None
