"""URPC: scales and their mean by hand, which voxels count for how much, and nets that have no scales."""

import math

import pytest
import torch
from crops import all_stages, make_toy_method, run_forward, run_steps, toy_batch, toy_progress
from duo import assert_close
from game import gradient_of, norm
from torch.nn import functional as F

from semivox.errors import ConfigError
from semivox.methods.urpc import URPC, Config
from semivox.nets.build import MakeNet
from semivox.ops.dice import dice_ce

(STAGE,) = all_stages("urpc")
PLAIN = {"geometry": "none", "intensity": "none", "net": {"dropout": 0.0}}


def make(*, dims=2, **fields):
    return make_toy_method("urpc", dims=dims, **PLAIN | fields).train()


def losses(method, batch=None, progress=None):
    return run_forward(method, batch or toy_batch(dims=2), progress or toy_progress()).losses


def divergence(p, q):
    """Return KL(p || q) of two foreground probabilities."""
    return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))


def test_two_scales_that_give_nine_and_five_tenths_by_hand():
    """Their mean is .7: each is .2 from it in both channels, which counts alike in every voxel."""
    method = make(weight=1)
    decoder = method.student.decoders[0]
    with torch.no_grad():
        for head, odds in ((decoder.out, 9), (decoder.deep[0][1], 1)):
            head.weight.zero_()
            head.bias.copy_(torch.tensor([0, math.log(odds)]))
    expected = 2 * 0.2**2 + divergence(0.7, 0.9) + divergence(0.7, 0.5)
    assert losses(method)["consistency"].item() == pytest.approx(math.exp(-5 / 4) * expected, rel=1e-4)


@pytest.mark.parametrize("fixed", [True, False])
@pytest.mark.parametrize("dims", [2, 3])
def test_a_scale_counts_less_where_it_is_far_from_the_mean_and_only_in_valid_voxels(dims, fixed):
    method = make(dims=dims, fixed_targets=fixed, net={"dropout": 0.0, "levels": 4, "classes": 3})
    with torch.no_grad():
        for head in (method.student.decoders[0].out, *(deep[1] for deep in method.student.decoders[0].deep)):
            head.weight *= 5
    batch = toy_batch(dims=dims, classes=3)
    found = losses(method, batch)
    scales = []
    for image in (batch.image_l, batch.image_u):
        out = method.student.decode(method.student.encode(image))
        assert len(out.deep) == 2
        mode = ("bilinear", "trilinear")[dims - 2]
        scales.append([out.logits, *(F.interpolate(x, size=image.shape[2:], mode=mode) for x in out.deep)])
    supervised = [dice_ce(x, batch.label_l, batch.valid_l) for x in scales[0]]
    torch.testing.assert_close(found["supervised"], supervised[0])
    torch.testing.assert_close(found["scales"], supervised[1] + supervised[2])
    p = torch.stack([x.softmax(1).movedim(1, -1)[batch.valid_u] for x in scales[1]])  # (3, voxels, K)
    mean = p.mean(0).detach() if fixed else p.mean(0)
    far = (mean * (mean / p).log()).sum(-1)
    weight = torch.exp(-far.detach() if fixed else -far)
    assert weight.min() < 0.8
    near = (weight * (p - mean).square().mean(-1)).sum(1) / weight.sum(1)
    apart = 0.1 * math.exp(-5 / 4) * (near + far.mean(1)).sum()
    torch.testing.assert_close(found["consistency"], apart)
    wanted = gradient_of(apart, method)
    assert_close({name: g for name, g in gradient_of(found["consistency"], method).items() if name in wanted}, wanted)


def test_the_weights_leave_out_a_term_each_and_the_consistency_ramps_up():
    full, bare = losses(make()), losses(make(weight=1, weight_scales=0.5))
    torch.testing.assert_close(bare["consistency"], 10 * full["consistency"])
    torch.testing.assert_close(full["scales"], 2 * bare["scales"])
    for term, field in (("consistency", "weight"), ("scales", "weight_scales")):
        without = losses(make(**{field: 0}))
        assert without.pop(term) == 0
        assert all(torch.equal(value, full[name]) for name, value in without.items())
    early = losses(make(), progress=toy_progress(5, steps=50))["consistency"].item()
    assert early == pytest.approx(math.exp(-5 * 0.9**2 + 5 * 0.5**2) * full["consistency"].item(), rel=1e-4)


def test_crops_without_a_valid_voxel_cost_nothing():
    batch = toy_batch(dims=2)
    batch.valid_u[:] = False
    assert losses(make(), batch)["consistency"] == 0


@pytest.mark.parametrize(
    ("net", "words"),
    [
        ({"name": "vnet", "levels": 2}, "found a net of 2 levels.*expected 3 levels or more; set net.levels"),
        ({"name": "monai:BasicUNet"}, "with deep outputs.*take net 'vnet'"),
    ],
)
def test_a_net_without_scales_is_refused(net, words):
    with pytest.raises(ConfigError, match=words):
        URPC(MakeNet(dims=2, channels=1, classes=2, filters=2, **net), Config())


def test_scales_that_have_learned_agree_on_images_not_on_their_like():
    method, batch = make(lr=0.05, net={"dropout": 0.0, "filters": 4}), toy_batch(dims=2, padded=False)
    run_steps(method, [toy_batch(dims=2, seed=seed) for seed in range(15)], stage=STAGE)
    found = losses(method, batch)
    assert norm(gradient_of(found["consistency"], method)) > 0.01 * norm(gradient_of(found["supervised"], method))
    method.student.decoders[0].deep[0].register_forward_hook(lambda _, given, x: x.flip(0) if len(x) == 4 else None)
    assert losses(method, batch)["consistency"] > 1.5 * found["consistency"]


def test_the_finest_scale_predicts():
    method, image = make().eval(), toy_batch(dims=2).image_l
    p = method.predict(image)
    torch.nn.init.ones_(method.student.decoders[0].deep[0][1].weight)
    assert torch.equal(p, method.predict(image))
    assert torch.equal(p, method.student.decode(method.student.encode(image)).logits.softmax(1))
