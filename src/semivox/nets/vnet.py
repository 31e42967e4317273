"""The V-Net of the UA-MT line: strided convolutions down, transposed convolutions up, skips added, no residuals.

Milletari et al., 3DV 2016, arXiv:1606.04797, in the form of Yu et al., MICCAI 2019, arXiv:1907.07034, of which this
is a rebuild: 9.45 million weights at 16 filters. It differs from Milletari's in that no stage has a residual path.
"""

from torch import Tensor, nn

from semivox.nets.heads import (
    Way,
    conv_head,
    deep_heads,
    make_conv,
    make_dropout,
    make_enlarging,
    make_norm,
    make_upconv,
)
from semivox.nets.net import Decoded, Features, Layout, Net


class VNet(Net):
    """V-Net in 2D or 3D; convolutions per stage 1, 2, 3, 3, 3 down and 3, 3, 2, 1 up at five levels."""

    ways = ("transposed", "linear", "nearest")

    def __init__(self, layout: Layout) -> None:
        super().__init__(layout)
        self.encoder = Encoder(layout)
        self.decoders = nn.ModuleList(Decoder(layout, way) for way in self.ways_of(layout))


class Encoder(nn.Module):
    """Stages with a strided convolution between them."""

    def __init__(self, layout: Layout) -> None:
        super().__init__()
        self.names, widths = layout.names, layout.widths
        self.stages = nn.ModuleList(
            _stage(layout, level, layout.channels if level == 0 else width) for level, width in enumerate(widths)
        )
        self.downs = nn.ModuleList(
            _layer(layout, make_conv(layout.dims, fine, coarse, stride, stride=stride, padding=0))
            for fine, coarse, stride in zip(widths, widths[1:], layout.strides, strict=False)
        )

    def forward(self, x: Tensor) -> Features:
        """Return the output of every stage by name."""
        features = {self.names[0]: self.stages[0](x)}
        for name, finer, down, stage in zip(self.names[1:], self.names, self.downs, self.stages[1:], strict=False):
            features[name] = stage(down(features[finer]))
        return features


class Decoder(nn.Module):
    """Enlarging convolutions with a stage after each; the encoder's features are added before it."""

    def __init__(self, layout: Layout, way: Way) -> None:
        super().__init__()
        self.names = layout.names[::-1]
        levels = range(len(layout.widths) - 2, -1, -1)
        self.ups = nn.ModuleList(_up(layout, level, way) for level in levels)
        self.stages = nn.ModuleList(_stage(layout, level, layout.widths[level]) for level in levels)
        coarser = [layout.widths[level] for level in levels[:-1] if layout.deep]
        self.deep = deep_heads(layout.dims, coarser, layout.classes, layout.dropout)
        self.dropout = make_dropout(layout.dims, layout.dropout)
        self.out = conv_head(layout.dims, layout.widths[0], layout.classes)

    def forward(self, features: Features) -> Decoded:
        """Return logits and the output of every stage, the last one after dropout."""
        x = self.dropout(features[self.names[0]])
        outputs: list[Tensor] = []
        for name, up, stage in zip(self.names[1:], self.ups, self.stages, strict=True):
            x = stage(up(x) + features[name])
            outputs.append(x)
        outputs[-1] = self.dropout(x)
        deep = tuple(head(feature) for head, feature in zip(self.deep, outputs, strict=False))
        return Decoded(self.out(outputs[-1]), tuple(outputs), deep)


def _stage(layout: Layout, level: int, channels_in: int) -> nn.Sequential:
    width, convs = layout.widths[level], min(level + 1, 3)
    inputs = [channels_in] + [width] * (convs - 1)
    return nn.Sequential(*(_layer(layout, make_conv(layout.dims, channels, width)) for channels in inputs))


def _up(layout: Layout, level: int, way: Way) -> nn.Sequential:
    coarse, fine, stride = layout.widths[level + 1], layout.widths[level], layout.strides[level]
    if way == "transposed":
        return _layer(layout, make_upconv(layout.dims, coarse, fine, stride))
    return nn.Sequential(
        make_enlarging(layout.dims, stride, way), *_layer(layout, make_conv(layout.dims, coarse, fine))
    )


def _layer(layout: Layout, conv: nn.Module) -> nn.Sequential:
    # Neither convolution nor norm keeps its output for the backward pass, so that ReLU may overwrite it.
    width = int(conv.out_channels)  # type: ignore[arg-type]
    return nn.Sequential(conv, make_norm(layout.dims, layout.norm, width), nn.ReLU(inplace=True))
