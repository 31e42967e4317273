"""Critics whose answer is known, and what a loss asks of a method's weights: ``from game import Says``."""

import copy

import torch
from torch import nn


class Says(nn.Module):
    """A critic that gives the same answer to everything."""

    def __init__(self, logit):
        super().__init__()
        self.logit = nn.Parameter(torch.tensor(float(logit)))

    def forward(self, p, image, valid):
        return p[:, :1] * 0 + self.logit


def gradient_of(loss, method):
    """Return a loss's gradient by name of the weight; nothing where it has none."""
    weights = dict(method.named_parameters())
    moved = torch.autograd.grad(loss, list(weights.values()), retain_graph=True, allow_unused=True)
    return {name: g for name, g in zip(weights, moved, strict=True) if g is not None}


def norm(gradient):
    return sum(g.square().sum() for g in gradient.values()).sqrt()


def stepped(method, gradient, *, only="", length=1e-2):
    """Return a copy of the method after a small step down a gradient."""
    method, size = copy.deepcopy(method), norm(gradient)
    with torch.no_grad():
        for name, weight in method.named_parameters():
            if name in gradient and name.startswith(only):
                weight -= length / size * gradient[name]
    return method
