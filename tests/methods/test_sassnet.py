"""SASSNet: a mask, a distance map, and a critic of the map."""

import math

import pytest
import torch
from crops import all_stages, freeze, make_toy_method, run_forward, run_steps, toy_batch, toy_progress
from game import Says, gradient_of, stepped

from semivox.ops.ramps import sigmoid_rampup

(STAGE,) = all_stages("sassnet")
RAMP = sigmoid_rampup(0.5)


def make(*, classes=2, **fields):
    """Return the method in 2D, without dropout of its net and random views."""
    fields = {"geometry": "none", "intensity": "none", "critic_width": 4} | fields
    method = make_toy_method("sassnet", dims=2, net={"dropout": 0.0, "classes": classes}, **fields)
    freeze(method, STAGE)
    return method.train()


def losses(method, batch=None, **place):
    classes = method.student.classes
    return run_forward(method, batch or toy_batch(dims=2, classes=classes), toy_progress(**place)).losses


def test_a_critic_that_is_three_quarters_sure_that_all_is_labelled_by_hand():
    method = make()
    method.critic = Says(math.log(3))
    found = losses(method)
    assert found["adversarial"].item() == pytest.approx(0.01 * RAMP * 0.287682, abs=1e-7)
    assert found["critic"].item() == pytest.approx((0.287682 + 1.386294) / 2, abs=1e-5)


def test_the_error_of_a_map_that_is_a_half_everywhere_by_hand():
    method, batch = make(), toy_batch(dims=2)
    torch.nn.init.zeros_(method.head_sdm.weight)
    torch.nn.init.constant_(method.head_sdm.bias, math.atanh(0.5))
    batch.label_l = torch.zeros_like(batch.label_l)
    batch.targets_l = {"distances": torch.zeros_like(batch.targets_l["distances"])}
    assert losses(method, batch)["sdm"].item() == pytest.approx(0.3 * 0.25)  # 1 where there is no foreground


@pytest.mark.parametrize("empty", [0, 1])
def test_a_crop_without_foreground_lies_outside_or_as_released_on_the_boundary(empty):
    method, batch = make(sdm_empty=empty), toy_batch(dims=2)
    torch.nn.init.zeros_(method.head_sdm.weight)
    torch.nn.init.zeros_(method.head_sdm.bias)
    batch.label_l = torch.zeros_like(batch.label_l)
    batch.targets_l = {"distances": torch.zeros_like(batch.targets_l["distances"])}
    assert losses(method, batch)["sdm"].item() == pytest.approx(0.3 * empty)


def test_the_critic_sees_the_maps_of_all_classes_beside_their_images_and_no_mask():
    method, batch = make(classes=3), toy_batch(dims=2, classes=3, padded=False)
    seen = []
    method.critic.register_forward_pre_hook(lambda critic, given: seen.append(given))
    losses(method, batch)
    assert [len(s) for s, *_ in seen] == [4, 2, 4], "pleased, then told"
    for (s, image, _), (of, mine) in zip(seen, [("u", True), ("l", False), ("u", False)], strict=True):
        assert torch.equal(image, getattr(batch, f"image_{of}"))
        torch.testing.assert_close(s, method._heads(image)[1])
        assert s.shape[1] == 2
        assert s.requires_grad == mine, "what the critic learns from is cut off from the student"


def test_a_step_down_its_gradient_makes_unlabelled_maps_look_like_labelled_ones():
    method, batch = make(critic_lr=1e-2), toy_batch(dims=2)
    run_steps(method, [batch] * 10, stage=STAGE)
    method.critic.eval()
    pleasing = stepped(method, gradient_of(losses(method, batch)["adversarial"], method))
    answers = [m.critic(m._heads(batch.image_u)[1], batch.image_u, batch.valid_u).mean() for m in (method, pleasing)]
    assert answers[1] > answers[0]


def test_weights_scale_their_terms_and_a_critic_that_none_listens_to_does_not_learn():
    found, more = losses(make()), losses(make(weight_sdm=0.6, weight_adversarial=0.03))
    torch.testing.assert_close(more["sdm"], 2 * found["sdm"])
    torch.testing.assert_close(more["adversarial"], 3 * found["adversarial"])
    assert torch.equal(more["critic"], found["critic"])
    assert losses(make(weight_adversarial=0))["critic"] == 0


def test_the_net_and_its_head_learn_by_one_optimiser_and_the_critic_by_its_own():
    method = make(lr=0.02, critic_lr=1e-3, critic="image")
    of_net, of_critic = method.optimizers(STAGE)
    ids = [{id(p) for g in o.param_groups for p in g["params"]} for o in (of_net, of_critic)]
    net = [*method.student.parameters(), *method.head_sdm.parameters()]
    assert ids == [{id(p) for p in part} for part in (net, method.critic.parameters())]
    group = of_critic.param_groups[0]
    assert (of_net.param_groups[0]["lr"], group["lr"], group["betas"]) == (0.02, 1e-3, (0.9, 0.99))
    assert isinstance(of_critic, torch.optim.Adam)
    assert not method.critic.whole


def test_the_mask_predicts_whatever_the_distances():
    method, image = make(), toy_batch(dims=2).image_l
    before = method.predict(image)
    torch.nn.init.zeros_(method.head_sdm.weight)
    assert torch.equal(method.predict(image), before)
