"""Moving averages of whole modules."""

import torch
from torch import nn

from semivox.ops.ema import ema_update, make_teacher
from semivox.ops.freeze import learn_only
from semivox.ops.ramps import warmup_decay


def make_student() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Conv2d(3, 2, 1))


def moved(student: nn.Module) -> nn.Module:
    """Return a copy of `student` with every floating-point entry one larger, and its counter at 7."""
    other = make_teacher(student)
    for value in other.state_dict().values():
        value.add_(1) if value.is_floating_point() else value.fill_(7)
    return other


def test_a_teacher_equals_its_student_shares_nothing_and_asks_for_no_gradient():
    student = make_student()
    teacher = make_teacher(student)
    assert not any(p.requires_grad for p in teacher.parameters())
    assert all(p.requires_grad for p in student.parameters())
    for mine, other in zip(teacher.state_dict().values(), student.state_dict().values(), strict=True):
        assert torch.equal(mine, other)
        assert mine.data_ptr() != other.data_ptr()


def test_with_a_constant_student_the_gap_shrinks_as_decay_to_the_k_buffers_included():
    student = make_student()
    teacher, start = moved(student), moved(student)
    for _ in range(20):
        ema_update(teacher, student, 0.999)
    assert any("running_mean" in name for name in student.state_dict())
    for name, value in teacher.state_dict().items():
        if value.is_floating_point():
            gap, first = value - student.state_dict()[name], start.state_dict()[name] - student.state_dict()[name]
            torch.testing.assert_close(gap, 0.999**20 * first, atol=1e-5, rtol=1e-5)


def test_counters_are_copied():
    student = make_student()
    teacher = moved(student)
    ema_update(teacher, student, 0.999)
    assert teacher[1].num_batches_tracked == student[1].num_batches_tracked == 0


def test_with_the_warm_start_the_teacher_is_the_student_after_step_0_exactly():
    student = make_student()
    teacher = moved(student)
    ema_update(teacher, student, warmup_decay(0, 0.999))
    assert all(torch.equal(a, b) for a, b in zip(teacher.parameters(), student.parameters(), strict=True))


def test_an_update_leaves_no_graph_and_moves_no_student():
    student = make_student()
    before = [p.detach().clone() for p in student.parameters()]
    teacher = moved(student)
    ema_update(teacher, student, 0.5)
    assert all(p.grad_fn is None and not p.requires_grad for p in teacher.parameters())
    assert all(torch.equal(a, b) for a, b in zip(student.parameters(), before, strict=True))


def test_learn_only_freezes_all_but_the_named_parts():
    module = nn.ModuleDict({"student": make_student(), "teacher": make_student()})
    learn_only(module, ["student.0"])
    learning = [name for name, p in module.named_parameters() if p.requires_grad]
    assert learning == ["student.0.weight", "student.0.bias"]
    learn_only(module, ["student"])
    assert all(p.requires_grad for p in module["student"].parameters())
