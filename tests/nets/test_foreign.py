"""MONAI's nets: logits by name, a clear refusal of everything else."""

import pytest
import torch

from semivox.errors import ConfigError, UnknownMethodError
from semivox.nets.build import MONAI, MakeNet


def make_net(name, **values):
    return MakeNet(name, dims=2, channels=1, classes=3, filters=8, levels=3, **values)


@pytest.mark.parametrize("name", MONAI)
def test_every_listed_net_gives_logits_without_options(name):
    net = make_net(f"monai:{name}")().eval()
    assert net(torch.randn(1, 1, 32, 32)).shape == (1, 3, 32, 32)


def test_the_class_name_alone_will_do_and_weights_depend_on_seed_and_name_alone():
    one, two = make_net("SegResNet")(), make_net("monai:SegResNet")()
    assert all(torch.equal(a, b) for a, b in zip(one.parameters(), two.parameters(), strict=True))
    other = make_net("SegResNet", seed=1)()
    assert not torch.equal(next(one.parameters()), next(other.parameters()))


def test_options_reach_the_net_before_our_values():
    wide, narrow = make_net("SegResNet", options={"init_filters": 16})(), make_net("SegResNet")()
    assert next(wide.parameters()).shape[0] == 16
    assert next(narrow.parameters()).shape[0] == 8


def test_features_and_decoders_are_refused_with_what_to_take_instead():
    net = make_net("BasicUNet")()
    image = torch.zeros(1, 1, 32, 32)
    asked = [lambda: net.encode(image), lambda: net.decode({}), lambda: make_net("UNet")(decoders=2)]
    asked += [lambda: net.widths["level1"], lambda: net.decoded_widths, lambda: net.decoded_strides]
    for ask in asked:
        with pytest.raises(ConfigError, match="logits alone: take net 'vnet' or 'unet'"):
            ask()


def test_unknown_nets_and_options_name_the_nearest_and_missing_ones_are_listed():
    with pytest.raises(UnknownMethodError, match="did you mean 'SegResNet'"):
        make_net("SegResNett")()
    with pytest.raises(ConfigError, match="did you mean 'init_filters'"):
        make_net("SegResNet", options={"init_filter": 8})()
    with pytest.raises(ConfigError, match="needs the options kernel_size, upsample_kernel_size"):
        make_net("DynUNet")()
    with pytest.raises(ConfigError, match="MONAI refused to make net 'monai:SegResNet'"):
        make_net("SegResNet", options={"init_filters": 3})()


def test_a_net_that_returns_a_list_is_refused():
    with pytest.raises(ConfigError, match="returned a list"):
        make_net("BasicUNetPlusPlus")()(torch.zeros(1, 1, 32, 32))


@pytest.mark.parametrize(("name", "options", "told"), [
    ("SegResNet", {"out_channels": 5}, r"gives \(2, 5, 32, 32\) for .* expected logits \(2, 3, 32, 32\)"),
    ("BasicUNetPlusPlus", {}, "gives a list for a patch of 32x32, expected logits"),
    ("UNet", {"in_channels": 2}, "fails on a patch of 32x32: .*take another patch or net options"),
])  # fmt: skip
def test_a_net_that_does_not_fit_is_refused_when_it_is_made(name, options, told):
    with pytest.raises(ConfigError, match=told) as stopped:
        make_net(name, options=options, patch=(32, 32))()
    assert "\n" not in str(stopped.value)


@pytest.mark.parametrize("name", MONAI)
def test_a_trial_on_the_patch_changes_no_weight_and_no_statistics(name):
    tried, plain = make_net(name, patch=(32, 32))(), make_net(name)()
    assert all(torch.equal(a, b) for a, b in zip(tried.state_dict().values(), plain.state_dict().values(), strict=True))
