"""The small parts of nets, heads and critics: convolutions, norms and dropout in 2D or 3D, and whole heads."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from semivox.errors import ConfigError, nearest

Norm = Literal["instance", "batch", "group"]
"""What mean and variance are taken over: an image's channel, a channel of the batch, an image's group of channels."""

NORMS: tuple[Norm, ...] = ("instance", "batch", "group")

Way = Literal["transposed", "linear", "nearest"]
"""How a decoder enlarges features: by a transposed convolution, or by interpolation and a convolution."""

MAX_GROUPS = 16
DEEP_DROPOUT = (1.0, 0.6, 0.4, 0.2)


def make_conv(
    dims: int, channels_in: int, channels_out: int, kernel: int | Sequence[int] = 3, **options: Any
) -> nn.Conv2d | nn.Conv3d:
    """Return a convolution that keeps the size of its input, unless `options` say otherwise.

    Args:
        dims: 2 or 3 spatial axes.
        channels_in: channels of the input (B, channels_in, *spatial).
        channels_out: channels of the output (B, channels_out, *spatial).
        kernel: width of the kernel, one number or one per axis; odd where the size is to be kept.
        **options: handed on to ``torch.nn.Conv2d`` or ``Conv3d``: stride, padding, bias, groups, dilation.

    Raises:
        ConfigError: `dims` is neither 2 nor 3.
    """
    widths = (kernel,) * dims if isinstance(kernel, int) else tuple(kernel)
    options.setdefault("padding", tuple(width // 2 for width in widths))
    return _by_dims(dims, nn.Conv2d, nn.Conv3d)(channels_in, channels_out, widths, **options)


def make_upconv(
    dims: int, channels_in: int, channels_out: int, stride: Sequence[int]
) -> nn.ConvTranspose2d | nn.ConvTranspose3d:
    """Return the transposed convolution that enlarges each axis by its stride; its kernel is the stride."""
    upconv = _by_dims(dims, nn.ConvTranspose2d, nn.ConvTranspose3d)
    return upconv(channels_in, channels_out, tuple(stride), stride=tuple(stride))


def make_enlarging(dims: int, stride: Sequence[int], way: Way) -> nn.Upsample:
    """Return the interpolation, "linear" or "nearest", that enlarges each axis by its stride."""
    factor = tuple(float(step) for step in stride)
    if way == "nearest":
        return nn.Upsample(scale_factor=factor, mode="nearest")
    return nn.Upsample(scale_factor=factor, mode="bilinear" if dims == 2 else "trilinear", align_corners=True)


def make_dropout(dims: int, p: float) -> nn.Dropout2d | nn.Dropout3d:
    """Return the dropout that leaves out whole channels of (B, C, *spatial) with probability `p`."""
    return _by_dims(dims, nn.Dropout2d, nn.Dropout3d)(p)


def make_norm(dims: int, norm: Norm, channels: int) -> nn.Module:
    """Return a normalisation with a learned scale and shift per channel, which start at 1 and 0.

    "group" takes 16 groups, or the most below that which divide the channels.

    Raises:
        ConfigError: `norm` is not one of "instance", "batch" and "group".
    """
    if norm == "batch":
        return _by_dims(dims, nn.BatchNorm2d, nn.BatchNorm3d)(channels)
    if norm == "instance":
        return InstanceNorm(channels)
    if norm == "group":
        groups = max(count for count in range(1, MAX_GROUPS + 1) if channels % count == 0)
        return nn.GroupNorm(groups, channels)
    raise ConfigError(f"there is no norm '{norm}': {nearest(str(norm), NORMS)}")


def conv_head(dims: int, channels_in: int, channels_out: int) -> nn.Conv2d | nn.Conv3d:
    """Return the linear head (B, channels_in, *spatial) -> (B, channels_out, *spatial) that looks at single voxels."""
    return make_conv(dims, channels_in, channels_out, kernel=1)


def deep_heads(dims: int, widths: Sequence[int], classes: int, dropout: float) -> nn.ModuleList:
    """Return a linear head for each of a decoder's coarser features, from coarse to fine, after dropout of channels.

    It drops all of `dropout` at the coarsest, then .6, .4 and .2 of it: .5 .3 .2 .1 of the usual .5, as in URPC (Luo et
    al., MICCAI 2021, arXiv:2012.07042).
    """
    parts = [DEEP_DROPOUT[min(depth, len(DEEP_DROPOUT) - 1)] for depth in range(len(widths))]
    return nn.ModuleList(
        nn.Sequential(make_dropout(dims, dropout * part), conv_head(dims, width, classes))
        for width, part in zip(widths, parts, strict=True)
    )


def projection(dims: int, channels_in: int, hidden: int, channels_out: int, norm: Norm) -> nn.Sequential:
    """Return a convolution, norm, ReLU and a convolution that embed every position by itself, as for a contrast."""
    return nn.Sequential(
        conv_head(dims, channels_in, hidden),
        make_norm(dims, norm, hidden),
        nn.ReLU(inplace=True),
        conv_head(dims, hidden, channels_out),
    )


def mlp(*sizes: int) -> nn.Sequential:
    """Return linear layers of these sizes with ReLU between them and no norm: (..., sizes[0]) -> (..., sizes[-1]).

    Raises:
        ConfigError: fewer than two sizes.
    """
    if len(sizes) < 2:
        raise ConfigError(f"mlp needs the sizes of its input and its output, found {sizes}: name at least two sizes")
    layers: list[nn.Module] = []
    for size_in, size_out in pairwise(sizes):
        layers += [nn.Linear(size_in, size_out), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers[:-1])


class InstanceNorm(nn.GroupNorm):
    """Instance norm with scale and shift, in 2D and 3D; ``nn.InstanceNorm3d`` with ``affine=True`` in its numbers.

    A group norm with one group per channel is the same function. On the CPU it is the faster one, since it reads
    ``channels_last_3d`` as it is where instance norm copies it; elsewhere instance norm stays, since CUDA's autocast
    runs group norm in float32 and its activations would take twice the memory.
    """

    def __init__(self, channels: int) -> None:
        super().__init__(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return `x` (B, C, *spatial) with mean 0 and variance 1 per image and channel, scaled and shifted."""
        if x.device.type == "cpu":
            return super().forward(x)
        return F.instance_norm(x, weight=self.weight, bias=self.bias, eps=self.eps)


def _by_dims(dims: int, in_2d: type[Any], in_3d: type[Any]) -> type[Any]:
    if dims not in (2, 3):
        raise ConfigError(f"dims = {dims}: nets have 2 or 3 spatial axes")
    return in_2d if dims == 2 else in_3d
