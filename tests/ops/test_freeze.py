"""A module that is passed through without being moved, or asked in evaluation mode."""

import pytest
import torch
from torch import nn

from semivox.ops.freeze import in_eval, through_frozen, unused


def test_the_gradient_reaches_the_input_and_not_the_weights_which_may_learn_in_the_same_step():
    module, x = nn.Linear(3, 1), torch.randn(2, 3, requires_grad=True)
    assert torch.equal(through_frozen(module, x), module(x))
    (through_frozen(module, x).sum() + 5 * module(x.detach()).sum()).backward()
    assert torch.equal(x.grad, module.weight.detach().expand(2, 3))
    torch.testing.assert_close(module.weight.grad, 5 * x.detach().sum(0, keepdim=True))


def test_without_another_call_the_weights_get_no_gradient_at_all():
    module, x = nn.Linear(3, 1), torch.randn(2, 3, requires_grad=True)
    through_frozen(module, x).sum().backward()
    assert module.weight.grad is None
    assert module.weight.requires_grad


def test_buffers_stay_as_they_are():
    module = nn.BatchNorm1d(3).train()
    through_frozen(module, torch.randn(4, 3) + 7)
    assert torch.equal(module.running_mean, torch.zeros(3))
    assert module.num_batches_tracked == 0


def test_what_is_unused_adds_nothing_and_gives_every_weight_a_gradient_of_0():
    module = nn.Linear(3, 2)
    nothing = unused(module)
    nothing.backward()
    assert nothing == 0
    assert torch.equal(module.weight.grad, torch.zeros(2, 3))
    assert torch.equal(module.bias.grad, torch.zeros(2))


def test_in_evaluation_mode_nothing_is_dropped_nothing_counted_and_every_part_has_its_mode_again():
    module = nn.Sequential(nn.Dropout(0.5), nn.BatchNorm1d(3), nn.Linear(3, 1)).train()
    module[2].eval()
    x = torch.randn(4, 3)
    found = in_eval(module, x)
    assert module[1].num_batches_tracked == 0
    assert [part.training for part in module.modules()] == [True, True, True, False]
    assert not found.requires_grad
    torch.testing.assert_close(found, module[2](x / (1 + 1e-5) ** 0.5))  # batch norm at its start


def test_a_module_that_raises_has_its_mode_again():
    module = nn.Linear(3, 1).train()
    with pytest.raises(RuntimeError):
        in_eval(module, torch.randn(4, 5))
    assert module.training
