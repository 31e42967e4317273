"""Toy Duo-SegNets, what they lose, and whither: ``from duo import make``."""

import torch
from crops import all_stages, freeze, make_toy_method, run_forward, toy_batch, toy_progress

(STAGE,) = all_stages("duo_segnet")
KINDS = ("pixel", "patch", "image")
BARE = {"geometry": "none", "intensity": "none"}


def make(*, dims=2, classes=2, **fields):
    """Return the method without dropout and random views, so that what its nets see can be worked out here."""
    net = {"dropout": 0.0, "classes": classes}
    method = make_toy_method("duo_segnet", dims=dims, net=net, **BARE | fields)
    freeze(method, STAGE)
    return method.train()


def losses(method, batch=None):
    return run_forward(method, batch or toy_batch(dims=2, labelled=4), toy_progress()).losses


def assert_close(first, second):
    assert first.keys() == second.keys()
    for name, value in first.items():
        torch.testing.assert_close(value, second[name], msg=name)
