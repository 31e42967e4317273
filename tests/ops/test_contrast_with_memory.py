"""Contrast with what is remembered: relations of images to others, and their nearest neighbours, by hand."""

import math

import pytest
import torch
from torch.nn import functional as F

from semivox.errors import ConfigError
from semivox.ops.contrast import nearest_neighbours, relational_distillation


def unit(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return F.normalize(torch.randn(*shape, generator=generator, dtype=torch.float64), dim=-1)


TAUS = {"tau_s": 0.1, "tau_t": 0.01}
ALL = torch.ones(99, dtype=torch.bool)


def test_equal_embeddings_and_temperatures_have_equal_relations():
    """T16."""
    z, rows = unit(4, 6), unit(9, 6, seed=1)
    loss = relational_distillation(z, 3 * z, rows, ALL[:9], ALL[:4], tau_s=0.1, tau_t=0.1)
    assert loss.item() == pytest.approx(0, abs=1e-12)
    assert relational_distillation(z, z, rows, ALL[:9], ALL[:4], **TAUS) > 0.1


def test_relations_by_hand_run_from_the_teacher_to_the_student():
    rows = torch.eye(2)
    z_s, z_t = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0]])
    loss = relational_distillation(z_s, z_t, rows, ALL[:2], ALL[:1], tau_s=1, tau_t=0.5)
    t, s = torch.tensor([0.0, 2.0]).softmax(0), torch.tensor([1.0, 0.0]).softmax(0)
    assert loss.item() == pytest.approx((t * (t / s).log()).sum().item(), rel=1e-5)
    assert loss.item() != pytest.approx((s * (s / t).log()).sum().item(), rel=1e-2)


def test_a_joint_permutation_of_windows_changes_no_relation_and_one_of_the_memory_alone_does():
    """T16: what the released reshape mixes up."""
    z_s, z_t, rows = unit(7, 4, 6), unit(7, 4, 6, seed=1), unit(7, 9, 6, seed=2)
    order = torch.randperm(7, generator=torch.Generator().manual_seed(0))
    loss = relational_distillation(z_s, z_t, rows, ALL[:9], ALL[:4], **TAUS)
    permuted = relational_distillation(z_s[order], z_t[order], rows[order], ALL[:9], ALL[:4], **TAUS)
    torch.testing.assert_close(permuted, loss)
    assert relational_distillation(z_s, z_t, rows[order], ALL[:9], ALL[:4], **TAUS) != loss
    each = [relational_distillation(*window, ALL[:9], ALL[:4], **TAUS) for window in zip(z_s, z_t, rows, strict=True)]
    torch.testing.assert_close(loss, torch.stack(each).mean())


@pytest.mark.parametrize("tau_t", [0.01, 1e-5])
def test_rows_that_are_not_filled_are_no_relation(tau_t):
    z_s, z_t, rows = unit(4, 6), unit(4, 6, seed=1), unit(9, 6, seed=2)
    filled = torch.arange(9) < 5
    some = relational_distillation(z_s, z_t, rows, filled, ALL[:4], tau_s=0.1, tau_t=tau_t)
    torch.testing.assert_close(
        some, relational_distillation(z_s, z_t, rows[:5], ALL[:5], ALL[:4], tau_s=0.1, tau_t=tau_t)
    )


def test_images_without_a_valid_voxel_have_no_relation_and_an_empty_memory_gives_an_exact_zero():
    z_s, z_t, rows = unit(3, 4, 6).requires_grad_(), unit(3, 4, 6, seed=1), unit(3, 9, 6, seed=2)
    valid = torch.tensor([True, False, True, False])
    loss = relational_distillation(z_s, z_t, rows, ALL[:9], valid, **TAUS)
    kept = relational_distillation(z_s[:, valid], z_t[:, valid], rows, ALL[:9], ALL[:2], **TAUS)
    torch.testing.assert_close(loss, kept)
    for nothing in (
        relational_distillation(z_s, z_t, rows * 0, ~ALL[:9], valid, **TAUS),
        relational_distillation(z_s, z_t, rows, ALL[:9], ~ALL[:4], **TAUS),
    ):
        (gradient,) = torch.autograd.grad(nothing, z_s)
        assert nothing == 0
        assert not gradient.any()


def test_the_gradients_of_relations_and_neighbours_are_the_students_alone():
    z_s, z_t, rows = unit(4, 6).requires_grad_(), unit(4, 6, seed=1), unit(9, 6, seed=2)
    taus = {"tau_s": 0.5, "tau_t": 0.2}
    assert torch.autograd.gradcheck(lambda x: relational_distillation(x, z_t, rows, ALL[:9], ALL[:4], **taus), z_s)
    assert torch.autograd.gradcheck(lambda x: nearest_neighbours(x, z_t, rows, ALL[:9], ALL[:4], neighbours=3), z_s)
    z_t = z_t.clone().requires_grad_()
    loss = relational_distillation(z_s, z_t, rows, ALL[:9], ALL[:4], **taus)
    (loss + nearest_neighbours(z_s, z_t, rows, ALL[:9], ALL[:4], neighbours=3)).backward()
    assert z_s.grad.abs().sum() > 0
    assert z_t.grad is None


def test_neighbours_by_hand():
    """T13: 2 - 2 cos, 0 where the student equals all of its neighbours, 2 where it is orthogonal."""
    rows = torch.tensor([[1.0, 0.0], [2.0, 0.0], [0.0, 1.0], [-1.0, 0.0]])
    right, up, diagonal = torch.tensor([[5.0, 0.0]]), torch.tensor([[0.0, 1.0]]), torch.tensor([[1.0, 1.0]])
    for student, expected in ((right, 0), (up, 2), (diagonal, 2 - math.sqrt(2)), (-right, 4)):
        loss = nearest_neighbours(student, right, rows, ALL[:4], ALL[:1], neighbours=2)
        assert loss.item() == pytest.approx(expected, abs=1e-6)


def test_the_teacher_chooses_the_neighbours_and_the_student_moves_to_them():
    """T13. The released code has it the other way round, and so trains nothing."""
    rows = torch.eye(3)
    z_s, z_t = torch.tensor([[0.1, 1.0, 0.0]]).requires_grad_(), torch.tensor([[0.0, 0.1, 1.0]])
    loss = nearest_neighbours(z_s, z_t, rows, ALL[:3], ALL[:1], neighbours=1)
    assert loss.requires_grad
    loss.backward()
    assert z_s.grad[0, 2] < 0  # a step down the gradient leads to the teacher's neighbour
    assert loss.item() == pytest.approx(2)


def test_neighbours_are_filled_rows_and_until_there_are_enough_the_loss_is_an_exact_zero():
    z_s, z_t, rows = unit(4, 6).requires_grad_(), unit(4, 6, seed=1), unit(9, 6, seed=2)
    some = nearest_neighbours(z_s, z_t, rows, torch.arange(9) < 5, ALL[:4], neighbours=3)
    torch.testing.assert_close(some, nearest_neighbours(z_s, z_t, rows[:5], ALL[:5], ALL[:4], neighbours=3))
    for filled in (0, 2):
        few = nearest_neighbours(z_s, z_t, rows * 0, torch.arange(9) < filled, ALL[:4], neighbours=3)
        (gradient,) = torch.autograd.grad(few, z_s)
        assert few == 0
        assert not gradient.any()


def test_images_without_a_valid_voxel_have_no_neighbours():
    z_s, z_t, rows = unit(4, 6), unit(4, 6, seed=1), unit(9, 6, seed=2)
    valid = torch.tensor([True, False, True, False])
    loss = nearest_neighbours(z_s, z_t, rows, ALL[:9], valid, neighbours=3)
    torch.testing.assert_close(loss, nearest_neighbours(z_s[valid], z_t[valid], rows, ALL[:9], ALL[:2], neighbours=3))
    assert nearest_neighbours(z_s, z_t, rows, ALL[:9], ~ALL[:4], neighbours=3) == 0


@pytest.mark.parametrize("neighbours", [0, 10])
def test_more_neighbours_than_rows_are_refused(neighbours):
    with pytest.raises(ConfigError, match=rf"{neighbours} nearest neighbours of 9 rows: take 1 to 9"):
        nearest_neighbours(unit(4, 6), unit(4, 6), unit(9, 6), ALL[:9], ALL[:4], neighbours=neighbours)
