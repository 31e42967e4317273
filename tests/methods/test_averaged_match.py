"""Averaged match: who sees what, which voxels count, what is pasted, and how its two stages hang together."""

import copy

import pytest
import torch
from crops import all_stages, freeze, make_toy_method, run_forward, run_steps, spied, toy_batch, toy_progress

from semivox.config.keys import Config as RunConfig
from semivox.methods.averaged_match import Config
from semivox.runs.building import make_method_config
from semivox.training.assembly import resolve_stages

WARM, MATCH = all_stages("averaged_match")
PLAIN = {"geometry": "none", "intensity": "none"}
in_2d_and_3d = pytest.mark.parametrize("dims", [2, 3])


def make(*, dims=2, stage=MATCH, **fields):
    method = make_toy_method("averaged_match", dims=dims, net={"dropout": 0.0}, **fields)
    freeze(method, stage)
    return method.train()


def match(method, batch, step=5):
    return run_forward(method, batch, toy_progress(step, stage="match")).losses["match"].item()


@in_2d_and_3d
def test_the_teacher_labels_the_clean_crop_in_evaluation_mode_and_the_student_sees_a_shaded_and_mixed_one(dims):
    method = make(dims=dims, geometry="none", intensity="strong")
    batch = toy_batch(dims=dims)
    with spied(method.student.encoder) as student, spied(method.teacher.encoder) as teacher:
        run_forward(method, batch, toy_progress(stage="match"))
    assert torch.equal(teacher[0][0], batch.image_u)
    assert not torch.equal(student[1][0], batch.image_u)
    assert (len(student), len(teacher)) == (2, 1)
    assert not any(module.training for module in method.teacher.modules())


@in_2d_and_3d
def test_a_pasted_box_is_sure_and_has_the_labelled_crops_voxels_and_label(dims):
    method = make(dims=dims, cutmix=0.0, paste=1.0, confidence=1.0, **PLAIN)
    batch = toy_batch(dims=dims, padded=False)
    view = method.augment(batch, toy_progress(stage="match"))
    image, q, sure = method._mixed(view, view.image_u, view.valid_u, toy_progress(stage="match"))
    for item in range(4):
        box, of = sure[item], item % 2
        assert 0 < box.float().mean() < 0.75
        assert torch.equal(image[item, 0][box], batch.image_l[of, 0][box])
        assert torch.equal(q[item][box], batch.label_l[of][box])
        assert torch.equal(image[item, 0][~box], batch.image_u[item, 0][~box])


@in_2d_and_3d
def test_a_box_of_another_unlabelled_crop_brings_its_pseudo_label_and_its_doubt(dims):
    """The teacher is sure where the image is above 1: labels and doubt follow the voxels."""
    method = make(dims=dims, cutmix=1.0, paste=0.0, **PLAIN)

    class Reader(torch.nn.Module):
        def forward(self, image):
            return torch.cat([torch.zeros_like(image), torch.where(image > 1, 9.0, 0.1)], 1)

    method.teacher = Reader()
    batch = toy_batch(dims=dims, padded=False)
    view = method.augment(batch, toy_progress(stage="match"))
    image, q, sure = method._mixed(view, view.image_u, view.valid_u, toy_progress(stage="match"))
    assert torch.equal(sure, image[:, 0] > 1)
    assert (q == 1).all()
    assert not torch.equal(image, batch.image_u)


def test_where_nothing_is_sure_and_nothing_pasted_nothing_is_learned():
    assert match(make(confidence=1.0, paste=0.0), toy_batch(dims=2)) == pytest.approx(0, abs=1e-6)
    assert match(make(confidence=0.0, paste=0.0), toy_batch(dims=2)) > 0.1


def test_the_weight_is_reached_after_a_tenth_of_the_stage():
    method, batch = make(geometry="none", intensity="none", cutmix=0.0, paste=0.0, confidence=0.0), toy_batch(dims=2)
    assert match(method, batch, step=0) == 0
    assert match(method, batch, step=1) == match(method, batch, step=9) > 0


def test_labelled_padding_is_not_pasted_and_padding_is_sure_only_under_a_box():
    method = make(cutmix=0.0, paste=1.0, confidence=0.0, **PLAIN)
    batch = toy_batch(dims=2)
    view = method.augment(batch, toy_progress(stage="match"))
    _, _, sure = method._mixed(view, view.image_u, view.valid_u, toy_progress(stage="match"))
    assert not sure[:, :2].any()
    assert sure[:, 2:].all()


def test_the_teacher_goes_on_over_the_stages_border():
    method = make(stage=WARM)
    run_steps(method, [toy_batch(dims=2, unlabelled=0, seed=seed) for seed in range(4)], stage=WARM)
    before = copy.deepcopy(method.teacher.state_dict())
    freeze(method, MATCH)
    method.after_step(toy_progress(4, stage="match"))  # total step 4, the first of this stage
    name = "decoders.0.out.weight"
    expected = 0.8 * before[name] + 0.2 * method.student.state_dict()[name]
    torch.testing.assert_close(method.teacher.state_dict()[name], expected)


@pytest.mark.parametrize(("steps", "expected"), [(1000, (250, 750)), (7, (2, 5)), (3, (1, 2))])
def test_both_stages_together_take_the_runs_steps(steps, expected):
    config = RunConfig(steps=steps, method={"name": "averaged_match"})
    stages = resolve_stages(config, make_method_config(config))
    assert tuple(stage.steps for stage in stages) == expected
    assert [stage.batch_unlabelled for stage in stages] == [0, config.batch_unlabelled]


def test_the_share_of_the_start_is_a_field_and_a_stages_own_steps_win():
    config = RunConfig(steps=100, method={"name": "averaged_match", "warm": 0.4}, stages={"match": {"steps": 7}})
    assert [stage.steps for stage in resolve_stages(config, make_method_config(config))] == [40, 7]
    assert Config().warm == 0.25
