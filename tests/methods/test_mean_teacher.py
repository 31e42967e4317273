"""Mean Teacher."""

import pytest
import torch
from crops import all_stages, make_toy_method, run_forward, run_steps, spied, toy_batch, toy_progress

from semivox.ops.ramps import sigmoid_rampup


def consistency(progress=None, *, net=None, **fields):
    method = make_toy_method("mean_teacher", net=net, **fields)
    return run_forward(method, toy_batch(), progress or toy_progress()).losses["consistency"].item()


def test_equal_nets_without_noise_and_dropout_agree_exactly():
    assert consistency(net={"dropout": 0.0}, noise=0) == 0
    assert consistency(net={"dropout": 0.0}) > 0
    assert consistency(noise=0) > 0  # the two dropouts differ


def test_the_consistency_is_weighed_and_ramped_up():
    assert consistency(weight=0.4) == pytest.approx(4 * consistency(weight=0.1))
    quiet = {"noise": 0, "geometry": "none", "intensity": "none", "teacher_mode": "eval"}
    early, late = consistency(toy_progress(0), **quiet), consistency(toy_progress(9), **quiet)
    assert early < 0.1 * late


def test_weight_and_ramp_at_the_middle():
    method = make_toy_method("mean_teacher", net={"dropout": 0.0}, geometry="none", intensity="none")
    batch, progress = toy_batch(padded=False), toy_progress(5)
    with spied(method.teacher) as calls:
        loss = run_forward(method, batch, progress).losses["consistency"]
    difference = method.student(batch.image_u).softmax(1) - calls[0][1].softmax(1)
    torch.testing.assert_close(loss, 0.1 * sigmoid_rampup(0.5) * difference.square().mean())


def test_the_teacher_sees_the_students_crops_plus_bounded_noise_once():
    method = make_toy_method("mean_teacher")
    with spied(method.student) as seen, spied(method.teacher) as taught:
        run_forward(method, toy_batch(), toy_progress())
    assert [len(image) for image, _ in seen] == [2, 4]  # labelled first
    assert len(taught) == 1
    noise = taught[0][0] - seen[1][0]
    assert 0.19 < noise.abs().max() <= 0.2001
    assert not taught[0][1].requires_grad


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
