"""CCT: which decoder sees what, which one sets the target, and what the consistency moves."""

import math

import pytest
import torch
from crops import all_stages, make_toy_method, run_forward, run_steps, spied, toy_batch, toy_progress
from game import gradient_of, norm

from semivox.methods import cct
from semivox.ops.dice import dice_ce

(STAGE,) = all_stages("cct")
PLAIN = {"geometry": "none", "intensity": "none", "net": {"dropout": 0.0}}


def make(*, dims=2, **fields):
    return make_toy_method("cct", dims=dims, **PLAIN | fields).train()


def losses(method, batch=None, progress=None):
    return run_forward(method, batch or toy_batch(dims=2), progress or toy_progress()).losses


def keep(x, generator):
    return x


def silence(x, generator):
    return x * 0


def test_decoders_that_are_one_agree_on_features_that_are_not_spoilt(monkeypatch):
    monkeypatch.setattr(cct, "SPOILERS", (keep, keep, keep))
    method = make(weight_auxiliary=1)
    assert losses(method)["consistency"] > 1e-3  # they start apart
    for decoder in method.student.decoders[1:]:
        decoder.load_state_dict(method.student.decoders[0].state_dict())
    found = losses(method)
    assert found["consistency"] == 0
    torch.testing.assert_close(found["auxiliary"], found["supervised"])


def test_each_auxiliary_decoder_sees_features_spoilt_in_its_own_way_by_hand(monkeypatch):
    monkeypatch.setattr(cct, "SPOILERS", (keep, keep, silence))
    method, batch = make(weight_auxiliary=0.5, weight=4), toy_batch(dims=2, padded=False)
    net = method.student
    found = losses(method, batch)
    supervised, apart = [], []
    for image, label in ((batch.image_l, batch.label_l), (batch.image_u, None)):
        features = net.encode(image)
        silent = {name: x * 0 for name, x in features.items()}
        x = [net.decode(silent if k == 3 else features, k).logits for k in (0, 1, 2, 3)]
        if label is None:
            apart = [(logits.softmax(1) - x[0].softmax(1)).square().mean() for logits in x[1:]]
        else:
            supervised = [dice_ce(logits, label) for logits in x]
    torch.testing.assert_close(found["supervised"], supervised[0])
    torch.testing.assert_close(found["auxiliary"], 0.5 * sum(supervised[1:]) / 3)
    torch.testing.assert_close(found["consistency"], 4 * math.exp(-5 / 4) * sum(apart) / 3)


def test_features_are_spoilt_at_every_level_and_anew_in_labelled_and_unlabelled_crops(monkeypatch):
    seen = []

    def noted(x, generator):
        seen.append((tuple(x.shape), torch.rand((), generator=generator, device=generator.device).item()))
        return x

    monkeypatch.setattr(cct, "SPOILERS", (noted, keep, keep))
    losses(make())
    levels = [(2, 16, 16), (4, 8, 8), (8, 4, 4)]
    assert [shape for shape, _ in seen] == [(images, *level) for images in (2, 4) for level in levels]
    assert len({draw for _, draw in seen}) == 6


@pytest.mark.parametrize("view", ["clean", "paper"])
def test_the_consistency_moves_the_encoder_and_the_auxiliary_decoders_but_never_the_main_one(view):
    method = make(teacher_view=view)
    moved = {name: g for name, g in gradient_of(losses(method)["consistency"], method).items() if g.abs().sum() > 0}
    parts = {".".join(name.split(".")[1:3]) for name in moved}
    assert parts - {name for name in parts if name.startswith("encoder")} == {f"decoders.{k}" for k in (1, 2, 3)}
    assert any(name.startswith("student.encoder") for name in moved)


def test_the_target_is_of_the_clean_crop_or_of_the_features_that_are_spoilt_as_published():
    batch = toy_batch(dims=2)
    for view, images in (("clean", 3), ("paper", 2)):
        method = make(intensity="strong", teacher_view=view)
        with spied(method.student.encoder) as calls:
            losses(method, batch)
        assert len(calls) == images
        assert not torch.equal(calls[1][0], batch.image_u)
        if view == "clean":
            assert torch.equal(calls[2][0], batch.image_u)
            assert not calls[2][1]["bottleneck"].requires_grad


def test_the_weights_leave_out_a_term_each_and_the_consistency_ramps_up():
    full, bare = losses(make()), losses(make(weight=1, weight_auxiliary=2))
    torch.testing.assert_close(full["consistency"], 30 * bare["consistency"])
    torch.testing.assert_close(2 * full["auxiliary"], bare["auxiliary"])
    for term, field in (("consistency", "weight"), ("auxiliary", "weight_auxiliary")):
        without = losses(make(**{field: 0}))
        assert without.pop(term) == 0
        assert all(torch.equal(value, full[name]) for name, value in without.items())
    # Everything but the ramp stays: the draws are of the step, and the plan's steps alone differ.
    early, late = (losses(make(), progress=toy_progress(5, steps=steps)) for steps in (50, 10))
    ratio = math.exp(-5 * 0.9**2 + 5 * 0.5**2)
    assert early["consistency"].item() == pytest.approx(ratio * late["consistency"].item(), rel=1e-4)


def test_decoders_that_have_learned_find_their_own_image_in_the_features():
    method, batch = make(lr=0.1, net={"dropout": 0.0, "filters": 4}), toy_batch(dims=2, padded=False)
    run_steps(method, [toy_batch(dims=2, seed=seed) for seed in range(12)], stage=STAGE)
    found = losses(method, batch)
    assert norm(gradient_of(found["consistency"], method)) > 0.05 * norm(gradient_of(found["supervised"], method))
    decode = type(method.student).decode

    def of_another(net, features, decoder=0):
        flipped = decoder and len(features["bottleneck"]) == 4
        return decode(net, {name: x.flip(0) for name, x in features.items()} if flipped else features, decoder)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(method.student), "decode", of_another)
        assert losses(method, batch)["consistency"] > 1.5 * found["consistency"]


def test_the_main_decoder_predicts():
    method, image = make().eval(), toy_batch(dims=2).image_l
    p = method.predict(image)
    assert torch.equal(p, method.student(image).softmax(1))
    for decoder in method.student.decoders[1:]:
        torch.nn.init.zeros_(decoder.out.weight)
    assert torch.equal(p, method.predict(image))
