"""Nets by name, and weights that depend on (seed, stage, name) alone."""

from dataclasses import replace

import pytest
import torch
from torch import nn

from semivox.errors import ConfigError, SemivoxError, UnknownMethodError
from semivox.nets.build import MakeNet, list_nets

MAKE = MakeNet(dims=2, channels=1, classes=2, filters=2, levels=3)


def test_the_same_seed_stage_and_name_give_the_same_weights_whatever_was_drawn_before():
    first = MAKE().state_dict()
    torch.randn(7)
    assert _same(first, MAKE().state_dict())


@pytest.mark.parametrize("other", [replace(MAKE, seed=1), replace(MAKE, stage="finetune")])
def test_another_seed_or_stage_gives_other_weights(other):
    assert not _same(MAKE().state_dict(), other().state_dict())


def test_another_name_gives_other_weights():
    assert not _same(MAKE(name="net_1").state_dict(), MAKE(name="net_2").state_dict())


def test_no_two_convolutions_share_their_draw():
    weights = [p.flatten()[:4] for key, p in MAKE(decoders=2).named_parameters() if p.dim() == 4]
    assert len({tuple(w.tolist()) for w in weights}) == len(weights)


@pytest.mark.parametrize("name", ["vnet", "unet"])
def test_more_decoders_and_deep_heads_change_no_other_weight(name):
    make_net = replace(MAKE, name=name)
    for varied in (False, True):
        more = make_net(decoders=3, deep=True, varied=varied).state_dict()
        assert _same({key: more[key] for key in make_net().state_dict()}, make_net().state_dict())


def test_making_nets_and_heads_leaves_the_global_randomness_alone():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    MAKE()
    with MAKE.seeded("head"):
        nn.Linear(3, 3)
    assert torch.equal(torch.rand(4), expected)


def test_seeded_heads_depend_on_their_name_alone_and_an_error_inside_restores_the_randomness():
    def head(name):
        with MAKE.seeded(name):
            return nn.Linear(3, 3).weight

    state = torch.get_rng_state()
    assert torch.equal(head("a"), head("a"))
    assert not torch.equal(head("a"), head("b"))
    with pytest.raises(KeyError), MAKE.seeded("a"):
        raise KeyError
    assert torch.equal(torch.get_rng_state(), state)


def test_convolutions_start_with_the_variance_of_kaiming_and_no_shift():
    net = replace(MAKE, filters=16)()
    conv = net.encoder.stages[2][1][0]  # 64 -> 64 channels, 3 x 3
    assert conv.weight.var().item() == pytest.approx(2 / (64 * 9), rel=0.05)
    assert not conv.bias.any()


def test_nets_carry_what_heads_and_views_need_to_know():
    make_net = MakeNet(dims=3, channels=2, classes=4, slice_axis=0, filters=2, levels=2)
    net = make_net()
    for of in (make_net, net):
        assert (of.dims, of.channels, of.classes, of.slice_axis) == (3, 2, 4, 0)


@pytest.mark.parametrize(("name", "near"), [("vnett", "'vnet'"), ("segresnet", "'monai:SegResNet'")])
def test_an_unknown_net_names_the_nearest_one(name, near):
    with pytest.raises(UnknownMethodError, match=f"did you mean {near}"):
        replace(MAKE, name=name)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"dims": 4}, "dims = 4"),
        ({"levels": 1}, "levels = 1: expected 2"),
        ({"classes": 0}, "classes = 0"),
        ({"dropout": 1.0}, "dropout = 1.0"),
        ({"norm": "instence"}, "did you mean 'instance'"),
        ({"strides": ((2, 2),)}, "3 levels in 2D need 2 tuples of 2"),
        ({"strides": ((2, 2, 2), (2, 2, 2))}, "3 levels in 2D need 2 tuples of 2"),
        ({"options": {"act": "relu"}}, "takes no options"),
    ],
)
def test_values_that_no_net_can_be_built_from_are_refused(values, message):
    with pytest.raises(ConfigError, match=message):
        replace(MAKE, **values)


def test_at_least_one_decoder_is_needed():
    with pytest.raises(SemivoxError, match="decoders = 0"):
        MAKE(decoders=0)


def test_our_nets_come_first_in_the_list():
    assert list_nets()[:2] == ("unet", "vnet")


def _same(one, other):
    return one.keys() == other.keys() and all(torch.equal(one[key], other[key]) for key in one)
