"""The cost model against the net that it counts."""

import math
from dataclasses import replace

import pytest
import torch

from semivox.methods import list_methods
from semivox.nets.build import MakeNet
from semivox.planning.costs import (
    AT_REST,
    Setup,
    cache_bytes,
    forward_flops,
    kept_bytes,
    step_memory,
    step_seconds,
    weight_count,
)
from semivox.planning.measured import StepCost, step_cost, step_costs

SETUPS = [
    Setup(patch=(32, 32, 16), strides=((2, 2, 2), (2, 2, 2)), filters=4),
    Setup(patch=(32, 16, 16), strides=((2, 2, 1), (2, 2, 2), (2, 1, 2)), filters=4, channels=2, classes=3),
    Setup(patch=(64, 64), strides=((2, 2),) * 4, filters=4),
]


def vnet(setup: Setup) -> torch.nn.Module:
    make_net = MakeNet(
        "vnet",
        dims=setup.dims,
        channels=setup.channels,
        classes=setup.classes,
        filters=setup.filters,
        levels=len(setup.strides) + 1,
        strides=setup.strides,
    )
    return make_net()


@pytest.mark.parametrize("setup", SETUPS)
def test_weights_are_those_of_the_net(setup):
    weights = sum(p.numel() for name, p in vnet(setup).named_parameters() if p.dim() > 1)
    head = setup.filters * setup.classes
    assert weight_count(setup) + head == weights


@pytest.mark.parametrize("setup", SETUPS)
def test_kept_bytes_are_those_that_autograd_keeps(setup):
    net = vnet(setup)
    weights = {p.data_ptr() for p in net.parameters()}
    kept: dict[int, int] = {}

    def remember(tensor):
        if tensor.data_ptr() not in weights:
            storage = tensor.untyped_storage()
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(remember, lambda tensor: tensor):
        logits = net(torch.randn(1, setup.channels, *setup.patch))
    assert logits.shape[1] == setup.classes
    assert kept_bytes(setup) == pytest.approx(sum(kept.values()), rel=0.08)


def test_operations_of_a_two_level_net_are_as_counted_by_hand():
    """V = 64 voxels, widths 2 and 4: 27 * (1 * 2 + 2 * 2) at the top, 8 coarse ones with two 4 -> 4, and the moves."""
    setup = Setup(patch=(4, 4, 4), strides=((2, 2, 2),), filters=2)
    top = 2 * 64 * 27 * (1 * 2 + 2 * 2)
    coarse = 2 * 8 * 27 * 2 * 4 * 4
    moves = 2 * (8 * 8 * 2 * 4) + 2 * (8 * 8 * 4 * 2)  # down: 8 outputs of 2 x 2 x 2; up: each of 64 outputs sees one
    assert forward_flops(setup) == top + coarse + moves


def test_a_second_stream_cost_memory_and_time():
    both = SETUPS[0]
    alone = replace(both, unlabelled=0)
    assert step_memory(both, "cpu") > step_memory(alone, "cpu") + 2 * kept_bytes(both)
    assert step_seconds(both, "cpu") == pytest.approx(step_seconds(alone, "cpu") * 2)


def test_a_method_costs_what_was_measured_of_it():
    plain, dear = SETUPS[0], replace(SETUPS[0], method=StepCost(time=3.0, memory=2.0))
    assert step_seconds(dear, "cpu") == pytest.approx(3 * step_seconds(plain, "cpu"))
    at_rest = AT_REST["cpu"]
    assert step_memory(dear, "cpu") - at_rest == pytest.approx(2 * (step_memory(plain, "cpu") - at_rest), abs=2)
    assert step_memory(replace(plain, method=StepCost(1.0, 0.5)), "cpu") == step_memory(plain, "cpu")


@pytest.mark.parametrize("dims", [2, 3])
def test_every_shipped_method_was_measured_and_ones_own_counts_as_usual(dims):
    assert set(step_costs(dims)) == set(list_methods()), "run benchmarks/speed/steps.py as its docstring says"
    assert step_costs(dims)["supervised"] == StepCost(1.0, 1.0)
    assert step_cost("my_own", dims) == step_costs(dims)["mean_teacher"]
    assert step_cost("duo_segnet", dims).time > 2, "two nets and a critic that looks thrice"


def test_the_cache_holds_images_as_floats_labels_as_bytes_and_maps_as_halves():
    shapes = [(10, 10, 10), (20, 10, 10)]
    assert cache_bytes(shapes, channels=2, labelled=1) == 2 * 4 * 3000 + 1000
    assert math.isclose(cache_bytes(shapes, channels=1, labelled=0), 12000)
    assert cache_bytes(shapes, channels=1, labelled=1, maps=4) == 12000 + 1000 + 4 * 2 * 1000
