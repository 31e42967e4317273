"""MC-Net: what a sharpened answer is, who moves to whose, and that decoders differ."""

import math

import pytest
import torch
from crops import all_stages, make_toy_method, run_forward, run_steps, toy_batch, toy_progress
from duo import assert_close
from game import gradient_of, norm

from semivox.errors import ConfigError
from semivox.methods.mc_net import Config, MCNet
from semivox.nets.build import MakeNet
from semivox.ops.dice import dice_ce

(STAGE,) = all_stages("mc_net")
PLAIN = {"geometry": "none", "intensity": "none", "net": {"dropout": 0.0}}


def make(*, dims=2, **fields):
    return make_toy_method("mc_net", dims=dims, **PLAIN | fields).train()


def losses(method, batch=None, progress=None):
    return run_forward(method, batch or toy_batch(dims=2), progress or toy_progress()).losses


def say(method, *odds):
    """Let each decoder give the foreground these odds in every voxel."""
    with torch.no_grad():
        for decoder, number in zip(method.student.decoders, odds, strict=True):
            decoder.out.weight.zero_()
            decoder.out.bias.copy_(torch.tensor([0, math.log(number)]))
    return method


def test_decoders_of_opposite_minds_by_hand():
    """3/4 and 1/4 at T = 1/2 are sharpened to (9/16) / (10/16) = .9 and .1: each is .65 from the other's target."""
    two = {"decoders": 2, "temperature": 0.5}
    ramp = math.exp(-5 / 4)
    assert losses(say(make(**two), 3, 1 / 3))["consistency"].item() == pytest.approx(ramp * 2 * 0.65**2, rel=1e-4)
    # Of one mind each is still .15 from what is sharper than it.
    assert losses(say(make(**two), 3, 3))["consistency"].item() == pytest.approx(ramp * 2 * 0.15**2, rel=1e-4)
    of_three = 2 * 0.15**2 + 4 * 0.65**2
    found = losses(say(make(temperature=0.5), 3, 3, 1 / 3))["consistency"].item()
    assert found == pytest.approx(ramp * of_three, rel=1e-4)


def test_sharpening_is_over_all_classes():
    """1/2, 1/4, 1/4 at T = 1/2 are sharpened to 4/6, 1/6, 1/6; each channel by itself would be 1/2, 1/10, 1/10."""
    method = make(decoders=2, temperature=0.5, net={"classes": 3})
    with torch.no_grad():
        for decoder in method.student.decoders:
            decoder.out.weight.zero_()
            decoder.out.bias.copy_(torch.tensor([math.log(2), 0, 0]))
    found = losses(method, toy_batch(dims=2, classes=3))["consistency"].item()
    each = ((1 / 6) ** 2 + 2 * (1 / 12) ** 2) / 3
    assert found == pytest.approx(math.exp(-5 / 4) * 2 * each, rel=1e-4)


@pytest.mark.parametrize("fixed", [False, True])
def test_all_decoders_learn_from_labels_and_from_each_other_on_all_crops(fixed):
    method, batch = make(fixed_targets=fixed, temperature=0.5), toy_batch(dims=2)
    found = losses(method, batch)
    decoded = []
    for image in (batch.image_l, batch.image_u):
        features = method.student.encode(image)
        decoded.append([method.student.decode(features, k).logits for k in range(3)])
    supervised = [dice_ce(x, batch.label_l, batch.valid_l) for x in decoded[0]]
    torch.testing.assert_close(found["supervised"], supervised[0])
    torch.testing.assert_close(found["decoders"], supervised[1] + supervised[2])
    valid = torch.cat([batch.valid_l, batch.valid_u])
    p = [torch.cat([a, b]).softmax(1).movedim(1, -1)[valid] for a, b in zip(*decoded, strict=True)]
    sharp = [x**2 / (x**2).sum(-1, keepdim=True) for x in p]
    sharp = [x.detach() for x in sharp] if fixed else sharp
    apart = sum((p[i] - sharp[j]).square().mean() for i in range(3) for j in range(3) if i != j)
    apart = math.exp(-5 / 4) * apart
    torch.testing.assert_close(found["consistency"], apart)
    assert_close(gradient_of(found["consistency"], method), gradient_of(apart, method))


def test_without_unlabelled_crops_decoders_agree_on_the_labelled_ones():
    method = say(make(decoders=2, temperature=0.5), 3, 1 / 3)
    assert losses(method, toy_batch(dims=2, unlabelled=0))["consistency"].item() == pytest.approx(
        losses(method)["consistency"].item()
    )


def test_the_weights_leave_out_a_term_each_and_the_consistency_ramps_up():
    full, bare = losses(make()), losses(make(weight=0.1, weight_decoders=0.5))
    torch.testing.assert_close(full["consistency"], 10 * bare["consistency"])
    torch.testing.assert_close(full["decoders"], 2 * bare["decoders"])
    for term, field in (("consistency", "weight"), ("decoders", "weight_decoders")):
        without = losses(make(**{field: 0}))
        assert without.pop(term) == 0
        assert all(torch.equal(value, full[name]) for name, value in without.items())
    early = losses(make(), progress=toy_progress(5, steps=50))["consistency"].item()
    assert early == pytest.approx(math.exp(-5 * 0.9**2 + 5 * 0.5**2) * full["consistency"].item(), rel=1e-4)


def test_decoders_differ_in_kind_and_a_net_that_has_no_kinds_is_refused():
    ways = [{type(layer) for layer in decoder.modules()} for decoder in make().student.decoders]
    assert [torch.nn.ConvTranspose2d in kinds for kinds in ways] == [True, False, False]
    modes = [[x.mode for x in d.modules() if isinstance(x, torch.nn.Upsample)] for d in make().student.decoders]
    assert modes == [[], ["bilinear"] * 2, ["nearest"] * 2]
    assert len(make(decoders=2).student.decoders) == 2
    with pytest.raises(ConfigError, match=r"monai:BasicUNet' for 3 decoders.*take net 'vnet'"):
        MCNet(MakeNet("monai:BasicUNet", dims=2, channels=1, classes=2), Config())


def test_decoders_that_have_learned_agree_on_images_not_on_their_like():
    method, batch = make(lr=0.05, net={"dropout": 0.0, "filters": 4}), toy_batch(dims=2, padded=False)
    run_steps(method, [toy_batch(dims=2, seed=seed) for seed in range(10)], stage=STAGE)
    found = losses(method, batch)
    assert norm(gradient_of(found["consistency"], method)) > 0.05 * norm(gradient_of(found["supervised"], method))
    decode = type(method.student).decode

    def of_another(net, features, decoder=0):
        return decode(net, {name: x.flip(0) for name, x in features.items()} if decoder else features, decoder)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(method.student), "decode", of_another)
        assert losses(method, batch)["consistency"] > 1.5 * found["consistency"]


def test_the_first_decoder_predicts():
    method, image = make().eval(), toy_batch(dims=2).image_l
    p = method.predict(image)
    assert torch.equal(p, method.student.decode(method.student.encode(image)).logits.softmax(1))
