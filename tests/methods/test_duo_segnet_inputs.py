"""Duo-SegNet: which crops reach which net, and what each kind of critic sees."""

import copy

import pytest
import torch
from crops import first_half, gradients, make_toy_method, spied, toy_batch, toy_progress
from duo import KINDS, losses, make
from game import gradient_of, norm

from semivox.errors import ConfigError
from semivox.ops.adversarial import one_hot

# Who sees what


@pytest.mark.parametrize("labelled", [1, 2, 3, 4])
def test_each_net_learns_from_the_labels_of_its_half_alone(labelled):
    """Of an odd batch one net gets a crop more; the other's surplus place holds nothing that is valid."""
    for group in (0, 1):
        method, batch = make(), toy_batch(dims=2, labelled=labelled)
        batch.group_l = 1 - batch.group_l if labelled == 3 else batch.group_l
        other = copy.deepcopy(batch)
        other.label_l = torch.where((batch.group_l == group)[:, None, None], batch.label_l, 1 - batch.label_l)
        first, second = (gradient_of(losses(method, b)["supervised"], method) for b in (batch, other))
        own, theirs = f"net_{group + 1}", f"net_{2 - group}"
        assert all(torch.equal(first[key], second[key]) for key in first if key.startswith(own))
        has_labels = {0: labelled > 0, 1: labelled > 1}
        assert any(g.abs().sum() > 0 for key, g in first.items() if key.startswith(own)) == has_labels[group]
        changed = any(not torch.equal(first[key], second[key]) for key in first if key.startswith(theirs))
        assert changed == has_labels[1 - group]


@pytest.mark.parametrize("cutmix", [0.0, 1.0])
def test_no_net_and_no_mixed_crop_sees_a_labelled_image_of_the_other_half(cutmix):
    method, batch = make(cutmix_labelled=cutmix), toy_batch(dims=2, labelled=4, padded=False)
    of_half = (batch.group_l + 1).float()[:, None, None, None]
    batch.image_l = of_half.expand_as(batch.image_l).clone()
    with spied(method.net_1) as first, spied(method.net_2) as second:
        losses(method, batch)
    for calls, value in ((first, 1), (second, 2)):
        assert [len(image) for image, _ in calls] == [2, 4], "labelled first"
        assert (calls[0][0] == value).all()
        assert torch.equal(calls[1][0], batch.image_u)


def test_both_halves_are_augmented_as_supervised_augments_its_crops():
    method, batch = make_toy_method("duo_segnet", dims=2), toy_batch(dims=2, labelled=4)
    with spied(method.net_1) as seen:
        losses(method, batch)
    assert torch.equal(seen[0][0], method.augment(first_half(batch), toy_progress()).image_l)


def test_a_batch_that_knows_no_halves_is_refused():
    batch = toy_batch(dims=2)
    batch.group_l = None
    with pytest.raises(ConfigError, match="does not say of which half"):
        losses(make(), batch)


def test_the_mean_of_both_nets_predicts_or_one_of_them():
    image = toy_batch(dims=2).image_l
    nets = {name: make(predictor=name).eval().predict(image) for name in ("net_1", "net_2", "mean")}
    assert torch.equal(nets["net_2"], make().eval().net_2(image).softmax(1))
    assert not torch.equal(nets["net_1"], nets["net_2"])
    torch.testing.assert_close(nets["mean"], (nets["net_1"] + nets["net_2"]) / 2)


# The critics of one's choice, in 2D and 3D


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_every_critic_plays_with_any_number_of_classes_and_sees_nothing_that_is_not_valid(kind, dims, classes):
    method = make(critic=kind, dims=dims, classes=classes)
    batch = toy_batch(dims=dims, labelled=4, classes=classes, seed=9)
    found = losses(method, batch)
    for term, loss in found.items():
        assert loss.isfinite(), term
        assert norm(gradient_of(loss, method)) > 0, term
    other = copy.deepcopy(batch)
    other.label_l = other.label_l.where(batch.valid_l, 1)
    assert not torch.equal(other.label_l, batch.label_l)
    assert all(torch.equal(loss, found[term]) for term, loss in losses(method, other).items())


@pytest.mark.parametrize("kind", KINDS)
def test_a_half_without_a_valid_voxel_costs_nothing(kind):
    method, batch = make(critic=kind), toy_batch(dims=2, labelled=2)
    batch.valid_l[1] = False
    found = losses(method, batch)
    sum(found.values()).backward()
    assert all(g.isfinite().all() for g in gradients(method).values())
    alone = gradient_of(losses(method, batch)["supervised"], method)
    assert norm({key: g for key, g in alone.items() if key.startswith("net_2")}) == 0


def test_an_image_critic_notices_that_images_are_exchanged():
    for kind in KINDS:
        method, batch = make(critic=kind), toy_batch(dims=2, labelled=4, padded=False)
        y, valid = one_hot(batch.label_l, 2), batch.valid_l
        says = [method.critic(y, image, valid) for image in (batch.image_l, batch.image_l.flip(0))]
        assert torch.equal(*says) == (kind != "image")
