"""Pixel contrast in each framework on toy data, for its tests: ``from frameworks import make``."""

from functools import cache

import pytest
from crops import all_stages, freeze, make_toy_method, one_step, toy_batch, warm

from semivox.methods.pixel_contrast import QUEUED, WEIGHTS

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


def contrast(method, batch=None, progress=None):
    return one_step(method, batch or toy_batch(dims=2), progress)[0]["contrast"].item()


def shown(framework):
    """Return the names of what a logged step shows."""
    spread = {f"class{k}_{what}" for k in (0, 1) for what in ("variance", "rank")}
    return spread | {"contrast_ramp"} | ({"queue_fill"} if framework in QUEUED else set())
