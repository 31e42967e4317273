"""Convolutions, norms and heads in 2D and 3D."""

import pytest
import torch
from torch import nn

from semivox.errors import ConfigError
from semivox.nets.heads import InstanceNorm, conv_head, deep_heads, make_conv, make_norm, make_upconv, mlp, projection


@pytest.mark.parametrize(("dims", "kernel"), [(2, 3), (3, 3), (3, (3, 3, 1)), (2, 1)])
def test_a_convolution_keeps_the_size_of_its_input(dims, kernel):
    x = torch.randn(2, 3, *(6, 5, 4)[:dims])
    assert make_conv(dims, 3, 5, kernel)(x).shape == (2, 5, *x.shape[2:])


def test_options_of_a_convolution_are_handed_on():
    conv = make_conv(2, 1, 4, 4, stride=2, padding=1, bias=False)
    assert conv.bias is None
    assert conv(torch.randn(1, 1, 8, 8)).shape == (1, 4, 4, 4)


def test_a_transposed_convolution_enlarges_each_axis_by_its_stride():
    assert make_upconv(3, 4, 2, (2, 2, 1))(torch.randn(1, 4, 3, 3, 3)).shape == (1, 2, 6, 6, 3)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last_3d])
def test_instance_norm_is_torchs_with_scale_and_shift_forward_and_backward(memory_format):
    x = (torch.randn(2, 3, 4, 5, 6) * 3 + 2).to(memory_format=memory_format)
    weight = torch.randn_like(x)
    ours, theirs = InstanceNorm(3), nn.InstanceNorm3d(3, affine=True)
    grads = []
    for norm in (ours, theirs):
        nn.init.constant_(norm.weight, 1.5)
        nn.init.constant_(norm.bias, 0.5)
        leaf = x.clone().requires_grad_()
        y = norm(leaf)
        (y * weight).sum().backward()
        grads.append((y, leaf.grad, norm.weight.grad, norm.bias.grad))
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4, check_stride=False)


@pytest.mark.parametrize(("channels", "groups"), [(64, 16), (24, 12), (8, 8), (17, 1)])
def test_group_norm_takes_sixteen_groups_or_the_most_that_divide_the_channels(channels, groups):
    assert make_norm(3, "group", channels).num_groups == groups


def test_an_mlp_has_relu_between_its_layers_and_none_after_the_last():
    layers = mlp(8, 4, 4, 2)
    assert [type(layer) for layer in layers] == [nn.Linear, nn.ReLU, nn.Linear, nn.ReLU, nn.Linear]
    assert layers(torch.randn(5, 3, 8)).shape == (5, 3, 2)


def test_a_head_looks_at_single_voxels():
    head, x = conv_head(3, 4, 2), torch.randn(1, 4, 3, 3, 3)
    changed = x.clone()
    changed[..., 0, 0, 0] += 1
    differs = (head(x) != head(changed)).any(1)[0]
    assert differs.sum() == 1
    assert differs[0, 0, 0]


@pytest.mark.parametrize("dims", [2, 3])
def test_a_projection_embeds_positions_one_by_one(dims):
    embed = projection(dims, 3, 5, 7, "batch").eval()
    x = torch.randn(2, 3, *(4, 5, 6)[:dims])
    assert embed(x).shape == (2, 7, *x.shape[2:])
    assert [type(layer).__name__ for layer in embed] == [f"Conv{dims}d", f"BatchNorm{dims}d", "ReLU", f"Conv{dims}d"]
    changed = x.clone()
    changed[0, :, 0] += 1
    same = (embed(changed) == embed(x)).all(1)
    assert same[1].all()
    assert same[0, 1:].all()
    assert not same[0, 0].any()


def test_impossible_parts_are_refused():
    with pytest.raises(ConfigError, match="dims = 1"):
        make_conv(1, 1, 1)
    with pytest.raises(ConfigError, match="did you mean 'batch'"):
        make_norm(2, "batsh", 4)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="at least two sizes"):
        mlp(3)


def test_deep_heads_drop_less_the_finer_they_are():
    heads = deep_heads(3, (16, 8, 4, 2, 2), 3, 0.5)
    assert [round(dropout.p, 6) for dropout, _ in heads] == [0.5, 0.3, 0.2, 0.1, 0.1]
    assert heads[1](torch.randn(2, 8, 4, 4, 2)).shape == (2, 3, 4, 4, 2)
    assert len(deep_heads(2, (), 3, 0.5)) == 0
