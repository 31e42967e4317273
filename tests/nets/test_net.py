"""What every net of ours promises: named features, decoders that share an encoder, errors that say what to change."""

import pytest
import torch
from torch import nn

from semivox.errors import ConfigError, GeometryError
from semivox.nets.build import MakeNet


@pytest.mark.parametrize("name", ["vnet", "unet"])
@pytest.mark.parametrize("dims", [2, 3])
def test_features_by_name_have_the_declared_widths_and_strides(name, dims):
    net = MakeNet(name, dims=dims, channels=2, classes=3, filters=2, levels=3)(deep=True)
    image = torch.randn(2, 2, *(8,) * dims)
    features = net.encode(image)
    assert list(features) == list(net.widths) == ["level1", "level2", "bottleneck"]
    for key, feature in features.items():
        assert feature.shape == (2, net.widths[key], *(8 // stride for stride in net.strides[key]))
    decoded = net.decode(features)
    assert decoded.logits.shape == (2, 3, *(8,) * dims)
    for level, feature in enumerate(reversed(decoded.features), start=1):
        assert feature.shape == features[f"level{level}"].shape
    sizes = [(feature.shape[1], 8 // feature.shape[2]) for feature in decoded.features]
    assert sizes == [(w, s[0]) for w, s in zip(net.decoded_widths, net.decoded_strides, strict=True)]
    assert [logits.shape for logits in decoded.deep] == [(2, 3, *(4,) * dims)]


@pytest.mark.parametrize("name", ["vnet", "unet"])
def test_forward_is_decode_of_encode_and_features_may_be_changed_between(name):
    net = MakeNet(name, dims=2, channels=1, classes=2, filters=2, levels=3)().eval()
    image = torch.randn(1, 1, 8, 8)
    features = net.encode(image)
    assert torch.equal(net(image), net.decode(features).logits)
    changed = features | {"bottleneck": features["bottleneck"] * 0}
    assert not torch.equal(net.decode(changed).logits, net(image))


@pytest.mark.parametrize("name", ["vnet", "unet"])
@pytest.mark.parametrize("dims", [2, 3])
def test_varied_decoders_enlarge_features_each_in_its_own_way_whatever_the_strides(name, dims):
    strides = ((2, 2, 1)[-dims:], (2, 4, 2)[-dims:])
    net = MakeNet(name, dims=dims, channels=1, classes=2, filters=2, levels=3, strides=strides)(decoders=4, varied=True)
    features = net.encode(torch.randn(1, 1, *(16,) * dims))
    assert [net.decode(features, k).logits.shape for k in range(4)] == [(1, 2, *(16,) * dims)] * 4
    enlarging = [
        [layer for layer in decoder.modules() if isinstance(layer, nn.ConvTranspose2d | nn.ConvTranspose3d)]
        for decoder in net.decoders
    ]
    assert [len(layers) for layers in enlarging] == ([2, 0, 0, 2] if name == "vnet" else [0, 2, 0, 0])
    assert all(p.grad is not None for p in backward(net, features).parameters())


def backward(net, features):
    sum(net.decode(features, k).logits.square().sum() for k in range(len(net.decoders))).backward()
    return net


@pytest.mark.parametrize("name", ["vnet", "unet"])
def test_nearest_and_linear_differ_in_what_lies_between_coarse_voxels(name):
    """A single coarse value is repeated by one and spread out by the other, whatever convolutions follow."""
    net = MakeNet(name, dims=2, channels=1, classes=2, filters=2, levels=2)(decoders=3, varied=True)
    linear, nearest = (net.decoders[net.ways.index(way)] for way in ("linear", "nearest"))
    nearest.load_state_dict(linear.state_dict())
    features = {"level1": torch.zeros(1, 2, 8, 8), "bottleneck": torch.rand(1, 4, 4, 4)}
    net.eval()
    assert not torch.allclose(linear(features).logits, nearest(features).logits)
    flat = features | {"bottleneck": features["bottleneck"].mean((2, 3), keepdim=True).expand(1, 4, 4, 4)}
    torch.testing.assert_close(linear(flat).logits, nearest(flat).logits)


def test_every_decoder_and_every_deep_head_learns_and_all_of_them_teach_the_encoder():
    net = MakeNet(dims=2, channels=1, classes=2, filters=2, levels=3)(decoders=2, deep=True)
    features = net.encode(torch.randn(2, 1, 8, 8))
    first, second = net.decode(features), net.decode(features, 1)
    assert not torch.equal(first.logits, second.logits)
    sum(logits.square().sum() for d in (first, second) for logits in (d.logits, *d.deep)).backward()
    assert all(p.grad is not None for p in net.parameters())


def test_a_batch_equals_its_images_one_by_one_under_instance_norm():
    net = MakeNet(dims=3, channels=1, classes=2, filters=2, levels=3, dropout=0.0)()
    images = torch.randn(3, 1, 8, 8, 8)
    one_by_one = torch.cat([net(image[None]) for image in images])
    torch.testing.assert_close(net(images), one_by_one, atol=1e-5, rtol=1e-4)


def test_a_size_that_does_not_fit_is_refused_with_the_size_that_does():
    net = MakeNet(dims=3, channels=1, classes=2, filters=2, levels=3, strides=((2, 2, 1), (2, 2, 2)))()
    with pytest.raises(GeometryError, match=r"9x8x3 .* multiple of 4x4x2; take 12x8x4"):
        net(torch.zeros(1, 1, 9, 8, 3))


@pytest.mark.parametrize("shape", [(1, 2, 8, 8), (1, 1, 8, 8, 8)])
def test_an_image_of_other_channels_or_axes_is_refused(shape):
    net = MakeNet(dims=2, channels=1, classes=2, filters=2, levels=3)()
    with pytest.raises(GeometryError, match=r"\(B, 1, 2 spatial axes\)"):
        net(torch.zeros(shape))


@pytest.mark.parametrize(("norm", "batch"), [("instance", 2), ("batch", 1)])
def test_a_single_voxel_at_the_bottleneck_is_refused_with_the_patch_and_levels_to_change(norm, batch):
    net = MakeNet(dims=3, channels=1, classes=2, filters=2, levels=3, norm=norm)()
    with pytest.raises(GeometryError, match=r"4x4x4 leaves one voxel .* at least 8x4x4, or fewer levels than 3"):
        net(torch.zeros(batch, 1, 4, 4, 4))
    net(torch.zeros(batch, 1, 8, 4, 4))


def test_a_single_voxel_is_fine_where_the_norm_has_more_to_go_by():
    group, batch = (MakeNet(dims=2, channels=1, classes=2, levels=3, norm=norm)() for norm in ("group", "batch"))
    group(torch.randn(1, 1, 4, 4))
    batch(torch.randn(2, 1, 4, 4))
    batch.eval()(torch.randn(1, 1, 4, 4))


def test_a_decoder_that_is_not_there_is_refused():
    net = MakeNet(dims=2, channels=1, classes=2, filters=2, levels=2)()
    features = net.encode(torch.zeros(1, 1, 8, 8))
    with pytest.raises(ConfigError, match=r"make_net\(decoders=2\)"):
        net.decode(features, 1)
    with pytest.raises(ConfigError, match="decoder -1"):
        net.decode(features, -1)
