"""The V-Net against the published one: its weights, its sizes and its order of operations."""

import pytest
import torch
import torch.nn.functional as F

from semivox.nets.build import MakeNet


def test_the_published_vnet_has_9_448_866_weights():
    # With 16 filters, one channel, two classes, batch norm. A convolution of kernel volume k from a to b channels has
    # k a b weights and b biases, its norm 2 b more:
    #   3^3 convolution a -> b: 27 a b + 3 b;   down a -> 2 a: 16 a^2 + 6 a;   up 2 a -> a: 16 a^2 + 3 a.
    # Equal convolutions 27 a^2 + 3 a:  a = 16: 6,960   32: 27,744   64: 110,784   128: 442,752   256: 1,770,240
    # encoder: 480 (1 -> 16) + 2 * 27,744 + 3 * 110,784 + 3 * 442,752 + 3 * 1,770,240 = 7,027,296
    # decoder: 3 * 442,752 + 3 * 110,784 + 2 * 27,744 + 6,960                         = 1,723,056
    # downs:   4,192 + 16,576 + 65,920 + 262,912                                      =   349,600
    # ups:     4,144 + 16,480 + 65,728 + 262,528                                      =   348,880
    # output:  16 * 2 + 2                                                             =        34
    net = MakeNet(dims=3, channels=1, classes=2, norm="batch")()
    assert sum(p.numel() for p in net.parameters()) == 7_027_296 + 1_723_056 + 349_600 + 348_880 + 34 == 9_448_866


def test_the_published_patch_has_a_bottleneck_of_256_channels_and_7x7x5_voxels():
    net = MakeNet(dims=3, channels=1, classes=2)().to("meta")
    image = torch.empty(1, 1, 112, 112, 80, device="meta")
    features = net.encode(image)
    assert features["bottleneck"].shape == (1, 256, 7, 7, 5)
    assert features["level1"].shape == (1, 16, 112, 112, 80)
    decoded = net.decode(features)
    assert [f.shape[1] for f in decoded.features] == [128, 64, 32, 16]
    assert decoded.logits.shape == (1, 2, 112, 112, 80)


def test_fewer_levels_keep_the_fine_stages():
    def convolutions(stages):
        return [len(stage) for stage in stages]

    net = MakeNet(dims=3, channels=1, classes=2, filters=2)()
    assert convolutions(net.encoder.stages) == [1, 2, 3, 3, 3]
    assert convolutions(net.decoders[0].stages) == [3, 3, 2, 1]
    net = MakeNet(dims=3, channels=1, classes=2, filters=2, levels=3)()
    assert convolutions(net.encoder.stages) == [1, 2, 3]
    assert convolutions(net.decoders[0].stages) == [2, 1]


def test_skips_are_added():
    # A zeroed transposed convolution gives relu(shift of its norm) = 0, so that the last stage sees the skip alone.
    net = MakeNet(dims=2, channels=1, classes=2, filters=2, levels=2)().eval()
    torch.nn.init.zeros_(net.decoders[0].ups[0][0].weight)
    features = net.encode(torch.randn(1, 1, 8, 8))
    expected = net.decoders[0].stages[0](features["level1"])
    assert torch.equal(net.decode(features).features[-1], expected)


def test_the_bottleneck_is_given_before_dropout_and_the_last_feature_after_it():
    net = MakeNet(dims=3, channels=1, classes=2, filters=16, levels=2, dropout=0.5)()
    image = torch.randn(2, 1, 8, 8, 8)
    features = net.encode(image)
    assert torch.equal(features["bottleneck"], net.encode(image)["bottleneck"])  # the encoder draws nothing
    decoded = net.decode(features)
    assert 4 <= _empty_channels(decoded.features[-1]) <= 28  # of 32, half on average
    assert torch.equal(decoded.logits, net.decoders[0].out(decoded.features[-1]))
    assert not torch.equal(net.decode(features).logits, net.decode(features).logits)
    net.eval()
    assert torch.equal(net.decode(features).logits, net.decode(features).logits)


def test_anisotropic_strides_are_the_kernels_of_down_and_up():
    strides = ((2, 2, 1), (2, 2, 2))
    net = MakeNet(dims=3, channels=1, classes=2, filters=2, levels=3, strides=strides)()
    assert net.strides == {"level1": (1, 1, 1), "level2": (2, 2, 1), "bottleneck": (4, 4, 2)}
    assert tuple(net.encoder.downs[0][0].kernel_size) == (2, 2, 1)
    features = net.encode(torch.randn(1, 1, 8, 8, 4))
    assert features["level2"].shape == (1, 4, 4, 4, 4)
    assert net.decode(features).logits.shape == (1, 2, 8, 8, 4)


@pytest.mark.parametrize("norm", ["instance", "batch", "group"])
@pytest.mark.parametrize("name", ["vnet", "unet"])
def test_channels_last_gives_the_same_logits_and_gradients(name, norm):
    make_net = MakeNet(name, dims=3, channels=2, classes=3, filters=2, levels=3, norm=norm, dropout=0.0)
    image, weight = torch.randn(2, 2, 8, 8, 8), torch.randn(2, 3, 8, 8, 8)
    plain, last = make_net(), make_net().to(memory_format=torch.channels_last_3d)
    (plain(image) * weight).sum().backward()
    logits, features, _ = last.decode(last.encode(image.to(memory_format=torch.channels_last_3d)))
    (logits * weight).sum().backward()
    assert features[-1].is_contiguous(memory_format=torch.channels_last_3d)
    torch.testing.assert_close(logits, plain(image), atol=1e-4, rtol=1e-4, check_stride=False)
    for one, other in zip(plain.parameters(), last.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, atol=1e-2, rtol=1e-3, check_stride=False)


def test_a_step_lowers_the_loss():
    net = MakeNet(dims=2, channels=1, classes=2, filters=4, levels=3, dropout=0.0)()
    torch.manual_seed(0)
    image = torch.randn(2, 1, 16, 16)
    label = (image[:, 0] > 0).long()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.5)
    losses = []
    for _ in range(20):
        loss = F.cross_entropy(net(image), label)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


def _empty_channels(feature):
    return int((feature.flatten(2).abs().sum(2) == 0).sum())
