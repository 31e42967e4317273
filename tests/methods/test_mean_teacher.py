"""Mean Teacher."""

import pytest
import torch
from crops import all_stages, make_toy_method, run_forward, run_steps, spied, toy_batch, toy_progress

from semivox.ops.ramps import sigmoid_rampup


def consistency(progress=None, *, net=None, **fields):
    method = make_toy_method("mean_teacher", net=net, **fields)
    return run_forward(method, toy_batch(), progress or toy_progress()).losses["consistency"].item()


def test_equal_nets_without_noise_and_dropout_agree_exactly():
    quiet = {"net": {"dropout": 0.0}, "intensity": "none"}
    assert consistency(**quiet, noise=0) == 0
    assert consistency(**quiet) > 0
    assert consistency(noise=0, intensity="none") > 0  # the two dropouts differ
    assert consistency(net={"dropout": 0.0}, noise=0) > 0  # the intensities do
    assert consistency(net={"dropout": 0.0}, noise=0, teacher_view="paper") == 0


def test_the_consistency_is_weighed_and_ramped_up():
    assert consistency(weight=0.4) == pytest.approx(4 * consistency(weight=0.1))
    quiet = {"noise": 0, "geometry": "none", "intensity": "none", "teacher_mode": "eval"}
    early, late = consistency(toy_progress(0), **quiet), consistency(toy_progress(9), **quiet)
    assert early < 0.1 * late


def test_weight_and_ramp_at_the_middle():
    method = make_toy_method("mean_teacher", net={"dropout": 0.0}, geometry="none", intensity="none")
    batch, progress = toy_batch(padded=False), toy_progress(5)
    with spied(method.student) as seen, spied(method.teacher) as taught:
        loss = run_forward(method, batch, progress).losses["consistency"]
    difference = seen[1][1].softmax(1) - taught[0][1].softmax(1)
    torch.testing.assert_close(loss, 0.1 * sigmoid_rampup(0.5) * difference.square().mean())


def test_the_teacher_sees_the_clean_crop_once_and_the_student_its_shaded_one_plus_bounded_noise():
    seen, taught = views(intensity="strong", geometry="none")
    assert torch.equal(taught, toy_batch().image_u)
    shaded, _ = views(intensity="strong", geometry="none", noise=0)
    assert not torch.equal(shaded, taught)
    assert 0.19 < (seen - shaded).abs().max() <= 0.2001


def test_both_views_share_one_geometry():
    seen, taught = views(intensity="none", noise=0, geometry="wide")
    assert torch.equal(seen, taught)
    assert not torch.equal(taught, toy_batch().image_u)


def test_in_the_papers_the_teacher_sees_the_students_crops_plus_bounded_noise():
    seen, taught = views(teacher_view="paper")
    assert 0.19 < (taught - seen).abs().max() <= 0.2001


def views(**fields):
    """Return the unlabelled crops that student and teacher see."""
    method = make_toy_method("mean_teacher", **fields)
    with spied(method.student) as seen, spied(method.teacher) as taught:
        run_forward(method, toy_batch(), toy_progress())
    assert [len(image) for image, _ in seen] == [2, 4]  # labelled first
    assert len(taught) == 1
    assert not taught[0][1].requires_grad
    return seen[1][0], taught[0][0]


def test_the_teacher_is_the_mean_of_the_students_until_the_decay_takes_over():
    method = make_toy_method("mean_teacher")
    (stage,) = all_stages("mean_teacher")
    name = "decoders.0.out.weight"
    students = []
    for step in range(3):
        run_steps(method, [toy_batch(seed=step)], stage=stage, first=step)
        students.append(method.student.get_parameter(name).detach().clone())
    torch.testing.assert_close(method.teacher.get_parameter(name), torch.stack(students).mean(0))


def test_train_does_not_wake_a_teacher_in_eval_mode():
    method = make_toy_method("mean_teacher", teacher_mode="eval").train()
    assert method.student.training
    assert not any(module.training for module in method.teacher.modules())
    assert all(module.training for module in make_toy_method("mean_teacher").train().teacher.modules())
