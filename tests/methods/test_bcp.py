"""BCP: what is pasted where, which voxels weigh what, and how its stages hang together."""

import math

import pytest
import torch
from crops import all_stages, make_toy_method, run_forward, run_steps, spied, toy_batch, toy_progress

PRETRAIN, MIX = all_stages("bcp")
PLAIN = {"geometry": "none", "intensity": "none", "net": {"dropout": 0.0}}
in_2d_and_3d = pytest.mark.parametrize("dims", [2, 3])


class Reader(torch.nn.Module):
    """Finds foreground where the image is above 1."""

    def forward(self, image):
        return torch.cat([torch.zeros_like(image), 50 * (image - 1)], 1)


class Says(torch.nn.Module):
    """Gives all voxels one probability of the foreground."""

    def __init__(self, p):
        super().__init__()
        self.p = p

    def forward(self, image):
        return torch.cat([torch.full_like(image, math.log(1 - self.p)), torch.full_like(image, math.log(self.p))], 1)


def make(*, dims=2, teacher=None, **fields):
    method = make_toy_method("bcp", dims=dims, **PLAIN | fields).train()
    method.teacher = teacher or method.teacher
    return method


def mixed(batch, *, step=4, **fields):
    """Return the mixed crops of a step and the pseudo labels in them."""
    method, progress = make(dims=batch.image_l.ndim - 2, teacher=Reader(), **fields), toy_progress(step, stage="mix")
    _, q = method._labels(batch.image_u)
    return method._mixed(method.augment(batch, progress), batch.image_u, batch.valid_u, q, progress), q


@in_2d_and_3d
def test_boxes_of_two_thirds_go_both_ways_and_bring_image_and_label(dims):
    batch = toy_batch(dims=dims, padded=False)
    made, q = mixed(batch)
    voxels = batch.label_l[0].numel()
    box = math.prod(2 * length // 3 for length in batch.label_l.shape[1:])
    assert made.labelled.flatten(1).sum(1).tolist() == [voxels - box, box, voxels - box, box]
    for crop, labelled in enumerate(made.labelled):
        assert torch.equal(made.image[crop, 0][labelled], batch.image_l[crop % 2, 0][labelled])
        assert torch.equal(made.label[crop][labelled], batch.label_l[crop % 2][labelled])
        assert torch.equal(made.image[crop, 0][~labelled], batch.image_u[crop, 0][~labelled])
        assert torch.equal(made.label[crop][~labelled], q[crop][~labelled])
    assert made.valid.all()


def test_from_step_to_step_the_two_ways_change_places():
    batch = toy_batch(dims=2, unlabelled=1, labelled=1, padded=False)
    parts = [mixed(batch, step=step)[0].labelled.float().mean().item() for step in (4, 5)]
    assert parts == [1 - 100 / 256, 100 / 256]


@pytest.mark.parametrize(("labelled", "unlabelled"), [(2, 4), (4, 2), (3, 3), (1, 2)])
def test_there_are_as_many_mixed_crops_as_the_larger_stream_has(labelled, unlabelled):
    batch = toy_batch(dims=2, labelled=labelled, unlabelled=unlabelled, padded=False)
    made, _ = mixed(batch)
    assert len(made.image) == len(made.label) == max(labelled, unlabelled)
    last = made.labelled[-1]
    assert torch.equal(made.image[-1, 0][last], batch.image_l[-1, 0][last])
    assert torch.equal(made.image[-1, 0][~last], batch.image_u[-1, 0][~last])


def test_nothing_is_pasted_into_padding_or_from_it():
    batch = toy_batch(dims=2, padded=False)
    batch.valid_l[:, :8], batch.valid_u[..., :8] = False, False
    made, _ = mixed(batch)
    for crop, outward in enumerate((False, True, False, True)):
        box = made.labelled[crop] == outward
        assert not box[:8].any()
        assert not box[:, :8].any()
        frame = batch.valid_u[crop] if outward else batch.valid_l[crop % 2]
        assert torch.equal(made.valid[crop], frame)


def test_voxels_with_a_label_weigh_1_those_with_a_pseudo_label_alpha():
    """All labels are foreground, of which the student says .8: (-ln .8 + 1 - 1.6 / 1.64) / 2 on either side."""
    batch = toy_batch(dims=2, padded=False)
    batch.label_l[:] = 1
    method = make(teacher=Says(0.9))
    method.student = Says(0.8)
    losses = run_forward(method, batch, toy_progress(stage="mix")).losses
    expected = (-math.log(0.8) + 1 - 1.6 / 1.64) / 2
    assert losses["supervised"].item() == pytest.approx(expected, rel=1e-4)
    assert losses["pseudo"].item() == pytest.approx(0.5 * expected, rel=1e-4)
    method.teacher = Says(0.1)  # all background: no overlap, and -ln .2
    losses = run_forward(method, batch, toy_progress(stage="mix")).losses
    assert losses["supervised"].item() == pytest.approx(expected, rel=1e-4)
    assert losses["pseudo"].item() == pytest.approx(0.5 * (-math.log(0.2) + 1) / 2, rel=1e-3)


def test_the_largest_component_of_a_pseudo_label_is_kept_or_all_are():
    image = torch.zeros(1, 1, 16, 16)
    image[..., 2:6, 2:6] = 2
    image[..., 9:12, 9:12] = 2
    found, kept = make(teacher=Reader())._labels(image)
    assert (found.sum(), kept.sum()) == (25, 16)
    assert kept[0, 2:6, 2:6].all()
    assert torch.equal(*make(teacher=Reader(), component="all")._labels(image))


def test_the_teacher_labels_the_clean_crop_and_the_student_sees_shaded_ones():
    method, batch = make(intensity="strong"), toy_batch(dims=2)
    with spied(method.student) as seen, spied(method.teacher) as taught:
        run_forward(method, batch, toy_progress(stage="mix"))
    assert torch.equal(taught[0][0], batch.image_u)
    assert (len(seen), len(taught)) == (1, 1)
    known = torch.cat([batch.image_l, batch.image_u])
    assert not torch.isin(seen[0][0][seen[0][0] != 0], known).all()


@in_2d_and_3d
def test_the_first_stage_mixes_labelled_crops_with_each_other(dims):
    method, batch = make(dims=dims), toy_batch(dims=dims, labelled=3, unlabelled=0, padded=False)
    with spied(method.student) as seen:
        run_forward(method, batch, toy_progress(stage="pretrain"))
    for crop, image in enumerate(seen[0][0]):
        box = image != batch.image_l[crop]
        assert box.sum() == math.prod(2 * length // 3 for length in batch.label_l.shape[1:])
        assert torch.equal(image[box], batch.image_l[(crop + 1) % 3][box])


def test_the_teacher_is_the_student_in_the_first_stage_and_its_average_from_then_on():
    method, name = make(ema_decay=0.9), "decoders.0.out.weight"
    run_steps(method, [toy_batch(dims=2, unlabelled=0, seed=seed) for seed in range(2)], stage=PRETRAIN)
    start = method.student.get_parameter(name).detach().clone()
    assert torch.equal(method.teacher.get_parameter(name), start)
    run_steps(method, [toy_batch(dims=2)], stage=MIX)
    moved = method.student.get_parameter(name).detach()
    torch.testing.assert_close(method.teacher.get_parameter(name), 0.9 * start + 0.1 * moved)
    assert not torch.equal(moved, start)


def test_train_does_not_wake_a_teacher_in_eval_mode_and_the_share_of_the_start_is_a_field():
    assert not make(teacher_mode="eval").teacher.training
    assert make().teacher.training
    stages = type(make()).stages(make(pretrain=0.1).config)
    assert [stage.share for stage in stages] == [0.1, 0.9]
