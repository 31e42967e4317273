"""What every method owes, found by file name: for each method, stage, and 2D and 3D.

A method's further losses are weighed by config fields called ``weight`` or ``weight_*``; with all of them 0 it is the
supervised loss.
"""

import copy

import pytest
import torch
from crops import (
    all_stages,
    assert_equal,
    first_half,
    freeze,
    gradients,
    loss_weights,
    make_toy_method,
    one_step,
    run_forward,
    run_steps,
    stage_batch,
    toy_batch,
    toy_progress,
    warm,
)
from lightning_fabric import Fabric
from pydantic import ValidationError

from semivox.methods import list_methods, method_class, method_module

METHODS = list_methods()
CASES = [
    pytest.param(name, stage, dims, id=f"{name}-{stage.name}-{dims}d")
    for name in METHODS
    for stage in all_stages(name)
    for dims in (2, 3)
]
UNLABELLED = [case for case in CASES if "unlabelled" in case.values[1].uses]
PSEUDO = [case for case in CASES if "pseudo" in case.values[1].uses]
FLAT = [pytest.param(*case.values[:2], id=case.id) for case in CASES if case.values[2] == 2]
# Optimisation is the same for all, and without weight decay, which moves even what no loss moves.
OPTIMISATION = {"weight_decay": 0.0, "schedule": "constant", "lr": 0.01, "momentum": 0.9}


def warmed(name, stage, dims, **fields):
    """Return the method, warm, frozen as its stage says, and in train mode."""
    method = warm(make_toy_method(name, dims=dims, **fields), stage, dims=dims)
    freeze(method, stage)
    return method.train()


def step_gradients(method, batch, stage, **place):
    """Return losses and gradients of one step of a stage from where `method` stands, which stays as it was."""
    return one_step(method, batch, toy_progress(stage=stage.name, **place))


def teachers(method):
    """Return the names of the weights of teachers: ``teacher``, ``teacher_slices``, ``memory.teacher``."""
    names = [key for key, _ in method.named_parameters()]
    return [key for key in names if any(part.startswith("teacher") for part in key.split("."))]


@pytest.mark.parametrize(("name", "stage", "dims"), CASES)
def test_every_loss_term_is_finite_and_moves_some_weight(name, stage, dims):
    method = warmed(name, stage, dims)
    terms = run_forward(method, stage_batch(stage, dims=dims, seed=9), toy_progress(stage=stage.name))
    learning = [p for part in stage.trains for p in method.get_submodule(part).parameters()]
    for term, loss in terms.losses.items():
        assert loss.shape == (), term
        assert loss.isfinite(), term
        moved = torch.autograd.grad(loss, learning, retain_graph=True, allow_unused=True)
        assert any(g is not None and g.abs().sum() > 0 for g in moved), f"the term '{term}' trains nothing"
    assert all(value.shape == () and not value.requires_grad for value in terms.shown.values())


@pytest.mark.parametrize(("name", "stage", "dims"), UNLABELLED)
def test_with_weights_zero_five_steps_equal_a_run_without_unlabelled_crops(name, stage, dims):
    """In all weights, those of teachers too; queues and banks may remember unlabelled crops, whatever that weighs."""
    fields = dict.fromkeys(loss_weights(method_module(name)), 0.0) | OPTIMISATION
    with_crops, without = (make_toy_method(name, dims=dims, **fields) for _ in range(2))
    batches = [stage_batch(stage, dims=dims, seed=seed) for seed in range(5)]
    run_steps(with_crops, batches, stage=stage)
    run_steps(without, [toy_batch(dims=dims, seed=seed, unlabelled=0) for seed in range(5)], stage=stage)
    assert_equal(dict(with_crops.named_parameters()), dict(without.named_parameters()))


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", [name for name in METHODS if len(all_stages(name)) == 1 and name != "supervised"])
def test_with_weights_zero_the_student_is_the_supervised_one(name, dims):
    """The first net that the method trains, on the labelled crops that this net sees."""
    fields = dict.fromkeys(loss_weights(method_module(name)), 0.0) | OPTIMISATION
    method = make_toy_method(name, dims=dims, **fields)
    control = make_toy_method("supervised", dims=dims, **OPTIMISATION)
    batches = [toy_batch(dims=dims, labelled=4, seed=seed) for seed in range(5)]
    run_steps(method, batches, stage=all_stages(name)[0])
    seen = map(first_half, batches) if "labelled_halves" in method.needs else batches
    run_steps(control, list(seen), stage=all_stages("supervised")[0])
    student = all_stages(name)[0].trains[0]
    start = make_toy_method(name, dims=dims, **fields).get_submodule(student).state_dict()
    found, expected = method.get_submodule(student).state_dict(), control.student.state_dict()
    assert_equal({key: found[key] for key in expected}, expected)  # further decoders are the method's own
    assert any(not torch.equal(start[key], value) for key, value in control.student.state_dict().items())


@pytest.mark.parametrize(("name", "stage", "dims"), UNLABELLED)
def test_without_unlabelled_crops_every_weight_that_learns_has_a_gradient_all_the_same(name, stage, dims):
    method = make_toy_method(name, dims=dims)
    freeze(method, stage)
    _, found = step_gradients(method, toy_batch(dims=dims, unlabelled=0), stage)
    assert found.keys() == {key for key, weight in method.named_parameters() if weight.requires_grad}  # or DDP raises


@pytest.mark.parametrize(("name", "stage", "dims"), CASES)
def test_a_step_that_is_not_logged_shows_nothing_and_loses_the_same(name, stage, dims):
    method, batch = make_toy_method(name, dims=dims), stage_batch(stage, dims=dims)
    places = [toy_progress(stage=stage.name, logged=logged) for logged in (False, True)]
    quiet, logged = (run_forward(method, batch, place) for place in places)
    assert quiet.shown == {}
    assert_equal(quiet.losses, logged.losses)


@pytest.mark.parametrize(("name", "stage", "dims"), CASES)
def test_a_term_over_its_ramp_is_alike_early_and_late_in_a_training(name, stage, dims):
    """The draws of a step do not depend on how many follow, so little but a ramp may: a report divides by it."""
    method, batch = warmed(name, stage, dims), stage_batch(stage, dims=dims, seed=9)
    places = [toy_progress(stage=stage.name, steps=steps) for steps in (6, 20)]
    late, early = (run_forward(copy.deepcopy(method), batch, place) for place in places)  # a forward may fill a bank
    assert late.losses.keys() == early.losses.keys()
    for term in late.losses:
        one, other = (float(t.losses[term].detach() / t.shown.get(f"{term}_ramp", 1)) for t in (late, early))
        assert one != 0, term
        assert 0.5 < other / one < 2, term  # by a ramp 14 times as much; a filter by time does less


@pytest.mark.parametrize(("name", "stage", "dims"), UNLABELLED)
def test_other_unlabelled_volumes_give_another_gradient(name, stage, dims):
    method = warmed(name, stage, dims)
    batch, other = stage_batch(stage, dims=dims, seed=9), stage_batch(stage, dims=dims, seed=9)
    other.image_u = stage_batch(stage, dims=dims, seed=10).image_u
    _, first = step_gradients(method, batch, stage)
    _, second = step_gradients(method, other, stage)
    assert any(not torch.equal(first[key], second[key]) for key in first)


@pytest.mark.parametrize(("name", "stage", "dims"), PSEUDO)
def test_other_pseudo_labels_give_another_gradient_but_not_in_padding(name, stage, dims):
    method = warmed(name, stage, dims)
    batch, outside, inside = (stage_batch(stage, dims=dims, seed=9) for _ in range(3))
    outside.label_u = torch.where(batch.valid_u, batch.label_u, 1)
    inside.label_u = torch.where(batch.valid_u, 1 - batch.label_u, batch.label_u)
    first, second, third = (step_gradients(method, each, stage)[1] for each in (batch, outside, inside))
    assert_equal(first, second)
    assert any(not torch.equal(first[key], third[key]) for key in first)


@pytest.mark.parametrize(("name", "stage", "dims"), CASES)
def test_labels_and_targets_in_padding_change_nothing(name, stage, dims):
    method = warmed(name, stage, dims)
    batch, other = stage_batch(stage, dims=dims, seed=9), stage_batch(stage, dims=dims, seed=9)
    outside = ~batch.valid_l
    other.label_l = torch.where(outside, 1, batch.label_l)
    assert not torch.equal(other.label_l, batch.label_l)
    first, second = step_gradients(method, batch, stage), step_gradients(method, other, stage)
    assert_equal(first[0], second[0])
    assert_equal(first[1], second[1])


@pytest.mark.parametrize(("name", "stage", "dims"), CASES)
def test_a_volume_without_a_valid_voxel_changes_nothing(name, stage, dims):
    method = warmed(name, stage, dims)
    batch = stage_batch(stage, dims=dims, seed=9)
    batch.valid_l[1] = False
    if batch.image_u is not None:
        batch.valid_u[1] = False
    other = copy.deepcopy(batch)
    for image in (other.image_l, other.image_u):
        if image is not None:
            image[1] = image[1].flip(-1) * 3 + 1
    other.label_l[1] = 1 - other.label_l[1]
    other.targets_l["distances"][1] += 5
    first, second = step_gradients(method, batch, stage), step_gradients(method, other, stage)
    for key, value in first[0].items():
        torch.testing.assert_close(value, second[0][key], rtol=1e-5, atol=1e-7)
    for key, value in first[1].items():
        torch.testing.assert_close(value, second[1][key], rtol=1e-3, atol=1e-6, msg=key)


@pytest.mark.parametrize(("name", "stage", "dims"), CASES)
def test_frozen_weights_get_no_gradient_and_teachers_follow(name, stage, dims):
    method = make_toy_method(name, dims=dims)
    before = copy.deepcopy(method.state_dict())
    freeze(method, stage)
    run_forward(method, stage_batch(stage, dims=dims), toy_progress(stage=stage.name)).total().backward()
    learning = {f"{part}.{key}" for part in stage.trains for key, _ in method.get_submodule(part).named_parameters()}
    assert gradients(method).keys() == learning  # DDP raises where a weight that shall learn got no gradient
    method.zero_grad()
    run_steps(method, [stage_batch(stage, dims=dims, seed=seed) for seed in range(2)], stage=stage)
    for key in teachers(method):
        followed = key.replace("teacher.", "student.")
        if key.endswith("weight") and (followed == key or followed in learning):  # else it has nothing to follow
            assert not torch.equal(before[key], method.state_dict()[key]), key


@pytest.mark.parametrize(("name", "stage", "dims"), CASES)
def test_teachers_learn_nothing_even_where_everything_asks_for_a_gradient(name, stage, dims):
    method = warm(make_toy_method(name, dims=dims), stage, dims=dims).requires_grad_(True)
    run_forward(method, stage_batch(stage, dims=dims), toy_progress(stage=stage.name)).total().backward()
    assert not set(gradients(method)) & set(teachers(method))


@pytest.mark.parametrize(("name", "stage", "dims"), CASES)
def test_the_state_alone_reproduces_the_next_step(name, stage, dims):
    method = warmed(name, stage, dims)
    fresh = make_toy_method(name, dims=dims, net={"seed": 1})
    fresh.load_state_dict(method.state_dict())
    freeze(fresh, stage)
    batch = stage_batch(stage, dims=dims, seed=9)
    first, second = step_gradients(method, batch, stage), step_gradients(fresh.train(), batch, stage)
    assert_equal(first[0], second[0])
    assert_equal(first[1], second[1])


@pytest.mark.parametrize(("name", "stage", "dims"), CASES)
def test_the_same_seed_gives_the_same_losses_and_another_gives_others(name, stage, dims):
    method = warmed(name, stage, dims)
    batch = stage_batch(stage, dims=dims, seed=9)
    losses = [step_gradients(method, batch, stage, seed=seed)[0] for seed in (0, 0, 1)]
    assert_equal(losses[0], losses[1])
    assert losses[0] != losses[2]


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("name", METHODS)
def test_prediction_gives_probabilities_of_the_inputs_size(name, dims, classes):
    method = make_toy_method(name, dims=dims, net={"channels": 2, "classes": classes}).eval()
    batch = toy_batch(dims=dims, channels=2, classes=classes)
    with torch.no_grad():
        p = method.predict(batch.image_l)
    assert p.shape == (2, classes, *batch.image_l.shape[2:])
    assert p.min() >= 0
    torch.testing.assert_close(p.sum(1), torch.ones_like(p[:, 0]))
    for stage in all_stages(name):
        terms = run_forward(method.train(), batch, toy_progress(stage=stage.name))
        assert all(loss.isfinite() for loss in terms.losses.values())


@pytest.mark.parametrize("name", METHODS)
def test_the_student_that_predicts_in_eval_mode_has_no_randomness(name):
    method = warmed(name, all_stages(name)[-1], 2).eval()
    image = toy_batch(dims=2).image_l
    assert torch.equal(method.predict(image), method.predict(image))


@pytest.mark.parametrize(("name", "stage"), FLAT)
def test_losses_are_finite_and_single_precision_under_autocast(name, stage):
    method = warmed(name, stage, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = run_forward(method, stage_batch(stage, dims=2), toy_progress(stage=stage.name))
    terms.total().backward()
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in terms.losses.values())


@pytest.mark.parametrize(("name", "stage"), FLAT)
def test_a_step_passes_through_fabric_in_mixed_precision(name, stage):
    """As on a GPU: Fabric casts what a forward is given and what it returns."""
    method = make_toy_method(name, dims=2)
    freeze(method, stage)
    fabric = Fabric(accelerator="cpu", precision="bf16-mixed")
    wrapped, *_ = fabric.setup(method, *method.optimizers(stage))
    terms = run_forward(wrapped, stage_batch(stage, dims=2), toy_progress(stage=stage.name))
    fabric.backward(terms.total())
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in terms.losses.values())
    assert all(gradient.isfinite().all() for gradient in gradients(method).values())


@pytest.mark.parametrize("name", METHODS)
def test_a_method_is_registered_by_its_file_and_has_a_card(name):
    module = method_module(name)
    card = module.__doc__
    assert all(f"\n{line}" in card for line in ("Paper:", "Differs from the paper:", "Shapes:"))
    assert method_class(module).__doc__
    assert all(field.description for field in module.Config.model_fields.values())


@pytest.mark.parametrize("name", METHODS)
def test_an_unknown_config_key_is_refused(name):
    with pytest.raises(ValidationError, match="no_such_key"):
        method_module(name).Config(no_such_key=1)
