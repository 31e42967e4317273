"""Perturbed features: what lies between an encoder and a decoder, with noise, without channels, without its peaks.

Paper: Ouali, Hudelot & Tami, CVPR 2020, arXiv:2003.09005 (cross-consistency training). Every image has draws of its
own, where the released code draws noise once for a batch.
"""

import torch
from torch import Tensor

from semivox.ops.fields import per_item, uniform


def feature_noise(x: Tensor, generator: torch.Generator, reach: float = 0.3) -> Tensor:
    """Return features (B, C, *spatial), each value times 1 + a number that is uniform in [-reach, reach)."""
    return x * (1 + uniform(x.shape, generator, -reach, reach)).to(x.dtype)


def channel_drop(x: Tensor, generator: torch.Generator, share: float = 0.5) -> Tensor:
    """Return features (B, C, *spatial) without each channel with probability `share`; the others are enlarged.

    By hand: of ones, at a share of 1/2, a channel is 0 or 2.
    """
    kept = uniform(x.shape[:2], generator) >= share
    return x * kept.reshape(*kept.shape, *[1] * (x.ndim - 2)) / (1 - share)


def feature_drop(x: Tensor, generator: torch.Generator, low: float = 0.6, high: float = 0.9) -> Tensor:
    """Return features (B, C, *spatial) that are 0 where their mean over channels is near its largest value.

    Near: from a part of it on that is uniform in [low, high). So what the features say loudest is missing. By hand: of
    means 1 2 4 at a part of .75 the last is dropped, at .5 the last two.
    """
    mean = x.mean(1, keepdim=True)
    limit = mean.flatten(1).amax(1) * uniform((len(x),), generator, low, high)
    return x * (mean < per_item(limit, mean))
