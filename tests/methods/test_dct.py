"""Deep co-training: what fools a net, who is told what of it, and how far apart two nets are."""

import math

import pytest
import torch
from crops import all_stages, make_toy_method, run_forward, run_steps, spied, toy_batch, toy_progress
from duo import assert_close
from game import gradient_of
from torch import nn

from semivox.ops.dice import masked_cross_entropy, masked_js

(STAGE,) = all_stages("dct")
PLAIN = {"geometry": "none", "intensity": "none", "net": {"dropout": 0.0}}


def make(*, dims=2, **fields):
    return make_toy_method("dct", dims=dims, **PLAIN | fields).train()


def losses(method, batch=None, progress=None):
    return run_forward(method, batch or toy_batch(dims=2), progress or toy_progress()).losses


class Slope(nn.Module):
    """A net that finds the foreground with odds exp(slope * image)."""

    def __init__(self, slope):
        super().__init__()
        self.slope = nn.Parameter(torch.tensor(slope))

    def forward(self, image):
        return torch.cat([image * 0, image * self.slope], 1)


def divergence(p, q):
    """Return KL(p || q) of two foreground probabilities."""
    return p * math.log(p / q) + (1 - p) * math.log((1 - p) / (1 - q))


def sigmoid(x):
    return 1 / (1 + math.exp(-x))


def test_two_nets_of_one_number_each_by_hand():
    """All labelled voxels are .3 and foreground, all unlabelled ones -.3: to odds of exp(.3) and exp(.6).

    A net is fooled by .2 in labelled and -.2 in unlabelled voxels, a step of .1 towards the other class.
    """
    method, batch = make(weight_agreement=1, weight_diversity=1), toy_batch(dims=2, padded=False)
    method.net_1, method.net_2 = Slope(1.0), Slope(2.0)
    batch.image_l, batch.label_l = torch.full_like(batch.image_l, 0.3), torch.ones_like(batch.label_l)
    batch.image_u = torch.full_like(batch.image_u, -0.3)
    with spied(method.net_1) as first, spied(method.net_2) as second:
        found = losses(method, batch)
    for calls in (first, second):
        assert [round(image.unique().item(), 6) for image, _ in calls] == [0.3, 0.2, -0.3, -0.2]
    each = divergence(sigmoid(0.3), sigmoid(0.4)) + divergence(sigmoid(0.6), sigmoid(0.2))
    assert found["diversity"].item() == pytest.approx(each, rel=1e-4)  # by symmetry of both kinds of crops alike
    mean = (sigmoid(-0.3) + sigmoid(-0.6)) / 2
    apart = (divergence(sigmoid(-0.3), mean) + divergence(sigmoid(-0.6), mean)) / 2
    assert found["agreement"].item() == pytest.approx(apart, rel=1e-4)


def test_without_unlabelled_crops_the_labelled_ones_keep_the_nets_apart():
    method, batch = make(weight_diversity=1), toy_batch(dims=2, padded=False, unlabelled=0)
    method.net_1, method.net_2 = Slope(1.0), Slope(2.0)
    batch.image_l, batch.label_l = torch.full_like(batch.image_l, 0.3), torch.ones_like(batch.label_l)
    found = losses(method, batch)
    each = divergence(sigmoid(0.3), sigmoid(0.4)) + divergence(sigmoid(0.6), sigmoid(0.2))
    assert found.keys() == {"supervised", "diversity"}
    assert found["diversity"].item() == pytest.approx(each, rel=1e-4)


def test_labelled_crops_fool_a_net_about_their_label_and_unlabelled_ones_about_what_it_finds():
    method, batch = make(epsilon=0.25), toy_batch(dims=2, padded=False)
    method.net_1 = Slope(1.0)
    with spied(method.net_2) as calls:
        losses(method, batch)
    image_l, fooling_l, image_u, fooling_u = (image for image, _ in calls)
    away_l = torch.where(batch.label_l == 1, -0.25, 0.25)[:, None]
    away_u = torch.where(image_u > 0, -0.25, 0.25)
    torch.testing.assert_close(fooling_l - image_l, away_l)
    torch.testing.assert_close(fooling_u - image_u, away_u)


def test_padding_stays_and_a_step_of_zero_leaves_the_crop_as_it_is():
    batch = toy_batch(dims=2)
    with spied((method := make()).net_1) as calls:
        losses(method, batch)
    assert all((image[:, :, :2] == 0).all() for image, _ in calls)
    with spied((method := make(epsilon=0)).net_1) as calls:
        losses(method, batch)
    assert torch.equal(calls[1][0], batch.image_l)
    assert torch.equal(calls[3][0], batch.image_u)


def test_each_net_moves_to_the_others_fixed_prediction_alone():
    method, batch = make(), toy_batch(dims=2, padded=False)
    with spied(method.net_1) as first, spied(method.net_2) as second:
        found = losses(method, batch)
    told = 0
    for mine, other in ((first, second), (second, first)):
        for crop in (0, 2):
            p, x = other[crop][1].softmax(1).detach(), mine[crop + 1][1]
            told = told - (p * x.log_softmax(1)).sum(1).mean() / 2  # the cross-entropy, as published
    assert_close(gradient_of(found["diversity"], method), gradient_of(0.5 * told, method))


def test_what_fools_a_net_that_has_learned_fools_it_more_than_noise_of_its_size():
    method, batch = make(lr=0.05), toy_batch(dims=2, padded=False)
    run_steps(method, [toy_batch(dims=2, seed=seed) for seed in range(10)], stage=STAGE)
    with spied(method.net_2) as calls:
        agreement = losses(method, batch)["agreement"]
    image, fooling = calls[0][0], calls[1][0]
    noise = image + 0.1 * torch.randn(image.shape, generator=torch.Generator().manual_seed(0)).sign()
    plain, noisy, fooled = (masked_cross_entropy(method.net_1(x), batch.label_l) for x in (image, noise, fooling))
    assert fooled - plain > 3 * (noisy - plain).abs()
    x_1, x_2 = method.net_1(batch.image_u), method.net_2(batch.image_u.flip(0))
    assert masked_js(x_1, x_2, batch.valid_u) * 10 > 1.5 * agreement  # images, not their like, are agreed on


def test_the_weights_leave_out_a_term_each_and_rise_along_the_first_part_of_the_run():
    full, bare = losses(make()), losses(make(weight_agreement=1, weight_diversity=1))
    for term, weight in (("agreement", 10), ("diversity", 0.5)):
        torch.testing.assert_close(full[term], weight * bare[term])
        without = losses(make(**{f"weight_{term}": 0}))
        assert without.pop(term) == 0
        assert all(torch.equal(value, full[name]) for name, value in without.items())
    start, early, late = (losses(make(), progress=toy_progress(at, steps=60)) for at in (0, 4, 8))
    for term in ("agreement", "diversity"):
        assert start[term].item() == pytest.approx(late[term].item() * math.exp(-5), rel=1e-4)
        assert early[term].item() == pytest.approx(late[term].item() * math.exp(-5 / 4), rel=1e-4)
        assert late[term] == full[term]


def test_the_callers_crops_ask_for_no_gradient():
    batch = toy_batch(dims=2)
    losses(make(), batch)
    assert not batch.image_l.requires_grad
    assert not batch.image_u.requires_grad


def test_the_mean_of_both_nets_predicts():
    method, image = make().eval(), toy_batch(dims=2).image_l
    mean = (method.net_1(image).softmax(1) + method.net_2(image).softmax(1)) / 2
    torch.testing.assert_close(method.predict(image), mean)
    assert not torch.equal(method.net_1(image), method.net_2(image))
