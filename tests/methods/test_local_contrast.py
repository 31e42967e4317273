"""Local contrast: what each stage is shown, its loss pixel by pixel, which labels it reads, the released defects."""

import copy
import itertools
import math
from dataclasses import replace

import pytest
import torch
from crops import (
    all_stages,
    freeze,
    gradients,
    make_toy_method,
    run_forward,
    run_steps,
    spied,
    stage_batch,
    toy_batch,
    toy_progress,
)
from torch.nn import functional as F

from semivox.config.keys import Config as RunConfig
from semivox.errors import ConfigError
from semivox.methods.local_contrast import Config
from semivox.ops.contrast import standardised
from semivox.runs.building import make_method_config
from semivox.training.assembly import resolve_stages

PRETRAIN, LOCAL, FINETUNE = all_stages("local_contrast")
PLAIN = {"geometry": "none", "intensity": "none"}
OPTIMISATION = {"weight_decay": 0.0, "schedule": "constant", "lr": 0.01, "momentum": 0.9}
REDUCTIONS = {
    "downsample": {"reduce": "downsample"},
    "all": {"reduce": "downsample", "stride": 1},
    "block": {"reduce": "block"},
    "small blocks": {"reduce": "block", "block": 5},
    **{scheme: {"reduce": "sample", "sampler": scheme, "count": 20} for scheme in ("naive", "sg", "sag")},
}
in_2d_and_3d = pytest.mark.parametrize("dims", [2, 3])
every_reduction = pytest.mark.parametrize("fields", REDUCTIONS.values(), ids=REDUCTIONS)


def make(stage, *, dims=2, net=None, **fields):
    method = make_toy_method("local_contrast", dims=dims, net={"dropout": 0.0} | (net or {}), **fields)
    freeze(method, stage)
    return method.train()


def one_step(method, stage, batch, step=5):
    """Return the loss and the gradients of one step from where `method` stands, which stays as it was."""
    method = copy.deepcopy(method)
    ((_, loss),) = run_forward(method, batch, toy_progress(step, stage=stage.name)).losses.items()
    loss.backward()
    return loss.item(), gradients(method)


# The contrast of pixels


def plain_double_loop(z, label, valid, groups, tau):
    """Return the loss of embeddings (M, *spatial, D): over anchors, then over their positives, in each group."""
    losses = []
    for group in groups:
        pixels = [pixel for pixel in group if valid[pixel]]
        classes = [int(label[pixel]) for pixel in pixels]
        rows = torch.stack([z[pixel] for pixel in pixels])
        likeness, terms = (rows @ rows.T / tau).tolist(), []
        for a, of in enumerate(classes):
            others = [n for n in range(len(pixels)) if n != a]
            positives = [n for n in others if classes[n] == of]
            if of > 0:
                total = math.log(sum(math.exp(likeness[a][n]) for n in others))
                terms.append(-sum(likeness[a][p] - total for p in positives) / len(positives))
        losses += [sum(terms) / len(terms)] if terms else []
    return sum(losses) / len(losses)


def groups_of(reduce, maps, size):
    """Return the pixels (map, *place) of each group: the middle one of each cell of 4, or each block of 4 or 8."""
    if reduce == "downsample":
        return [list(itertools.product(range(maps), *(range(2, length, 4) for length in size)))]
    side = 8 if len(size) == 2 else 4
    corners = itertools.product(*(range(0, length, side) for length in size))
    return [list(itertools.product(range(maps), *(range(c, c + side) for c in corner))) for corner in corners]


@in_2d_and_3d
@pytest.mark.parametrize("reduce", ["downsample", "block"])
def test_the_loss_of_both_reductions_is_a_plain_double_loop_over_the_pixels_of_both_views(reduce, dims):
    block = 8 if dims == 2 else 4
    method = make(LOCAL, dims=dims, net={"classes": 3}, reduce=reduce, block=block, **PLAIN)
    batch = toy_batch(dims=dims, labelled=4 - dims, unlabelled=0, classes=3)
    with spied(method.student.encoder) as calls:
        terms = run_forward(method, batch, toy_progress(stage="local"))
    with torch.no_grad():
        features = method.student.decode(method.student.encode(calls[0][0])).features[-1]
        z = F.normalize(method.head_local(features.movedim(1, -1)).double(), dim=-1)
    label, valid = torch.cat([batch.label_l] * 2), torch.cat([batch.valid_l] * 2)
    expected = plain_double_loop(z, label, valid, groups_of(reduce, len(label), label.shape[1:]), 0.1)
    assert terms.losses["local"].item() == pytest.approx(expected, rel=1e-5)


@in_2d_and_3d
def test_both_views_of_pixels_have_one_geometry_and_other_intensities(dims):
    method, batch = make(LOCAL, dims=dims, **PLAIN), toy_batch(dims=dims, unlabelled=0)
    with spied(method.student.encoder) as calls:
        run_forward(method, batch, toy_progress(stage="local"))
    first, second = calls[0][0].chunk(2)
    assert len(calls) == 1
    assert not torch.equal(first, second)
    for view in (first, second):
        pairs = zip(view, batch.image_l, strict=True)
        assert all(torch.corrcoef(torch.stack([x.flatten(), y.flatten()]))[0, 1] > 0.5 for x, y in pairs)
        assert not view[:, :, :2].any()  # padding stays where it was


@in_2d_and_3d
@pytest.mark.parametrize("scheme", ["naive", "sg", "sag"])
def test_sampled_pixels_are_of_all_classes_at_one_place_in_both_views_and_each_counts_once(scheme, dims):
    method = make(LOCAL, dims=dims, net={"classes": 4}, reduce="sample", sampler=scheme, count=30)
    batch = toy_batch(dims=dims, classes=3)  # no pixel of class 3
    batch.label_l[:, -1, -1] = 2
    batch.label_l[batch.label_l == 2] *= batch.label_l[batch.label_l == 2].cumsum(0) <= 6  # three pixels of class 2
    place = torch.arange(batch.label_l.numel()).reshape(2, 1, *batch.label_l.shape[1:])
    pixels, label, valid = method._reduced(
        torch.cat([place, -place]), batch.label_l, batch.valid_l, torch.Generator().manual_seed(0)
    )
    assert pixels.shape == (1, 2 * 4 * 30, 1)
    first, second = pixels[0, :, 0].chunk(2)
    assert torch.equal(first, -second)
    for half in (slice(120), slice(120, None)):
        kept = pixels[0, half, 0].abs()[valid[0, half]]
        assert len(kept.unique()) == len(kept)
        assert torch.equal(batch.label_l.flatten()[kept], label[0, half][valid[0, half]])
        assert batch.valid_l.flatten()[kept].all()
        counts = label[0, half][valid[0, half]].bincount(minlength=4).tolist()
        assert counts[2] <= 3 < 10 < min(counts[:2])
        assert counts[3] == 0


@in_2d_and_3d
@every_reduction
def test_every_reduction_moves_all_that_learns_and_padding_and_unseen_images_change_nothing(fields, dims):
    method, batch = make(LOCAL, dims=dims, **fields), toy_batch(dims=dims, unlabelled=0)
    loss, found = one_step(method, LOCAL, batch)
    assert loss > 0
    assert found.keys() == {key for key, weight in method.named_parameters() if weight.requires_grad}  # or DDP raises
    for part in ("student.encoder", "student.decoders", "head_local"):
        assert any(g.any() for key, g in found.items() if key.startswith(part)), part
    padded = copy.copy(batch)
    padded.label_l = batch.label_l.where(batch.valid_l, 1)
    assert one_step(method, LOCAL, padded)[0] == loss
    batch.valid_l[1] = False
    other = copy.deepcopy(batch)
    other.image_l[1], other.label_l[1] = other.image_l[1].flip(-1) * 3 + 1, 1 - other.label_l[1]
    assert one_step(method, LOCAL, other)[0] == pytest.approx(one_step(method, LOCAL, batch)[0], rel=1e-5)


# The contrast of images


@in_2d_and_3d
def test_all_images_are_told_apart_in_two_views_that_differ_in_geometry_and_intensity(dims):
    method, batch = make(PRETRAIN, dims=dims, **PLAIN), toy_batch(dims=dims)
    with spied(method.student.encoder) as calls, spied(method.head_global) as heads:
        terms = run_forward(method, batch, toy_progress(stage="pretrain"))
    (first, _), (second, _) = calls
    assert len(first) == len(second) == 2 + 4
    assert all(not torch.equal(x, y) for x, y in zip(first, second, strict=True))
    z = F.normalize(heads[0][1].detach().double(), dim=1)
    likeness = (z @ z.T / 0.5).exp()
    total = likeness.sum(1) - likeness.diagonal()
    assert terms.losses["global"].item() == pytest.approx((total / likeness.diagonal(6).repeat(2)).log().mean().item())


def test_what_is_nearly_the_same_in_all_images_is_taken_off_before_they_are_compared():
    """Behind an instance norm all images' mean features point one way, and the contrast would learn nothing."""
    method, batch = make(PRETRAIN), toy_batch(dims=2, labelled=4)
    with spied(method.head_global) as heads:
        run_forward(method, batch, toy_progress(stage="pretrain"))
    given = heads[0][0]
    expected = standardised(given, torch.ones(len(given), dtype=torch.bool))
    torch.testing.assert_close(given, expected, rtol=1e-3, atol=1e-3)
    assert given.var(0).max() > 0.9


def test_one_crop_a_step_is_refused():
    with pytest.raises(ConfigError, match=r"stages\.pretrain\.batch_labelled"):
        run_forward(make(PRETRAIN), toy_batch(dims=2, labelled=1, unlabelled=0), toy_progress(stage="pretrain"))


# Which labels are read


@in_2d_and_3d
def test_the_first_stage_reads_no_label_at_all(dims):
    method, batch = make(PRETRAIN, dims=dims), toy_batch(dims=dims)
    poisoned = copy.copy(batch)
    poisoned.label_l, poisoned.label_u = torch.full_like(batch.label_l, 999), torch.full_like(batch.label_l, -7)
    (loss, found), (other, same) = one_step(method, PRETRAIN, batch), one_step(method, PRETRAIN, poisoned)
    assert loss == other
    assert all(torch.equal(g, same[key]) for key, g in found.items())


@in_2d_and_3d
@every_reduction
def test_the_leak_of_train_sample_1_is_mended_the_second_stage_reads_labels_of_labelled_images_alone(fields, dims):
    """Released, it draws the images of validation and test patients, too, with their labels."""
    method, batch = make(LOCAL, dims=dims, **fields), toy_batch(dims=dims)
    poisoned = copy.copy(batch)
    poisoned.image_u, poisoned.label_u = torch.full_like(batch.image_u, torch.nan), batch.valid_u.long() * 999
    (loss, found), (other, same) = one_step(method, LOCAL, batch), one_step(method, LOCAL, poisoned)
    assert loss == other
    assert all(torch.equal(g, same[key]) for key, g in found.items())
    poisoned.label_l = torch.where(batch.valid_l, 1 - batch.label_l, 0)
    assert one_step(method, LOCAL, poisoned)[0] != loss


# What the released code leaves untrained


@pytest.mark.parametrize(("stage", "head"), [(PRETRAIN, "head_global"), (LOCAL, "head_local")])
def test_the_bug_that_the_projection_head_is_never_optimised_is_mended(stage, head):
    method = make(stage)
    before = copy.deepcopy(method.state_dict())
    held = {
        id(p) for optimizer in method.optimizers(stage) for group in optimizer.param_groups for p in group["params"]
    }
    assert {id(p) for p in method.get_submodule(head).parameters()} <= held
    run_steps(method, [stage_batch(stage, dims=2)], stage=stage)
    for key, weight in method.get_submodule(head).named_parameters():
        assert not torch.equal(weight, before[f"{head}.{key}"]), key


@in_2d_and_3d
def test_with_the_default_optimiser_images_are_learned_to_be_told_apart(dims):
    """From chance, log of the other rows, which the loss begins at; in views that were not trained on."""
    method, batch, chance = make(PRETRAIN, dims=dims), toy_batch(dims=dims, labelled=4), math.log(15)
    before = one_step(method, PRETRAIN, batch, step=100)[0]
    run_steps(method, [batch] * 40, stage=PRETRAIN)
    assert before == pytest.approx(chance, abs=0.3)
    assert one_step(method, PRETRAIN, batch, step=100)[0] < chance - 0.4


@every_reduction
def test_with_the_default_optimiser_pixels_are_learned_to_be_told_apart_and_trading_labels_is_noticed(fields):
    method, batch = make(LOCAL, **fields), toy_batch(dims=2, unlabelled=0)
    before = one_step(method, LOCAL, batch)[0]
    run_steps(method, [batch] * 20, stage=LOCAL)
    after = one_step(method, LOCAL, batch)[0]
    assert after < before - 0.2
    batch.label_l = batch.label_l.roll(1, 0).where(batch.valid_l, 0)
    assert one_step(method, LOCAL, batch)[0] > after + 0.2


# Stages


@in_2d_and_3d
def test_with_weights_zero_all_three_stages_are_the_supervised_training_of_the_last(dims):
    method = make(PRETRAIN, dims=dims, weight_global=0.0, weight_local=0.0, **OPTIMISATION)
    control = make_toy_method("supervised", dims=dims, net={"dropout": 0.0}, **OPTIMISATION)
    start = copy.deepcopy(method.student.state_dict())
    for stage in (PRETRAIN, LOCAL):
        run_steps(method, [stage_batch(stage, dims=dims, seed=seed) for seed in range(3)], stage=stage)
    assert all(torch.equal(start[key], value) for key, value in method.student.state_dict().items())
    batches = [toy_batch(dims=dims, seed=seed, unlabelled=0) for seed in range(5)]
    as_supervised = replace(FINETUNE, name="train")  # a stage's name decides its draws
    for trained in (method, control):
        run_steps(trained, batches, stage=as_supervised)
    found = method.student.state_dict()
    assert all(torch.equal(found[key], value) for key, value in control.student.state_dict().items())
    assert any(not torch.equal(start[key], value) for key, value in found.items())


@pytest.mark.parametrize(("steps", "expected"), [(1000, (300, 200, 500)), (7, (2, 2, 3)), (3, (1, 1, 1))])
def test_all_stages_together_take_the_runs_steps_and_the_first_alone_draws_unlabelled_crops(steps, expected):
    config = RunConfig(steps=steps, method={"name": "local_contrast"})
    stages = resolve_stages(config, make_method_config(config))
    assert tuple(stage.steps for stage in stages) == expected
    assert [stage.batch_unlabelled for stage in stages] == [config.batch_unlabelled, 0, 0]


def test_without_the_contrast_of_pixels_its_steps_are_of_the_fine_tuning():
    config = RunConfig(steps=100, method={"name": "local_contrast", "reduce": "none"})
    stages = resolve_stages(config, make_method_config(config))
    assert [(stage.name, stage.steps) for stage in stages] == [("pretrain", 30), ("finetune", 70)]


def test_shares_that_leave_nothing_for_the_fine_tuning_are_refused():
    with pytest.raises(ConfigError, match=r"method.pretrain = 0.6 and method.local = 0.4"):
        type(make(LOCAL)).stages(Config(pretrain=0.6, local=0.4))
