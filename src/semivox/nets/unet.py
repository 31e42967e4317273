"""The U-Net of the SSL4MIS line: two convolutions per block, max pooling down, interpolation up, skips joined.

Ronneberger et al., MICCAI 2015, arXiv:1505.04597, with the widths (16 to 256), dropout and upsampling that the ACDC
benchmark of SSL4MIS made common; 1.81 million weights in 2D with four classes. The 3D form takes the same numbers.
"""

from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from semivox.nets.heads import Way, deep_heads, make_conv, make_norm, make_upconv
from semivox.nets.net import Decoded, Features, Layout, Net

DROPOUT = (0.1, 0.2, 0.4, 0.6, 1.0)
"""Dropout of the encoder's blocks, fine to coarse, as parts of the net's ``dropout``: .05 to .5 of the usual .5."""


class UNet(Net):
    """U-Net in 2D or 3D. Dropout lies inside the encoder's blocks, between their two convolutions."""

    ways = ("linear", "transposed", "nearest")

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout)
        self.encoder = Encoder(layout)
        self.decoders = nn.ModuleList(Decoder(layout, way) for way in self.ways_of(layout))


class Encoder(nn.Module):
    """Blocks with max pooling between them."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.names, self.strides = layout.names, layout.strides
        self.pool = F.max_pool2d if layout.dims == 2 else F.max_pool3d
        inputs = (layout.channels, *layout.widths)
        self.blocks = nn.ModuleList(
            _block(layout, inputs[level], width, dropout=layout.dropout * DROPOUT[min(level, len(DROPOUT) - 1)])
            for level, width in enumerate(layout.widths)
        )

    def forward(self, x: Tensor) -> Features:
        """Return the output of every block by name."""
        features = {self.names[0]: self.blocks[0](x)}
        for name, finer, stride, block in zip(self.names[1:], self.names, self.strides, self.blocks[1:], strict=False):
            features[name] = block(self.pool(features[finer], stride))
        return features


class Decoder(nn.Module):
    """Blocks that read the encoder's features beside the enlarged output of the block before them."""

    def __init__(self, layout: Layout, way: Way) -> None:
        super().__init__()
        self.names = layout.names[::-1]
        self.way, self.linear = way, "bilinear" if layout.dims == 2 else "trilinear"
        widths = layout.widths[::-1]
        self.narrow = nn.ModuleList(
            make_upconv(layout.dims, coarse, fine, stride)
            if way == "transposed"
            else make_conv(layout.dims, coarse, fine, 1)
            for (coarse, fine), stride in zip(pairwise(widths), layout.strides[::-1], strict=True)
        )
        self.blocks = nn.ModuleList(_block(layout, 2 * width, width, dropout=0.0) for width in widths[1:])
        self.deep = deep_heads(layout.dims, widths[1:-1] if layout.deep else (), layout.classes, layout.dropout)
        self.out = make_conv(layout.dims, widths[-1], layout.classes)

    def forward(self, features: Features) -> Decoded:
        """Return logits and the output of every block."""
        x = features[self.names[0]]
        outputs: list[Tensor] = []
        for name, narrow, block in zip(self.names[1:], self.narrow, self.blocks, strict=True):
            skip = features[name]
            x = narrow(x)
            if self.way == "linear":
                x = F.interpolate(x, size=skip.shape[2:], mode=self.linear, align_corners=True)
            elif self.way == "nearest":
                x = F.interpolate(x, size=skip.shape[2:])
            x = block(torch.cat([skip, x], dim=1))
            outputs.append(x)
        deep = tuple(head(feature) for head, feature in zip(self.deep, outputs, strict=False))
        return Decoded(self.out(x), tuple(outputs), deep)


def _block(layout: Layout, channels_in: int, channels_out: int, *, dropout: float) -> nn.Sequential:
    def layer(channels: int) -> list[nn.Module]:
        conv = make_conv(layout.dims, channels, channels_out)
        norm = make_norm(layout.dims, layout.norm, channels_out)
        return [conv, norm, nn.LeakyReLU(inplace=True)]

    return nn.Sequential(*layer(channels_in), nn.Dropout(dropout), *layer(channels_out))
