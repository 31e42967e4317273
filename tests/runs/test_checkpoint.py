"""A checkpoint is given back whole or refused with what is wrong in it."""

import copy
import re
from pathlib import Path

import pytest
import torch
from torch import nn

from semivox.errors import RunError
from semivox.runs.checkpoint import load_method, load_optimizers, whole_number

PATH = Path("step_7.pt")


def make(kind=torch.optim.AdamW) -> tuple[nn.Module, torch.optim.Optimizer]:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    return net, kind(net.parameters(), lr=0.1)


def trained() -> tuple[dict, dict]:
    net, optimizer = make()
    net(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    return {"method": net.state_dict()}, copy.deepcopy(optimizer.state_dict())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.update({"0.bias": torch.ones(3)}), "as float32 of shape (3,), expected float32 of shape (2,)"),
        (lambda w: w.update({"0.bias": torch.ones(2, dtype=torch.int64)}), "'0.bias' as int64"),
        (lambda w: w.update({"0.bias": torch.tensor([1.0, torch.nan])}), "numbers in '0.bias' that are not finite"),
        (lambda w: w.update({"0.bias": [1.0, 2.0]}), "'0.bias' = list, expected a tensor"),
    ],
)  # fmt: skip
def test_weights_that_are_not_the_methods_are_named(change, message):
    state, _ = trained()
    change(state["method"])
    with pytest.raises(RunError, match=rf"checkpoint step_7.pt is damaged: .*{re.escape(message)}.*; delete it"):
        load_method(make()[0], state, PATH)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("0.bias"), "it lacks '0.bias'"),
        (lambda w: w.update(odd=torch.ones(2)), "it has, but the method of its config lacks, 'odd'"),
    ],
)
def test_weights_of_another_version_are_not_told_to_be_deleted(change, message):
    state, _ = trained()
    change(state["method"])
    with pytest.raises(RunError, match=f"damaged, or of another version of its method: {message}; take the semivox"):
        load_method(make()[0], state, PATH)


def test_an_optimiser_that_keeps_rows_and_columns_goes_on():
    net, optimizer = make(torch.optim.Adafactor)
    net(torch.ones(1, 3)).sum().backward()
    optimizer.step()
    saved = copy.deepcopy(optimizer.state_dict())
    load_optimizers([make(torch.optim.Adafactor)[1]], [saved], PATH)
    saved["state"][0]["row_var"][0] = torch.nan
    with pytest.raises(RunError, match="damaged"):
        load_optimizers([make(torch.optim.Adafactor)[1]], [saved], PATH)


@pytest.mark.parametrize("found", [None, 3, [], {"x": 1}])
def test_a_method_that_is_none_is_refused(found):
    with pytest.raises(RunError, match=r"step_7.pt is damaged"):
        load_method(make()[0], {"method": found}, PATH)


def test_what_was_saved_is_what_comes_back():
    state, saved = trained()
    net, optimizer = make()
    load_method(net, state, PATH)
    load_optimizers([optimizer], [saved], PATH)
    assert all(torch.equal(net.state_dict()[name], value) for name, value in state["method"].items())
    assert torch.equal(optimizer.state_dict()["state"][0]["exp_avg"], saved["state"][0]["exp_avg"])


@pytest.mark.parametrize(
    "change",
    [
        lambda saved: saved.pop("state"),
        lambda saved: saved["state"][0].pop("exp_avg"),
        lambda saved: saved["state"].update({1: 0}),
        lambda saved: saved["state"][0].update(exp_avg=torch.ones(5)),
        lambda saved: saved["state"][1]["exp_avg"].fill_(torch.inf),
        lambda saved: saved["param_groups"][0].update(betas=(0.5,)),
        lambda saved: saved["param_groups"][0].update(weight_decay="x"),
        lambda saved: saved["param_groups"].pop(),
    ],
)
def test_a_state_that_is_not_the_optimisers_is_refused_before_a_step_is_taken(change):
    _, saved = trained()
    change(saved)
    with pytest.raises(RunError, match=r"step_7.pt is damaged: .*optimiser.*; delete it and resume"):
        load_optimizers([make()[1]], [saved], PATH)


@pytest.mark.parametrize("saved", [None, {}, [], [{}, {}]])
def test_optimisers_of_another_number_are_refused(saved):
    with pytest.raises(RunError, match=r"found optimizers = "):
        load_optimizers([make()[1]], saved, PATH)


@pytest.mark.parametrize("found", [None, True, 2.0, "3", -1, torch.ones(1)])
def test_a_number_that_is_none_is_refused(found):
    with pytest.raises(RunError, match=r"found step = .*, expected a whole number from 0 on"):
        whole_number({"step": found}, "step", PATH)
