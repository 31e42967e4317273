"""Duo-SegNet: two nets, half of the labels each, and a critic; the released code's silent defects by name."""

import math

import pytest
import torch
from crops import run_steps, toy_batch
from duo import KINDS, STAGE, assert_close, losses, make
from game import Says, gradient_of, norm, stepped
from torch.nn import functional as F

from semivox.config.keys import for_method, read_config
from semivox.methods.duo_segnet import DuoSegNet
from semivox.ops.adversarial import critic_loss, one_hot
from semivox.ops.dice import dice_ce, masked_cross_entropy, masked_kl, soft_dice_loss

# The game


def take_turns(method, batches, *, late=False):
    """Train as the paper does: a step of the nets through a critic that stands still, then a step of the critic.

    Args:
        late: show the critic what the nets predict behind their step; the released script shows it what it has.
    """
    nets, critic = (method.net_1, method.net_2), method.critic
    of_nets, of_critic = method.optimizers(STAGE)
    for batch in batches:
        images, labels = ([x[half::2].contiguous() for half in (0, 1)] for x in (batch.image_l, batch.label_l))
        everywhere = torch.ones_like(batch.valid_u)
        half = everywhere[: len(labels[0])]

        x = [net(image) for net, image in zip(nets, images, strict=True)]
        p = [logits.softmax(1) for logits in x]
        supervised = [dice_ce(logits, label, half) for logits, label in zip(x, labels, strict=True)]
        fooled = [critic_loss(critic(q, None, half), half, real=True) for q in p]
        u = [net(batch.image_u) for net in nets]
        p_u = [logits.softmax(1) for logits in u]
        apart = masked_kl(p_u[1], u[0], everywhere) + masked_kl(p_u[0], u[1], everywhere)
        fooled += [critic_loss(critic(q, None, everywhere), everywhere, real=True) for q in p_u]
        of_nets.zero_grad()
        (torch.stack(supervised).sum() + 0.4 * apart + 0.2 * torch.stack(fooled).sum()).backward()
        of_nets.step()

        of_critic.zero_grad()  # of what the nets' loss has left there
        if late:
            p = [net(image).softmax(1) for net, image in zip(nets, images, strict=True)]
        told = [
            critic_loss(critic(one_hot(label, 2), None, half), half, real=True)
            + critic_loss(critic(q.detach(), None, half), half, real=False)
            for label, q in zip(labels, p, strict=True)
        ]
        torch.stack(told).sum().backward()
        of_critic.step()


@pytest.fixture
def batches(monkeypatch):
    """Five batches that the method takes as they are."""
    monkeypatch.setattr(DuoSegNet, "augment", lambda method, batch, progress: batch)
    return [toy_batch(dims=2, labelled=4, padded=False, seed=seed) for seed in range(5)]


def test_one_backward_of_the_sum_is_the_papers_alternation_to_the_last_bit(batches):
    summed, turns, late = make(), make(), make()
    run_steps(summed, batches, stage=STAGE)
    take_turns(turns, batches)
    take_turns(late, batches, late=True)
    start, found, behind = make().state_dict(), turns.state_dict(), late.state_dict()
    for name, weight in summed.state_dict().items():
        assert torch.equal(weight, found[name]), name
        assert not torch.equal(weight, start[name]), name
    # The order would be noticed: a critic that sees the nets behind their step learns something else.
    assert not torch.equal(found["critic.layers.2.weight"], behind["critic.layers.2.weight"])


@pytest.mark.parametrize("kind", KINDS)
def test_the_critics_loss_moves_the_critic_alone_and_the_nets_losses_never_do(kind):
    method = make(critic=kind)
    of_nets, of_critic = ({id(p) for g in o.param_groups for p in g["params"]} for o in method.optimizers(STAGE))
    names = {name: id(weight) for name, weight in method.named_parameters()}
    assert of_nets | of_critic == set(names.values())
    assert not of_nets & of_critic
    for term, loss in losses(method).items():
        reached = {names[name] for name in gradient_of(loss, method)}
        assert reached == (of_critic if term == "critic" else of_nets), term


def test_the_nets_learn_by_the_configured_optimiser_and_the_critic_by_its_own():
    of_nets, of_critic = make(lr=0.02, critic_lr=1e-3).optimizers(STAGE)
    assert isinstance(of_nets, torch.optim.SGD)
    assert isinstance(of_critic, torch.optim.RMSprop)
    assert (of_nets.param_groups[0]["lr"], of_critic.param_groups[0]["lr"]) == (0.02, 1e-3)


def test_the_shipped_config_of_nuclei_has_the_published_optimisers():
    shared, own = (for_method(read_config("nuclei-small"), name)["method"] for name in ("supervised", "duo_segnet"))
    assert (shared["optimizer"], shared["lr"]) == ("adamw", 0.003), "and leaves the others theirs"
    method = make(**own)
    of_nets, of_critic = (optimizer.param_groups[0] for optimizer in method.optimizers(STAGE))
    found = {key: of_nets[key] for key in ("lr", "momentum", "nesterov", "weight_decay")}
    assert found == {"lr": 0.01, "momentum": 0.9, "nesterov": False, "weight_decay": 0}
    assert method.schedule(STAGE, 0.9) == 1
    assert (of_critic["lr"], of_critic["weight_decay"], method.config.critic) == (5e-5, 0, "pixel")


# What each term says


def test_a_critic_that_is_three_quarters_sure_that_all_is_real_by_hand():
    method = make()
    method.critic = Says(math.log(3))
    found = losses(method)
    assert found["adversarial"].item() == pytest.approx(0.2 * 4 * 0.287682, abs=1e-5)
    assert found["critic"].item() == pytest.approx(2 * (0.287682 + 1.386294), abs=1e-5)


def test_the_weights_are_those_of_the_paper_and_leave_out_a_term_each():
    batch = toy_batch(dims=2, labelled=4)
    full, bare = losses(make()), losses(make(weight_agreement=1, weight_adversarial=1))
    for term, weight in (("supervised", 1), ("agreement", 0.4), ("adversarial", 0.2), ("critic", 1)):
        torch.testing.assert_close(full[term], weight * bare[term])
    for term in ("agreement", "adversarial"):
        without = losses(make(**{f"weight_{term}": 0}), batch)
        assert without.pop(term) == 0
        assert all(torch.equal(value, full[name]) for name, value in without.items())


def test_released_dice_on_detached_arrays_cannot_recur():
    """There, the gradient of the supervised loss is that of half the cross-entropy, bit for bit."""
    method, batch = make(), toy_batch(dims=2, labelled=4, padded=False)
    x = [net(batch.image_l[half::2]) for half, net in enumerate((method.net_1, method.net_2))]
    y = [batch.label_l[half::2] for half in (0, 1)]
    entropies = sum(masked_cross_entropy(*pair) for pair in zip(x, y, strict=True)) / 2
    overlaps = sum(soft_dice_loss(a.softmax(1), b) for a, b in zip(x, y, strict=True)) / 2
    found, of_dice = gradient_of(losses(method, batch)["supervised"], method), gradient_of(overlaps, method)
    assert_close(found, gradient_of(entropies + overlaps, method))
    assert norm(of_dice) > 0.1 * norm(found)


def test_released_agreement_as_a_python_number_cannot_recur():
    """By hand: the foreground's binary cross-entropy, each net towards the other, which stays."""
    method, batch = make(), toy_batch(dims=2, labelled=4, padded=False)
    p_1, p_2 = (net(batch.image_u).softmax(1)[:, 1] for net in (method.net_1, method.net_2))
    by_hand = F.binary_cross_entropy(p_1, p_2.detach()) + F.binary_cross_entropy(p_2, p_1.detach())
    agreement = losses(method, batch)["agreement"]
    found = gradient_of(agreement, method)
    assert_close(found, gradient_of(0.4 * by_hand, method))
    assert norm(found) > 0.01 * norm(gradient_of(losses(method, batch)["supervised"], method))
    for net in ("net_1", "net_2"):
        towards = stepped(method, found, only=net)
        assert losses(towards, batch)["agreement"] < agreement


def test_nets_that_are_one_agree_exactly():
    method = make()
    method.net_2.load_state_dict(method.net_1.state_dict())
    assert losses(method)["agreement"].item() == pytest.approx(0, abs=1e-6)


def test_nets_that_have_learned_agree_far_less_on_each_others_images():
    method = make(lr=0.05)
    run_steps(method, [toy_batch(dims=2, labelled=4, seed=seed) for seed in range(30)], stage=STAGE)
    before = losses(method)["agreement"]
    method.net_2.register_forward_pre_hook(lambda net, given: given[0].flip(0) if len(given[0]) == 4 else None)
    assert losses(method)["agreement"] > 3 * before


@pytest.mark.parametrize("unlabelled", [0, 4], ids=["labelled alone", "with unlabelled"])
@pytest.mark.parametrize("kind", KINDS)
def test_released_labelled_adversarial_term_detached_and_with_target_0_cannot_recur(kind, unlabelled):
    """A small step down its gradient makes the nets' predictions look more like labels, the labelled ones too."""
    method, batch = make(critic=kind), toy_batch(dims=2, labelled=4, unlabelled=unlabelled, padded=False)
    adversarial = losses(method, batch)["adversarial"]
    found = gradient_of(adversarial, method)
    assert all(norm({key: g for key, g in found.items() if key.startswith(net)}) > 0 for net in ("net_1", "net_2"))
    pleasing = stepped(method, found)
    assert losses(pleasing, batch)["adversarial"] < adversarial
    if not unlabelled:
        assert realness(pleasing, batch) > realness(method, batch)


def test_a_critic_that_learns_tells_labels_from_predictions():
    method, batch = make(critic_lr=1e-3, lr=1e-9, weight_decay=0), toy_batch(dims=2, labelled=4)
    before = losses(method, batch)["critic"]
    run_steps(method, [batch] * 20, stage=STAGE)
    assert losses(method, batch)["critic"] < 0.9 * before
    assert losses(method, batch)["adversarial"] > losses(make(), batch)["adversarial"]


def realness(method, batch):
    """Return how real the critic finds the predictions of each net on its labelled crops."""
    p = [net(batch.image_l[half::2]).softmax(1) for half, net in enumerate((method.net_1, method.net_2))]
    images, valid = (torch.cat([x[0::2], x[1::2]]) for x in (batch.image_l, batch.valid_l))
    return F.logsigmoid(method.critic(torch.cat(p), images, valid)).mean()
