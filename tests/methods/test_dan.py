"""DAN: a critic of labelled and unlabelled masks, and the student that pleases it."""

import math

import pytest
import torch
from crops import all_stages, freeze, make_toy_method, run_forward, run_steps, spied, toy_batch, toy_progress
from game import Says, gradient_of, norm, stepped
from torch import nn
from torch.nn import functional as F

from semivox.ops.ramps import sigmoid_rampup

(STAGE,) = all_stages("dan")
RAMP = sigmoid_rampup(0.5)


def make(**fields):
    """Return the method in 2D, without dropout of its net and random views."""
    fields = {"geometry": "none", "intensity": "none", "critic_width": 4} | fields
    method = make_toy_method("dan", dims=2, net={"dropout": 0.0}, **fields)
    freeze(method, STAGE)
    return method.train()


def losses(method, batch=None, **place):
    return run_forward(method, batch or toy_batch(dims=2), toy_progress(**place)).losses


class Averages(nn.Module):
    """A critic whose answer is what a map's background and an image hold on average."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(3.0))

    def forward(self, p, image, valid):
        return self.scale * (p[:, :1] + image).mean((2, 3), keepdim=True)


def test_a_critic_that_is_three_quarters_sure_that_all_is_labelled_by_hand():
    method = make()
    method.critic = Says(math.log(3))
    found = losses(method)
    assert found["adversarial"].item() == pytest.approx(0.1 * RAMP * 0.287682, abs=1e-6)
    assert found["critic"].item() == pytest.approx((0.287682 + 1.386294) / 2, abs=1e-5)


@pytest.mark.parametrize(("labelled", "unlabelled"), [(1, 3), (3, 1), (2, 2)])
def test_released_targets_written_out_for_two_and_two_crops_cannot_recur(labelled, unlabelled):
    method, batch = make(), toy_batch(dims=2, labelled=labelled, unlabelled=unlabelled, padded=False)
    method.critic = Averages()
    answers = [
        3 * (method.student(image).softmax(1)[:, 0] + image[:, 0]).mean((1, 2))
        for image in (batch.image_l, batch.image_u)
    ]
    found = losses(method, batch)
    told = (F.softplus(-answers[0]).mean() + F.softplus(answers[1]).mean()) / 2
    torch.testing.assert_close(found["critic"], told)
    torch.testing.assert_close(found["adversarial"], 0.1 * RAMP * F.softplus(-answers[1]).mean())


def test_the_critic_sees_every_mask_beside_its_own_image():
    method, batch = make(), toy_batch(dims=2, padded=False)
    seen = []
    method.critic.register_forward_pre_hook(lambda critic, given: seen.append(given))
    losses(method, batch)
    assert [len(p) for p, *_ in seen] == [4, 2, 4], "pleased, then told"
    for (p, image, _), (expected, mine) in zip(seen, [("u", True), ("l", False), ("u", False)], strict=True):
        assert torch.equal(image, getattr(batch, f"image_{expected}"))
        torch.testing.assert_close(p, method.student(image).softmax(1))
        assert p.requires_grad == mine, "what the critic learns from is cut off from the student"


def test_a_step_down_its_gradient_makes_unlabelled_masks_look_like_labelled_ones():
    method, batch = make(critic_lr=1e-2), toy_batch(dims=2)
    run_steps(method, [batch] * 10, stage=STAGE)
    method.critic.eval()
    found = gradient_of(losses(method, batch)["adversarial"], method)
    answer = method.critic(method.student(batch.image_u).softmax(1), batch.image_u, batch.valid_u).mean()
    pleasing = stepped(method, found)
    pleased = pleasing.critic(pleasing.student(batch.image_u).softmax(1), batch.image_u, batch.valid_u).mean()
    assert pleased > answer
    assert norm(found) > 0


@pytest.mark.parametrize("critic", ["whole", "image", "patch"])
def test_a_critic_that_learns_tells_labelled_from_unlabelled_crops(critic):
    method, batch = make(critic=critic, critic_width=16, critic_lr=1e-2, lr=1e-9, weight_decay=0), toy_batch(dims=2)
    method.critic.eval()
    before = losses(method, batch)["critic"].item()
    run_steps(method, [batch] * 30, stage=STAGE)
    method.critic.eval()
    assert losses(method, batch)["critic"] < 0.9 * before


def test_a_critic_that_none_listens_to_does_not_learn():
    for weight, learns in ((0, False), (0.1, True)):
        method = make(weight=weight)
        before = [p.clone() for p in method.critic.parameters()]
        run_steps(method, [toy_batch(dims=2)] * 2, stage=STAGE)
        assert any(not torch.equal(*pair) for pair in zip(before, method.critic.parameters(), strict=True)) == learns


def test_the_weight_scales_what_the_student_is_told_alone_and_ramps_up():
    method, other = make(), make(weight=0.4)
    found, more = losses(method), losses(other)
    torch.testing.assert_close(more["adversarial"], 4 * found["adversarial"])
    assert torch.equal(more["critic"], found["critic"])
    assert losses(method, step=0)["adversarial"] < 0.05 * found["adversarial"]


def test_the_critic_has_its_own_optimiser_and_width():
    method = make(lr=0.02, critic_lr=1e-3, critic_width=8)
    of_student, of_critic = method.optimizers(STAGE)
    assert isinstance(of_student, torch.optim.SGD)
    assert isinstance(of_critic, torch.optim.Adam)
    group = of_critic.param_groups[0]
    assert (of_student.param_groups[0]["lr"], group["lr"], group["betas"]) == (0.02, 1e-3, (0.9, 0.99))
    ids = [{id(p) for g in o.param_groups for p in g["params"]} for o in (of_student, of_critic)]
    assert ids == [{id(p) for p in part.parameters()} for part in (method.student, method.critic)]
    assert method.critic.layers[0].out_channels == 8


def test_labelled_crops_pass_the_student_first():
    method = make()
    with spied(method.student) as seen:
        losses(method)
    assert [len(image) for image, _ in seen] == [2, 4]
