"""CPS: whose labels teach whom, what they are worth, and CutMix."""

import copy
import math

import pytest
import torch
from crops import all_stages, make_toy_method, run_forward, run_steps, spied, toy_batch, toy_progress
from game import gradient_of, norm
from torch import nn

from semivox.ops.mixing import partner

(STAGE,) = all_stages("cps")
PLAIN = {"geometry": "none", "intensity": "none", "net": {"dropout": 0.0}}


def make(*, dims=2, **fields):
    return make_toy_method("cps", dims=dims, **PLAIN | fields).train()


def step(method, batch=None, progress=None):
    return run_forward(method, batch or toy_batch(dims=2), progress or toy_progress())


class Says(nn.Module):
    """A net that gives every voxel the same logits."""

    def __init__(self, *logits):
        super().__init__()
        self.logits = nn.Parameter(torch.tensor(logits))

    def forward(self, image):
        return image[:, :1] * 0 + self.logits.reshape(1, -1, *[1] * (image.ndim - 2))


def test_two_nets_that_are_three_to_one_for_opposite_classes_by_hand():
    """Each is told the class to which it gives 1/4: twice ln 4; one that agrees is told what it gives 3/4: ln 4/3."""
    method, progress = make(weight=1), toy_progress(9)
    ramp = math.exp(-5 * 0.1**2)
    method.net_1, method.net_2 = Says(0.0, math.log(3)), Says(math.log(3), 0.0)
    found = step(method, progress=progress)
    assert found.losses["cross"].item() == pytest.approx(ramp * 2 * math.log(4), rel=1e-5)
    assert found.shown["apart"] == 1
    method.net_2 = Says(0.0, math.log(3))
    found = step(method, progress=progress)
    assert found.losses["cross"].item() == pytest.approx(ramp * 2 * math.log(4 / 3), rel=1e-5)
    assert found.shown["apart"] == 0


def test_the_weight_and_its_ramp():
    assert step(make(weight=0.5)).losses["cross"].item() == pytest.approx(5 * step(make()).losses["cross"].item())
    early, late = (step(make(), progress=toy_progress(at)).losses["cross"].item() for at in (0, 9))
    assert early == pytest.approx(late * math.exp(-5 + 5 * 0.1**2))


def test_both_nets_learn_from_all_labelled_crops_and_differ():
    method, batch = make(), toy_batch(dims=2)
    assert not torch.equal(method.net_1(batch.image_l), method.net_2(batch.image_l))
    with spied(method.net_1) as first, spied(method.net_2) as second:
        step(method, batch)
    for calls in (first, second):
        assert torch.equal(calls[0][0], batch.image_l)


def test_no_gradient_flows_through_labels():
    """Net 1's part moves it alone; labels are classes, so a net that is surer of them teaches the same."""
    method = make()
    method.net_1 = Says(0.3, 0.7)
    found = gradient_of(step(method).losses["cross"], method)
    method.net_1 = Says(3.0, 7.0)
    surer = gradient_of(step(method).losses["cross"], method)
    others = [name for name in found if name.startswith("net_2")]
    assert others
    assert all(torch.equal(found[name], surer[name]) for name in others)
    assert not torch.equal(found["net_1.logits"], surer["net_1.logits"])


def test_nets_that_have_learned_agree_less_on_each_others_images():
    method, batch = make(lr=0.05), toy_batch(dims=2, padded=False)
    run_steps(method, [toy_batch(dims=2, seed=seed) for seed in range(15)], stage=STAGE)
    losses = step(method, batch).losses
    assert norm(gradient_of(losses["cross"], method)) > 0.01 * norm(gradient_of(losses["supervised"], method))
    method.net_2.register_forward_pre_hook(lambda net, given: given[0].flip(0) if len(given[0]) == 4 else None)
    assert step(method, batch).losses["cross"] > 1.2 * losses["cross"]


@pytest.mark.parametrize("view", ["clean", "paper"])
def test_nets_label_the_clean_crop_and_learn_on_the_shaded_one_or_both_on_one_as_published(view):
    method, batch = make(intensity="strong", teacher_view=view), toy_batch(dims=2)
    with spied(method.net_2) as calls:
        step(method, batch)
    (labelled, found), (seen, learned) = calls[1:]
    assert not found.requires_grad
    assert learned.requires_grad
    assert torch.equal(labelled, batch.image_u) == (view == "clean")
    assert torch.equal(labelled, seen) == (view == "paper")


@pytest.mark.parametrize("dims", [2, 3])
def test_cutmix_pastes_a_box_of_the_next_crop_with_the_labels_it_was_given(dims):
    method, batch = make(dims=dims, cutmix=1), toy_batch(dims=dims, padded=False)
    with spied(method.net_1) as calls, spied(method.net_2) as others:
        loss = step(method, batch).losses["cross"]
    (_, (whole, _), (mixed, x_1)), ((_, q_2), (_, x_2)) = calls, others[1:]
    assert torch.equal(whole, batch.image_u)
    box = (mixed != batch.image_u).any(1)
    assert torch.equal(mixed, torch.where(box[:, None], partner(batch.image_u), batch.image_u))
    assert 0.35 < box.float().mean() < 0.65
    q_1, q_2 = (torch.where(box, partner(q), q) for q in (calls[1][1].argmax(1), q_2.argmax(1)))
    told = [-x.log_softmax(1).gather(1, q[:, None]).mean() for x, q in ((x_1, q_2), (x_2, q_1))]
    torch.testing.assert_close(loss, 0.1 * math.exp(-5 * 0.5**2) * sum(told))


def test_without_cutmix_crops_stay_whole_and_a_share_of_it_mixes_some():
    whole = seen(cutmix=0)
    assert torch.equal(whole, toy_batch(dims=2).image_u)
    changed = (seen(cutmix=0.5) != whole).flatten(1).any(1)
    assert 0 < changed.sum() < len(changed)


def seen(**fields):
    method = make(**fields)
    with spied(method.net_1) as calls:
        step(method)
    return calls[2][0]


def test_a_box_takes_no_padding_along():
    """The next crop is padding in half of it; what is pasted there would be taught as a class."""
    method, batch = make(cutmix=1), toy_batch(dims=2, padded=False)
    batch.valid_u[1, 4:] = False
    batch.image_u[1, :, 4:] = 0
    with spied(method.net_1) as calls:
        step(method, batch)
    assert torch.equal(calls[2][0][0, :, 4:], batch.image_u[0, :, 4:])


def test_the_first_net_predicts():
    method, image = make().eval(), toy_batch(dims=2).image_l
    other = copy.deepcopy(method)
    other.net_2 = Says(0.0, 9.0)
    assert torch.equal(method.predict(image), other.predict(image))
    assert torch.equal(method.predict(image), method.net_1(image).softmax(1))
