"""The U-Net against the published one, and its form in 3D."""

import torch
from torch import nn

from semivox.nets.build import MakeNet


def test_the_published_unet_has_1_813_764_weights():
    # 2D, 16 filters, one channel, four classes, batch norm. A 3^2 convolution a -> b with its norm: 9 a b + 3 b.
    # encoder: 2,544 + 14,016 + 55,680 + 221,952 + 886,272                  = 1,180,464
    # decoder (1^2 convolution 2 a -> a, then two of 3^2: 2 a -> a, a -> a):
    #          476,032 + 119,232 + 29,920 + 7,536                           =   632,720
    # output (3^2, no norm): 9 * 16 * 4 + 4                                 =       580
    net = MakeNet("unet", dims=2, channels=1, classes=4, norm="batch")()
    assert sum(p.numel() for p in net.parameters()) == 1_180_464 + 632_720 + 580 == 1_813_764


def test_dropout_grows_from_a_tenth_of_the_setting_to_all_of_it():
    net = MakeNet("unet", dims=2, channels=1, classes=2, filters=2, dropout=0.5)()
    assert [_dropout(block) for block in net.encoder.blocks] == [0.05, 0.1, 0.2, 0.3, 0.5]
    assert [_dropout(block) for block in net.decoders[0].blocks] == [0.0] * 4


def test_features_and_logits_have_their_declared_widths_and_strides_in_3d():
    net = MakeNet("unet", dims=3, channels=2, classes=3, filters=2, levels=3, strides=((2, 2, 1), (2, 2, 2)))(deep=True)
    features = net.encode(torch.randn(1, 2, 8, 8, 4))
    assert {name: f.shape[1] for name, f in features.items()} == net.widths
    assert net.widths == {"level1": 2, "level2": 4, "bottleneck": 8}
    assert {name: f.shape[2:] for name, f in features.items()} == {
        "level1": (8, 8, 4), "level2": (4, 4, 4), "bottleneck": (2, 2, 2)
    }  # fmt: skip
    decoded = net.decode(features)
    assert [f.shape for f in decoded.features] == [(1, 4, 4, 4, 4), (1, 2, 8, 8, 4)]
    assert [f.shape for f in decoded.deep] == [(1, 3, 4, 4, 4)]
    assert decoded.logits.shape == (1, 3, 8, 8, 4)


def _dropout(block):
    return next(round(layer.p, 6) for layer in block if isinstance(layer, nn.Dropout))
