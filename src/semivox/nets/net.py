"""What a net is: logits, named features, and the way between them that a method may step into."""

import math
from dataclasses import dataclass
from itertools import accumulate
from typing import ClassVar, NamedTuple

from torch import Tensor, nn

from semivox.errors import ConfigError, GeometryError
from semivox.nets.heads import Norm, Way

Features = dict[str, Tensor]
"""The encoder's output by name, fine to coarse: "level1" (full resolution), "level2" ..., "bottleneck".

The bottleneck is the value before dropout: `Net.decode` drops. Put other tensors in a new dict to perturb features."""


class Decoded(NamedTuple):
    """What a decoder gives.

    Attributes:
        logits: (B, K, *spatial) at the size of the image.
        features: the decoder's features, coarse to fine; the last one has full resolution and is what the logits are
            a convolution of, after dropout. `Net.decoded_widths` and `Net.decoded_strides` are theirs.
        deep: logits of the features before the last one at their own size, coarse to fine, after dropout of their own;
            empty unless ``deep``.
    """

    logits: Tensor
    features: tuple[Tensor, ...]
    deep: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class Layout:
    """The numbers that a net is built from.

    Attributes:
        dims: 2 or 3 spatial axes.
        channels: channels of the image.
        classes: K, background included.
        slice_axis: the through-plane axis, counted among the spatial ones.
        widths: channels of every level, fine to coarse.
        strides: downsampling between two levels, one number per axis; one entry less than widths.
        norm: "instance", "batch" or "group".
        dropout: probability at the place where the net drops most.
        decoders: how many decoders share the encoder.
        deep: whether the decoders give logits at every level.
        varied: whether each decoder enlarges features in another way.
    """

    dims: int
    channels: int
    classes: int
    slice_axis: int
    widths: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    norm: Norm
    dropout: float
    decoders: int = 1
    deep: bool = False
    varied: bool = False

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the encoder's features, fine to coarse."""
        return (*(f"level{number}" for number in range(1, len(self.widths))), "bottleneck")


class Net(nn.Module):
    """A segmentation net with an encoder and one or more decoders.

    A subclass has the submodules ``encoder`` (image -> Features) and ``decoders`` (Features -> Decoded each).

    Attributes:
        dims: 2 or 3 spatial axes.
        channels: channels of the image.
        classes: K, background included.
        slice_axis: the through-plane axis, counted among the spatial ones.
        widths: channels by feature name.
        strides: voxels of the image per voxel of the feature, one number per axis, by feature name.
    """

    ways: ClassVar[tuple[Way, ...]] = ()
    """how decoders enlarge features: the first way is the net's own, where decoders vary they take turns."""
    encoder: nn.Module
    decoders: nn.ModuleList

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.dims, self.channels, self.classes = layout.dims, layout.channels, layout.classes
        self.slice_axis, self.norm = layout.slice_axis, layout.norm
        self.widths = dict(zip(layout.names, layout.widths, strict=True))
        ones = (1,) * layout.dims
        factors = accumulate(layout.strides, lambda a, b: tuple(x * y for x, y in zip(a, b, strict=True)), initial=ones)
        self.strides = dict(zip(layout.names, factors, strict=True))

    def ways_of(self, layout: Layout) -> tuple[Way, ...]:
        """Return the way of each decoder."""
        return tuple(self.ways[decoder % len(self.ways) if layout.varied else 0] for decoder in range(layout.decoders))

    @property
    def decoded_widths(self) -> tuple[int, ...]:
        """Channels of each of `Decoded.features`, coarse to fine; here ``features[-n]`` is as wide as ``level{n}``."""
        return tuple(self.widths.values())[-2::-1]

    @property
    def decoded_strides(self) -> tuple[tuple[int, ...], ...]:
        """Strides of each of `Decoded.features`, coarse to fine."""
        return tuple(self.strides.values())[-2::-1]

    def forward(self, image: Tensor) -> Tensor:
        """Return logits (B, K, *spatial) of an image (B, C, *spatial), by the first decoder."""
        return self.decode(self.encode(image)).logits

    def encode(self, image: Tensor) -> Features:
        """Return the encoder's features of an image (B, C, *spatial), by name.

        Raises:
            GeometryError: the image has other channels or axes than the net, sizes that the strides do not divide,
                or so few voxels that a norm has a single value to work on.
        """
        self._check(image)
        features: Features = self.encoder(image)
        return features

    def decode(self, features: Features, decoder: int = 0) -> Decoded:
        """Return logits and features of one decoder; dropout of the bottleneck is part of it.

        Raises:
            ConfigError: the net has no such decoder.
        """
        if not 0 <= decoder < len(self.decoders):
            raise ConfigError(
                f"decoder {decoder} was asked of a net with {len(self.decoders)}: "
                f"make it with make_net(decoders={decoder + 1})"
            )
        decoded: Decoded = self.decoders[decoder](features)
        return decoded

    def _check(self, image: Tensor) -> None:
        batch, size, factors = image.shape[0], tuple(image.shape[2:]), self.strides["bottleneck"]
        if len(size) != self.dims or image.shape[1] != self.channels:
            raise GeometryError(
                f"this net takes images (B, {self.channels}, {self.dims} spatial axes), found {tuple(image.shape)}"
            )
        if any(length == 0 or length % factor for length, factor in zip(size, factors, strict=True)):
            fitting = [max(1, math.ceil(a / b)) * b for a, b in zip(size, factors, strict=True)]
            raise GeometryError(
                f"a patch of {by(size)} does not fit this net: every axis must be a multiple of {by(factors)}; "
                f"take {by(fitting)}, or fewer levels"
            )
        if self.norm == "instance" or (self.norm == "batch" and self.training and batch == 1):
            self._check_statistics(size, factors)

    def _check_statistics(self, size: tuple[int, ...], factors: tuple[int, ...]) -> None:
        if size == factors:
            raise GeometryError(
                f"a patch of {by(size)} leaves one voxel at the bottleneck (strides {by(factors)}), which {self.norm} "
                f"norm maps to zero: take a patch of at least {by((2 * factors[0], *factors[1:]))}, or fewer levels "
                f"than {len(self.widths)}, or norm = 'group'"
            )


def by(numbers: tuple[int, ...] | list[int]) -> str:
    """Return numbers as a size is written: ``112x112x80``."""
    return "x".join(str(number) for number in numbers)
