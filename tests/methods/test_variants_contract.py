"""What test_contract.py asks of every method's defaults, asked of pixel contrast's frameworks and CVRL's variants."""

import copy

import cvrl_variants
import frameworks
import pytest
import torch
from crops import assert_equal, one_step, run_forward, toy_batch, toy_progress

in_2d_and_3d = pytest.mark.parametrize("dims", [2, 3])
every_variant = pytest.mark.parametrize(
    ("toys", "variant"),
    [
        *(pytest.param(frameworks, name, id=name) for name in frameworks.FRAMEWORKS),
        *(pytest.param(cvrl_variants, name, id=name) for name in cvrl_variants.VARIANTS),
    ],
)


@in_2d_and_3d
@every_variant
def test_other_unlabelled_volumes_give_another_gradient(toys, variant, dims):
    method, batch, other = toys.warmed(variant, dims), toy_batch(dims=dims, seed=9), toy_batch(dims=dims, seed=9)
    other.image_u = toy_batch(dims=dims, seed=10).image_u
    first, second = one_step(method, batch)[1], one_step(method, other)[1]
    assert any(not torch.equal(first[key], second[key]) for key in first if key.startswith("student"))


@in_2d_and_3d
@every_variant
@pytest.mark.parametrize("unlabelled", [0, 4])
def test_from_the_first_step_on_every_weight_that_learns_has_a_gradient_and_no_teacher_has(
    toys, variant, unlabelled, dims
):
    method, batch = toys.make(variant, dims=dims), toy_batch(dims=dims, unlabelled=unlabelled)
    learning = {key for key, weight in method.named_parameters() if weight.requires_grad}
    method.requires_grad_(True)
    assert one_step(method, batch)[1].keys() == learning


@in_2d_and_3d
@every_variant
def test_the_state_alone_reproduces_the_next_step(toys, variant, dims):
    method, fresh = toys.warmed(variant, dims), toys.make(variant, dims=dims, net={"seed": 1})
    fresh.load_state_dict(method.state_dict())
    batch = toy_batch(dims=dims, seed=9)
    first, second = one_step(method, batch), one_step(fresh, batch)
    assert_equal(first[0], second[0])
    assert_equal(first[1], second[1])


@in_2d_and_3d
@every_variant
def test_a_volume_without_a_valid_voxel_changes_nothing(toys, variant, dims):
    method, batch = toys.warmed(variant, dims), toy_batch(dims=dims, seed=9)
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


@every_variant
def test_losses_are_finite_and_single_precision_under_autocast(toys, variant):
    method = toys.warmed(variant, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = run_forward(method, toy_batch(dims=2), toy_progress())
    terms.total().backward()
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in terms.losses.values())


@every_variant
def test_a_step_that_is_not_logged_shows_nothing_and_loses_the_same(toys, variant):
    method, batch = toys.make(variant, dims=2), toy_batch(dims=2)
    quiet, logged = (run_forward(method, batch, toy_progress(logged=logged)) for logged in (False, True))
    assert quiet.shown == {}
    assert_equal(quiet.losses, logged.losses)
    assert logged.shown.keys() == toys.shown(variant)
