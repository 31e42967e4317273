"""What test_contract.py asks of every method's defaults, asked of every framework of pixel contrast."""

import copy

import pytest
import torch
from crops import all_stages, gradients, make_toy_method, run_forward, run_steps, toy_batch, toy_progress
from frameworks import STAGE, assert_equal, every_framework, in_2d_and_3d, make, one_step, warmed

from semivox.methods.pixel_contrast import QUEUED

OPTIMISATION = {"weight_decay": 0.0, "schedule": "constant", "lr": 0.01, "momentum": 0.9}


@in_2d_and_3d
@every_framework
def test_the_contrast_is_finite_and_moves_the_student_and_its_head(framework, dims):
    method = warmed(framework, dims)
    terms = run_forward(method, toy_batch(dims=dims, seed=9), toy_progress())
    assert terms.losses["contrast"].isfinite()
    terms.losses["contrast"].backward()
    found = gradients(method)
    for part in ("student.encoder", "student.decoders", "head.narrow", "head.out", "head.predictor"):
        assert any(g.abs().sum() > 0 for key, g in found.items() if key.startswith(part)), part
    assert all(value.shape == () and not value.requires_grad for value in terms.shown.values())


@in_2d_and_3d
@every_framework
def test_other_unlabelled_volumes_give_another_gradient(framework, dims):
    method, batch, other = warmed(framework, dims), toy_batch(dims=dims, seed=9), toy_batch(dims=dims, seed=9)
    other.image_u = toy_batch(dims=dims, seed=10).image_u
    first, second = one_step(method, batch)[1], one_step(method, other)[1]
    assert any(not torch.equal(first[key], second[key]) for key in first if key.startswith("student"))


@in_2d_and_3d
@every_framework
def test_with_weight_zero_the_student_is_the_supervised_one(framework, dims):
    method = make(framework, dims=dims, weight=0.0, **OPTIMISATION)
    control = make_toy_method("supervised", dims=dims, **OPTIMISATION)
    batches = [toy_batch(dims=dims, seed=seed) for seed in range(5)]
    run_steps(method, batches, stage=STAGE)
    run_steps(control, batches, stage=all_stages("supervised")[0])
    assert_equal(method.student.state_dict(), control.student.state_dict())


@every_framework
@pytest.mark.parametrize("unlabelled", [0, 4])
def test_from_the_first_step_on_every_weight_that_learns_has_a_gradient_and_no_teacher_has(framework, unlabelled):
    method, batch = make(framework), toy_batch(dims=2, unlabelled=unlabelled)
    learning = {key for key, weight in method.named_parameters() if weight.requires_grad}
    method.requires_grad_(True)
    assert one_step(method, batch)[1].keys() == learning


@in_2d_and_3d
@every_framework
def test_the_state_alone_reproduces_the_next_step(framework, dims):
    method, fresh = warmed(framework, dims), make(framework, dims=dims, net={"seed": 1})
    fresh.load_state_dict(method.state_dict())
    batch = toy_batch(dims=dims, seed=9)
    first, second = one_step(method, batch), one_step(fresh, batch)
    assert_equal(first[0], second[0])
    assert_equal(first[1], second[1])


@in_2d_and_3d
@every_framework
def test_a_volume_without_a_valid_voxel_changes_nothing(framework, dims):
    method, batch = warmed(framework, dims), toy_batch(dims=dims, seed=9)
    batch.valid_l[1], batch.valid_u[1] = False, False
    other = copy.deepcopy(batch)
    for image in (other.image_l, other.image_u):
        image[1] = image[1].flip(-1) * 3 + 1
    other.label_l[1] = 1 - other.label_l[1]
    first, second = one_step(method, batch), one_step(method, other)
    for key, value in first[0].items():
        torch.testing.assert_close(value, second[0][key], rtol=1e-5, atol=1e-7)
    for key, value in first[1].items():
        torch.testing.assert_close(value, second[1][key], rtol=1e-3, atol=1e-6, msg=key)


@every_framework
def test_losses_are_finite_and_single_precision_under_autocast(framework):
    method = warmed(framework)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = run_forward(method, toy_batch(dims=2), toy_progress())
    terms.total().backward()
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in terms.losses.values())


@every_framework
def test_a_step_that_is_not_logged_shows_nothing_and_loses_the_same(framework):
    method, batch = make(framework), toy_batch(dims=2)
    quiet, logged = (run_forward(method, batch, toy_progress(logged=logged)) for logged in (False, True))
    assert quiet.shown == {}
    assert_equal(quiet.losses, logged.losses)
    spread = {f"class{k}_{what}" for k in (0, 1) for what in ("variance", "rank")}
    assert logged.shown.keys() == spread | {"contrast_ramp"} | ({"queue_fill"} if framework in QUEUED else set())
