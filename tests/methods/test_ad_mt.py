"""AD-MT: whose turn it is, what each turn shows the student, and how three nets settle a label."""

import copy

import pytest
import torch
from crops import all_stages, make_toy_method, run_forward, run_steps, spied, toy_batch, toy_progress

from semivox.methods import ad_mt

PLAIN = {"geometry": "none", "intensity": "none"}
STAGE = all_stages("ad_mt")[0]
in_2d_and_3d = pytest.mark.parametrize("dims", [2, 3])


class Columns(torch.nn.Module):
    """In 4 groups of 4 columns, of which each is foreground with one probability."""

    def __init__(self, *foreground):
        super().__init__()
        p = torch.tensor(foreground).repeat_interleave(4)
        self.logits = torch.nn.Parameter(torch.stack([1 - p, p]).log())  # (2, 16)

    def forward(self, image):
        return self.logits[:, None].expand(len(image), 2, image.shape[2], 16)


def settled(first, second, student, **fields):
    """Return the terms of a step in which every net finds the same in every crop, and the student with gradients."""
    method = make_toy_method("ad_mt", dims=2, **PLAIN, **fields)
    method.teacher_1, method.teacher_2, method.student = Columns(*first), Columns(*second), Columns(*student)
    terms = run_forward(method, toy_batch(dims=2, padded=False), toy_progress())
    terms.losses["pseudo"].backward()
    # Descent makes the foreground likelier where the gradient of its logit is negative.
    return terms, [-x.sign().item() for x in method.student.logits.grad[1, ::4]]


@pytest.fixture(params=[0, 1])
def turn(request, monkeypatch):
    """Whose turn it is in all steps."""
    monkeypatch.setattr(ad_mt, "turns_before", lambda *_: request.param)
    return request.param


def test_where_teachers_contradict_each_other_the_surest_decides_and_else_they_do(turn):
    """By hand, of columns that
    agree: .9 and .9 are sure, and stay foreground although the student is surer of the background;
    conflict: entropies .0808 and .7219 (bits) weigh e^-.0808 and e^-.7219, or .655 and .345; .655 * .99 + .345 * .2
    = .717 is foreground, against a student with .95 for the background, which is surer;
    conflict: the same, with a student of .6 for the background: the mean's class remains, in doubt at .717;
    conflict: the same, with a student of .99 for the foreground: both name one class, and .717 remains in doubt.
    """
    first, second, student = (0.9, 0.99, 0.99, 0.99), (0.9, 0.2, 0.2, 0.2), (0.02, 0.05, 0.4, 0.99)
    terms, pull = settled(first, second, student)
    assert pull == [1, -1, 0, 0]
    assert terms.shown["sure"].item() == 0.5
    assert terms.shown["conflict"].item() == 0.75
    # 2 * ramp * mean over sure voxels of -log p.
    expected = 2 * torch.tensor(-5 * 0.25).exp() * -(torch.tensor(0.02).log() + torch.tensor(0.95).log()) / 2
    assert terms.losses["pseudo"].item() == pytest.approx(expected.item(), rel=1e-5)
    _, pull = settled(first, second, student, confidence=0.7)
    assert pull == [1, -1, 1, 1]


def test_a_sure_student_does_not_overrule_teachers_who_agree(turn):
    _, pull = settled((0.85,) * 4, (0.85,) * 4, (0.001,) * 4)
    assert pull == [1, 1, 1, 1]


def test_padding_does_not_count(turn):
    method, batch = make_toy_method("ad_mt", dims=2, **PLAIN), toy_batch(dims=2, padded=False)
    method.teacher_1 = method.teacher_2 = Columns(0.9, 0.9, 0.9, 0.9)
    method.student = Columns(0.5, 0.1, 0.1, 0.1)
    batch.valid_u[..., 4:] = False
    found = run_forward(method, batch, toy_progress()).losses["pseudo"].item()
    assert found == pytest.approx(2 * 0.286505 * 0.693147, rel=1e-4)


@in_2d_and_3d
def test_one_turn_shows_strong_intensities_the_other_boxes_of_the_next_crop(dims, turn):
    method, batch = make_toy_method("ad_mt", dims=dims, **PLAIN), toy_batch(dims=dims, padded=False)
    with spied(method.student) as student, spied(method.teacher_1) as first, spied(method.teacher_2) as second:
        run_forward(method, batch, toy_progress())
    for calls in (first, second, student[1:2]):  # labels are of the clean crop
        assert [torch.equal(image, batch.image_u) for image, _ in calls] == [True]
    seen = student[2][0]
    brought = (seen == batch.image_u.roll(-1, 0)).float().mean().item()
    kept = (seen == batch.image_u).float().mean().item()
    if turn == 0:
        assert kept < 0.5
        assert brought < 0.1
    else:
        assert brought == pytest.approx(0.5, abs=0.15)
        assert brought + kept == 1


def test_boxes_bring_the_labels_settled_without_them(monkeypatch):
    """A net that reads each voxel finds the same with and without boxes, so that only lost labels would cost."""

    class Reader(torch.nn.Module):
        def forward(self, image):
            return torch.cat([torch.zeros_like(image), 50 * (image - 1)], 1)

    monkeypatch.setattr(ad_mt, "turns_before", lambda *_: 1)
    method = make_toy_method("ad_mt", dims=2, **PLAIN)
    method.teacher_1 = method.teacher_2 = method.student = Reader()
    assert run_forward(method, toy_batch(dims=2, padded=False), toy_progress()).losses["pseudo"].item() < 0.05


@pytest.mark.parametrize(
    ("mode", "expected"), [("paper", [(True, False), (False, True)]), ("eval", [(False, False)] * 2)]
)
def test_the_teacher_whose_turn_it_is_has_dropout_and_the_student_labels_without(mode, expected, turn):
    method = make_toy_method("ad_mt", dims=2, teacher_mode=mode, **PLAIN).train()
    modes = {"student": [], "teacher_1": [], "teacher_2": []}
    for name, found in modes.items():
        method.get_submodule(name).register_forward_hook(lambda net, *_, found=found: found.append(net.training))
    run_forward(method, toy_batch(dims=2), toy_progress())
    assert (*modes["teacher_1"], *modes["teacher_2"]) == expected[turn]
    assert modes["student"] == [True, False, True]


def test_both_teachers_follow_at_the_start_and_then_one_at_a_time():
    """With alpha 1/2 the plain average ends with the first step: min(1 - 1/(step + 1), 1/2) is 0, then 1/2."""
    method = make_toy_method("ad_mt", dims=2, ema_decay=0.5, longest_turn=1, **PLAIN)
    moved = []
    for step in range(4):
        before = copy.deepcopy(method.state_dict())
        run_steps(method, [toy_batch(dims=2, seed=step)], stage=STAGE, first=step)
        after = method.state_dict()
        moved.append([_differs(before, after, f"teacher_{number}.") for number in (1, 2)])
    assert moved == [[True, True], [False, True], [True, False], [False, True]]
    assert any(not torch.equal(a, b) for a, b in zip(*(_weights(method, n) for n in (1, 2)), strict=True))


def test_the_longest_turn_is_a_field():
    method = make_toy_method("ad_mt", dims=2, longest_turn=1)
    assert [method._turn(toy_progress(step)) for step in range(4)] == [0, 1, 0, 1]
    method = make_toy_method("ad_mt", dims=2, longest_turn=500)
    assert len({method._turn(toy_progress(step)) for step in range(4)}) == 1


def _weights(method, number):
    return list(method.get_submodule(f"teacher_{number}").parameters())


def _differs(before, after, prefix):
    return any(not torch.equal(before[key], after[key]) for key in before if key.startswith(prefix))
