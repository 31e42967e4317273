"""CVRL: both variants' terms by hand, what solves them, and which of them each weight moves."""

import copy
import math

import pytest
import torch
from crops import (
    all_stages,
    assert_equal,
    make_toy_method,
    one_step,
    run_forward,
    run_steps,
    spied,
    toy_batch,
    toy_progress,
)
from cvrl_variants import STAGE, TERMS, every_variant, in_2d_and_3d, make, warmed
from torch import nn

from semivox.methods.cvrl import Config
from semivox.ops.contour import elastic_interaction
from semivox.ops.ramps import sigmoid_rampup

OPTIMISATION = {"weight_decay": 0.0, "schedule": "constant", "lr": 0.01, "momentum": 0.9}
PLAIN = {"geometry": "none", "intensity": "none"}
WEIGHTS = [name for name in Config.model_fields if name.startswith("weight_") and name != "weight_decay"]
RAMP = sigmoid_rampup(0.5)


class OneHot(nn.Module):
    """A head that gives every voxel of volume i the i-th unit vector, and keeps its weights in the graph."""

    def __init__(self, head, width=64):
        super().__init__()
        self.head, self.width = head, width

    def forward(self, x):
        nothing = 0 * self.head(x).sum()
        volumes = torch.eye(self.width)[: len(x)].reshape(len(x), self.width, *[1] * (x.ndim - 2))
        return volumes.expand(-1, -1, *x.shape[2:]) + nothing


# Global and local contrast


@in_2d_and_3d
@pytest.mark.parametrize("tau", [0.1, 1.0])
def test_t26a_equal_voxels_and_one_orthogonal_volume(dims, tau):
    method = make(dims=dims, tau=tau)
    method.head.project = method.teacher_head.project = OneHot(method.head.project)
    losses = run_forward(method, toy_batch(dims=dims, unlabelled=2), toy_progress()).losses
    expected = math.log(1 + math.exp(-1 / tau))
    assert losses["global"].item() == pytest.approx(0.1 * RAMP * expected, rel=2e-3)  # 4.5e-5 in single precision


def test_the_local_contrast_of_equal_voxels_counts_every_other_voxel_and_no_second_draw():
    """256 draws from 16 x 16 x 8 voxels at stride 2, 8 x 8 x 4 each: all are drawn once by strata of one voxel."""
    method = make(tau=1.0, grid=(8, 8, 4), **PLAIN)
    method.head.project = method.teacher_head.project = OneHot(method.head.project)
    losses = run_forward(method, toy_batch(unlabelled=2, padded=False), toy_progress()).losses
    once = math.log(1 + 255 + 256 * math.exp(-1))
    assert losses["local"].item() == pytest.approx(0.1 * RAMP * once, rel=1e-4)
    few = make(tau=1.0, grid=(8, 8, 4), voxels=512, **PLAIN)  # each voxel twice: its second draw is no negative
    few.head.project = few.teacher_head.project = OneHot(few.head.project)
    losses = run_forward(few, toy_batch(unlabelled=2, padded=False), toy_progress()).losses
    assert losses["local"].item() == pytest.approx(0.1 * RAMP * math.log(1 + 510 + 512 * math.exp(-1)), rel=1e-4)


def test_crops_of_one_case_are_no_negatives_of_each_other_then_or_now():
    method, batch = warmed("voxel"), toy_batch(seed=9)
    assert method.volumes.cases.rows.tolist() == [2, 3]
    assert one_step(method, batch)[0]["global"] > 0
    batch.case_u = torch.tensor([2, 2, 2, 2])
    method.volumes.cases.rows[:] = 2
    assert one_step(method, batch)[0]["global"] == 0
    method.volumes.cases.rows[0] = 5
    assert one_step(method, batch)[0]["global"] > 0


@pytest.fixture(scope="module")
def learned():
    """A method after 160 steps on four images, and these."""
    net = {"filters": 4, "dropout": 0.0}
    method = make(dims=2, net=net, lr=0.05, schedule="constant", ema_decay=0.9, voxels=64, **PLAIN)
    for step in range(160):
        run_steps(method, [toy_batch(dims=2)], stage=STAGE, first=min(step, 8))
    return method, toy_batch(dims=2)


class Exchanged(nn.Module):
    """A teacher's encoder that sees the volumes of a batch in another order."""

    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def forward(self, image):
        return self.encoder(image.roll(1, 0))


def test_both_contrasts_rise_where_the_teacher_sees_other_volumes(learned):
    """A queue of the whole run is solved by the age of what it holds: volumes could then be exchanged for nothing."""
    method, batch = learned
    own = one_step(method, batch)[0]
    other = copy.deepcopy(method)
    other.teacher.encoder = Exchanged(other.teacher.encoder)
    exchanged = one_step(other, batch)[0]
    assert own["global"] < 0.1 * RAMP * math.log(1 + 3 + 1)  # chance, of other cases in the batch and remembered
    assert exchanged["global"] > own["global"] + 0.1 * RAMP * 0.5
    assert exchanged["local"] > 3 * own["local"]


def test_the_elastic_energy_rises_where_the_label_is_another_cases(learned):
    method, batch = learned
    own, batch = one_step(method, batch)[0]["elastic"], copy.deepcopy(batch)
    batch.label_l = batch.label_l.flip(0)
    assert one_step(method, batch)[0]["elastic"] > 5 * own


# Views


@every_variant
def test_the_teacher_sees_the_clean_crop_and_the_student_a_noisy_one(variant):
    method, batch = make(variant, intensity="strong", geometry="none"), toy_batch()
    with spied(method.student.encoder) as student, spied(method.teacher.encoder) as teacher:
        run_forward(method, batch, toy_progress())
    assert [len(image) for image, _ in student] == [2, 4]  # labelled first
    assert len(teacher) == 1
    assert torch.equal(teacher[0][0], batch.image_u)
    assert not torch.equal(student[1][0], batch.image_u)
    assert not any(module.training for module in (*method.teacher.modules(), *method.teacher_head.modules()))
    still = make(variant, noise=0.0, **PLAIN)
    with spied(still.student.encoder) as student:
        run_forward(still, batch, toy_progress())
    assert torch.equal(student[1][0], batch.image_u)


@every_variant
@pytest.mark.parametrize("sampler", ["naive", "sg", "sag"])
def test_every_sampler_draws_and_draws_differently(variant, sampler):
    method, batch = warmed(variant, sampler=sampler, voxels=16), toy_batch(seed=9)
    other = warmed(variant, sampler="sag" if sampler == "sg" else "sg", voxels=16)
    other.load_state_dict(method.state_dict())
    drawn = "local" if variant == "voxel" else "batch_low"
    first, second = one_step(method, batch)[0], one_step(other, batch)[0]
    assert first[drawn].isfinite()
    assert first[drawn] != second[drawn]


# Elastic energy


@in_2d_and_3d
@pytest.mark.parametrize("over", ["slices", "volume"])
def test_the_elastic_energy_is_that_of_labelled_predictions_from_the_first_step_on(dims, over):
    method, batch = make(dims=dims, elastic_over=over, **PLAIN), toy_batch(dims=dims)
    with spied(method.student) as seen:
        terms = run_forward(method, batch, toy_progress(0))
    p = seen[0][1].softmax(1)
    expected = elastic_interaction(
        p, batch.label_l, batch.valid_l, spacing=batch.spacing, slice_axis=2 if (dims, over) == (3, "slices") else None
    )
    torch.testing.assert_close(terms.losses["elastic"], 0.05 * expected)
    assert "elastic_ramp" not in terms.shown


def test_the_released_prediction_is_within_reach():
    batch = toy_batch()
    plain, released = make(**PLAIN), make(elastic_alpha=0.35, elastic_sigma=0.25, **PLAIN)
    assert one_step(plain, batch)[0]["elastic"] != one_step(released, batch)[0]["elastic"]


# Batch and feature axis


def test_the_dimensions_are_read_down_the_bottleneck_and_the_drawn_voxels():
    method, batch = make("batch_feature"), toy_batch()
    with torch.no_grad():
        for head in (*method.head.children(), *method.teacher_head.children()):
            head[-1].weight.zero_()
            head[-1].bias.fill_(1)  # all dimensions alike: T31's log D
    losses = run_forward(method, batch, toy_progress()).losses
    assert losses["feature_high"].item() == pytest.approx(0.1 * math.log(128), rel=1e-5)
    assert losses["feature_low"].item() == pytest.approx(0.1 * math.log(128), rel=1e-5)
    assert losses["batch_low"] == 0  # nothing is remembered yet
    assert losses["batch_high"].item() == pytest.approx(0.1 * math.log(4), rel=1e-5)  # the batch's three other cases


def test_voxels_are_remembered_on_the_batch_axis_alone():
    method = make("batch_feature")
    run_steps(method, [toy_batch()], stage=STAGE)
    assert method.queue.written == 4 * 512
    assert method.volumes.embeddings.written == method.volumes.cases.written == 4
    assert "queue.rows" not in make("voxel").state_dict()


# What both owe; test_contract.py asks it of the default one


def test_the_weights_of_each_variant_are_those_of_its_terms():
    assert {name.removeprefix("weight_") for name in WEIGHTS} == TERMS["voxel"] | TERMS["batch_feature"]


@every_variant
def test_every_term_can_be_left_out_by_its_weight_and_no_other_changes(variant):
    method, batch = warmed(variant), toy_batch(seed=9)
    base = one_step(method, batch)[0]
    assert base.keys() == TERMS[variant] | {"supervised"}
    for term in TERMS[variant]:
        without = make(variant, **{f"weight_{term}": 0.0})
        without.load_state_dict(method.state_dict())
        found = one_step(without, batch)[0]
        assert found.pop(term) == 0
        assert_equal(found, {name: loss for name, loss in base.items() if name != term})


@every_variant
@in_2d_and_3d
def test_with_weights_zero_the_student_is_the_supervised_one(variant, dims):
    method = make(variant, dims=dims, **dict.fromkeys(WEIGHTS, 0.0), **OPTIMISATION)
    control = make_toy_method("supervised", dims=dims, **OPTIMISATION)
    batches = [toy_batch(dims=dims, seed=seed) for seed in range(5)]
    run_steps(method, batches, stage=STAGE)
    run_steps(control, batches, stage=all_stages("supervised")[0])
    assert_equal(method.student.state_dict(), control.student.state_dict())


@every_variant
@in_2d_and_3d
def test_t26d_every_term_has_a_gradient_on_the_student_and_none_on_the_teacher(variant, dims):
    method = warmed(variant, dims).requires_grad_(True)
    terms = run_forward(method, toy_batch(dims=dims, seed=9), toy_progress())
    assert terms.losses.keys() == TERMS[variant] | {"supervised"}
    learning = {name: p for name, p in method.named_parameters() if not name.startswith("teacher")}
    taught = [p for name, p in method.named_parameters() if name.startswith("teacher")]
    for term, loss in terms.losses.items():
        assert loss.isfinite(), term
        found = torch.autograd.grad(loss, learning.values(), retain_graph=True, allow_unused=True)
        moved = {
            ".".join(name.split(".")[:2])
            for name, g in zip(learning, found, strict=True)
            if g is not None and g.abs().sum() > 0
        }
        heads = {
            "global": {"head.project"},
            "local": {"head.project"},
            "batch_high": {"head.high"},
            "feature_high": {"head.high"},
            "batch_low": {"head.low"},
            "feature_low": {"head.low"},
        }.get(term, set())
        nets = {"student.encoder"} if term.endswith("_high") else {"student.encoder", "student.decoders"}
        assert moved == nets | heads, term
    assert all(g is None for g in torch.autograd.grad(terms.total(), taught, allow_unused=True))


@every_variant
@in_2d_and_3d
def test_a_volume_without_a_valid_voxel_is_not_remembered(variant, dims):
    method, batch = warmed(variant, dims), toy_batch(dims=dims, seed=9)
    batch.valid_l[1], batch.valid_u[1] = False, False
    before = method.volumes.embeddings.written.clone()
    run_steps(method, [batch], stage=STAGE)
    assert method.volumes.embeddings.written - before == 3


@every_variant
def test_the_ramp_multiplies_what_it_should(variant):
    method, batch = warmed(variant), toy_batch(seed=9)
    late, early = (one_step(method, batch, toy_progress(steps=steps))[0] for steps in (6, 20))
    ratio = sigmoid_rampup(5 / 6) / sigmoid_rampup(5 / 20)
    for term in TERMS[variant]:
        rises = term in ("global", "local", "consistency")
        assert late[term].item() == pytest.approx(early[term].item() * (ratio if rises else 1.0), rel=1e-4), term
