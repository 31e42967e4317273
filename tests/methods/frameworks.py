"""Pixel contrast in each framework on toy data, for its tests: ``from frameworks import make``."""

import copy
from functools import cache

import pytest
import torch
from crops import all_stages, freeze, gradients, make_toy_method, run_forward, toy_batch, toy_progress, warm

from semivox.methods.pixel_contrast import WEIGHTS

FRAMEWORKS = tuple(WEIGHTS)
(STAGE,) = all_stages("pixel_contrast")

in_2d_and_3d = pytest.mark.parametrize("dims", [2, 3])
every_framework = pytest.mark.parametrize("framework", FRAMEWORKS)


def make(framework, *, dims=2, net=None, **fields):
    small = {"queue": 64, "neighbours": 5, "count": 16}
    method = make_toy_method("pixel_contrast", dims=dims, net=net, framework=framework, **(small | fields))
    freeze(method, STAGE)
    return method.train()


@cache
def once_warmed(framework, dims):
    return warm(make(framework, dims=dims), STAGE, dims=dims)


def warmed(framework, dims=2, **fields):
    """Return a method after a few steps; what `fields` change comes after them."""
    method = make(framework, dims=dims, **fields)
    method.load_state_dict(once_warmed(framework, dims).state_dict())
    return method


def one_step(method, batch, progress=None):
    """Return losses and gradients of one step from where `method` stands, which stays as it was."""
    method = copy.deepcopy(method)
    terms = run_forward(method, batch, progress or toy_progress())
    terms.total().backward()
    return {name: loss.detach() for name, loss in terms.losses.items()}, gradients(method)


def contrast(method, batch=None, progress=None):
    return one_step(method, batch or toy_batch(dims=2), progress)[0]["contrast"].item()


def assert_equal(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[name]) for name, value in first.items())
