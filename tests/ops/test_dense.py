"""Supervised contrast of pixels against closed forms and its definition, and what it holds at a time."""

import math

import pytest
import torch
from torch.nn import functional as F
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from semivox.ops import dense
from semivox.ops.dense import dense_contrast, in_blocks, named_first


def pixels(*shape: int, classes: int = 3, seed: int = 0):
    """Return embeddings (G, N, 5), labels and a mask that leaves out some pixels."""
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(*shape, 5, generator=generator, dtype=torch.float64)
    label = torch.randint(classes, shape, generator=generator)
    return z, label, torch.rand(shape, generator=generator) < 0.8


def group_by_hand(z, label, valid, tau):
    """Return the loss of one group, pixel by pixel; None where it has no anchor."""
    z, terms = F.normalize(z, dim=1), []
    for a in range(len(z)):
        others = [n for n in range(len(z)) if n != a and valid[n]]
        positives = [p for p in others if label[p] == label[a]]
        if not (valid[a] and label[a] > 0 and positives):
            continue
        total = sum(math.exp(z[a] @ z[n] / tau) for n in others)
        terms.append(-sum(math.log(math.exp(z[a] @ z[p] / tau) / total) for p in positives) / len(positives))
    return sum(terms) / len(terms) if terms else None


def test_two_equal_pixels_of_a_class_and_one_of_the_background_have_the_closed_form():
    z, label = torch.eye(2)[[0, 0, 1]][None], torch.tensor([[1, 1, 0]])
    found = dense_contrast(z, label, torch.ones_like(label, dtype=torch.bool), tau=0.5).item()
    assert found == pytest.approx(math.log(1 + math.exp(-2)), abs=1e-6)
    assert found == pytest.approx(0.126928, abs=1e-6)


@pytest.mark.parametrize("classes", [2, 4])
def test_it_is_the_loss_of_its_definition_in_two_loops_over_pixels(classes):
    z, label, valid = pixels(4, 9, classes=classes)
    label[2] = 0  # a group without foreground is not averaged over
    groups = [group_by_hand(*group, 0.3) for group in zip(z, label, valid, strict=True)]
    assert groups[2] is None
    expected = [loss for loss in groups if loss is not None]
    assert dense_contrast(z, label, valid, tau=0.3).item() == pytest.approx(sum(expected) / len(expected))
    torch.testing.assert_close(dense_contrast(7 * z, label, valid, tau=0.3), dense_contrast(z, label, valid, tau=0.3))


def test_the_bug_that_an_anchor_without_a_positive_divides_0_by_0_is_mended():
    """Released, one such pixel makes the loss of the step not a number."""
    z, label, valid = pixels(1, 6)
    label[0], valid[0] = torch.tensor([1, 1, 0, 0, 2, 0]), True
    z.requires_grad_()
    loss = dense_contrast(z, label, valid, tau=0.1)
    (gradient,) = torch.autograd.grad(loss, z)
    assert loss.item() == pytest.approx(group_by_hand(z[0].detach(), label[0], valid[0], 0.1))
    assert gradient.isfinite().all()
    assert gradient[0, 4].any()  # it is a negative of the others all the same


@pytest.mark.parametrize("case", ["background alone", "one pixel of a class", "nothing valid"])
def test_without_an_anchor_it_is_an_exact_zero_with_a_zero_gradient(case):
    z, label, valid = pixels(2, 6)
    label[:] = 0
    label[:, 0] = int(case == "one pixel of a class")
    valid[:] = case != "nothing valid"
    z.requires_grad_()
    loss = dense_contrast(z, label, valid, tau=0.1)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(z.grad, torch.zeros_like(z))


def test_background_is_a_negative_and_never_an_anchor():
    z, label, valid = pixels(1, 12)
    valid[:], label[0] = True, torch.tensor([1, 1, 2, 2] + 8 * [0])
    without = dense_contrast(z, label, label > 0, tau=0.5)
    assert dense_contrast(z, label, valid, tau=0.5) > without
    z.requires_grad_()
    others = dense_contrast(z[:, 4:], label[:, 4:], valid[:, 4:], tau=0.5)
    assert others.item() == 0


def test_it_rises_when_pixels_trade_places_and_their_labels_do_not():
    label = torch.tensor([[1, 1, 1, 2, 2, 2, 0, 0]])
    z, valid = F.one_hot(label, 3).double(), label >= 0
    found = dense_contrast(z, label, valid, tau=0.1)
    assert dense_contrast(z.roll(1, 1), label, valid, tau=0.1) > found + 1
    assert found < math.log(2) + 1e-3  # each of two positives has half of what there is to give


def test_groups_do_not_see_each_other():
    z, label, valid = pixels(3, 10)
    each = [dense_contrast(*(x[None] for x in group), tau=0.2) for group in zip(z, label, valid, strict=True)]
    torch.testing.assert_close(dense_contrast(z, label, valid, tau=0.2), torch.stack(each).mean())


def test_pixels_that_do_not_count_have_no_gradient_and_change_nothing():
    z, label, valid = pixels(2, 12)
    z.requires_grad_()
    loss = dense_contrast(z, label, valid, tau=0.2)
    loss.backward()
    assert not z.grad[~valid].any()
    other = torch.where(valid[..., None], z.detach(), 3.0)
    assert dense_contrast(other, label.where(valid, 1), valid, tau=0.2) == loss


@pytest.mark.parametrize("entries", [1, 50, 200, 400, 10**6])
def test_loss_and_gradient_are_the_same_in_however_many_pieces(entries, monkeypatch):
    z, label, valid = pixels(5, 14)
    monkeypatch.setattr(dense, "ENTRIES", 2**20)
    whole, gradient = loss_and_gradient(z, label, valid)
    monkeypatch.setattr(dense, "ENTRIES", entries)
    loss, other = loss_and_gradient(z, label, valid)
    torch.testing.assert_close(loss, whole)
    torch.testing.assert_close(other, gradient)


def loss_and_gradient(z, label, valid):
    z = z.clone().requires_grad_()
    loss = dense_contrast(z, label, valid, tau=0.2)
    return loss.detach(), torch.autograd.grad(loss, z)[0]


class Largest(TorchDispatchMode):
    """Notes the number of values of the largest tensor that is made, forward and backward."""

    def __init__(self):
        super().__init__()
        self.values = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        made = [leaf.numel() for leaf in tree_leaves(out) if isinstance(leaf, torch.Tensor)]
        self.values = max([self.values, *made])
        return out


@pytest.mark.parametrize("shape", [(1, 640), (64, 80)])
def test_no_more_than_so_many_similarities_are_held_at_a_time_and_none_from_forward_to_backward(shape, monkeypatch):
    monkeypatch.setattr(dense, "ENTRIES", 2**15)
    assert math.prod(shape) * shape[1] > 2**15
    z, label, valid = pixels(*shape)
    z.requires_grad_()
    kept = []
    with Largest() as largest:
        with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
            loss = dense_contrast(z, label, valid, tau=0.2)
        loss.backward()
    assert largest.values <= max(2**15, z.numel())
    assert max(kept) <= z.numel()


def test_the_gradient_is_that_of_the_loss():
    z, label, valid = pixels(2, 7)
    assert torch.autograd.gradcheck(lambda z: dense_contrast(z, label, valid, tau=0.5), z.requires_grad_())


def test_the_loss_is_single_precision_under_autocast():
    z, label, valid = pixels(2, 30)
    outside = dense_contrast(z.float(), label, valid, tau=0.1)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert dense_contrast(z.float(), label, valid, tau=0.1) == outside
        assert dense_contrast(z.bfloat16(), label, valid, tau=0.1).dtype == torch.float32


# Blocks and lists


def test_blocks_of_a_slice_hold_the_same_place_of_all_images():
    x = torch.arange(2 * 4 * 4).reshape(2, 1, 4, 4)
    found = in_blocks(x, 2)
    assert found.shape == (4, 2 * 4, 1)
    assert found[0, :, 0].tolist() == [0, 1, 4, 5, 16, 17, 20, 21]
    assert found[1, :, 0].tolist() == [2, 3, 6, 7, 18, 19, 22, 23]
    assert found[2, 0, 0] == 8


def test_blocks_of_volumes_keep_the_channels_of_a_voxel_together():
    x = torch.randn(2, 3, 4, 4, 2)
    found = in_blocks(x, 2)
    assert found.shape == (4, 2 * 8, 3)
    expected = x[:, :, 2:, :2].flatten(2).transpose(1, 2).flatten(0, 1)
    assert torch.equal(found[2], expected)


def test_blocks_are_filled_up_with_zeros_and_an_axis_shorter_than_a_block_is_not_cut():
    x = torch.ones(1, 1, 5, 3, dtype=torch.bool)
    found = in_blocks(x, 4)
    assert found.shape == (2, 4 * 3, 1)
    assert found.dtype == torch.bool
    assert found.sum(1).flatten().tolist() == [12, 3]
    assert in_blocks(torch.ones(1, 1, 5, 1), 2).shape == (3, 2, 1)


def test_a_pixel_named_before_or_none_does_not_count():
    assert (
        named_first(torch.tensor([3, 1, 3, -1, 0, 1, -1, 3])).tolist()
        == [True, True] + [False] * 2 + [True] + [False] * 3
    )
