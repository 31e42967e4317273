"""ARCO's views and pixels: what the nets look at, what is mixed, which pixels take part."""

import pytest
import torch
from anatomical import PLAIN, PRETRAIN, in_2d_and_3d, make
from crops import SIZES, run_forward, spied, toy_batch, toy_progress

from semivox.ops.sampling import default_grid

# What the nets see


@in_2d_and_3d
def test_pretraining_compares_one_geometry_in_two_intensities(dims):
    method = make(dims=dims, stage=PRETRAIN, intensity="none")
    batch = toy_batch(dims=dims, padded=False)
    with spied(method.student.encoder) as student, spied(method.teacher.encoder) as teacher:
        run_forward(method, batch, toy_progress(stage="pretrain"))
    assert [len(image) for image, _ in student] == [2, 4]  # labelled first
    assert [len(image) for image, _ in teacher] == [4]
    seen, taught = student[1][0], teacher[0][0]
    assert not torch.equal(seen, taught)
    assert torch.corrcoef(torch.stack([seen[0].flatten(), taught[0].flatten()]))[0, 1] > 0.8
    assert not torch.equal(seen, batch.image_u)  # another geometry than the crop's


@in_2d_and_3d
def test_finetuning_labels_the_clean_crops_and_compares_the_mixed_ones(dims):
    method = make(dims=dims, **PLAIN)
    batch = toy_batch(dims=dims)
    with spied(method.student.encoder) as student, spied(method.teacher.encoder) as teacher:
        run_forward(method, batch, toy_progress(stage="finetune"))
    assert torch.equal(student[0][0], batch.image_l)
    assert torch.equal(teacher[0][0], batch.image_l)
    assert torch.equal(teacher[1][0], batch.image_u)
    assert torch.equal(teacher[2][0], student[1][0])
    assert not torch.equal(student[1][0], batch.image_u)
    assert len(student) == 2
    assert len(teacher) == 3


def test_without_mixing_the_student_sees_the_clean_crops():
    method = make(mix="none", **PLAIN)
    batch = toy_batch(dims=2)
    with spied(method.student.encoder) as student:
        run_forward(method, batch, toy_progress(stage="finetune"))
    assert torch.equal(student[1][0], batch.image_u)


class Reader(torch.nn.Module):
    """A teacher that reads the class and its logit off the image: 2.5 is class 2, by .5."""

    def forward(self, image):
        own = image.floor().long()[:, 0]
        logit = (image[:, 0] - own).unsqueeze(1)
        return torch.where(torch.arange(4).reshape(1, 4, *[1] * (image.ndim - 2)) == own.unsqueeze(1), 10 * logit, 0.0)


@in_2d_and_3d
@pytest.mark.parametrize("kind", ["box", "class"])
def test_pseudo_labels_confidence_and_padding_are_mixed_as_the_image_is(kind, dims):
    method = make(dims=dims, net={"classes": 4}, mix=kind)
    method.teacher = Reader()
    random = torch.Generator().manual_seed(0)
    valid = torch.ones(3, *SIZES[dims], dtype=torch.bool)
    valid[1, :6] = False
    image = (4 * torch.rand(3, 1, *SIZES[dims], generator=random)) * valid.unsqueeze(1)
    view = toy_batch(dims=dims)  # its own crops are not looked at
    mixed, taught, q, confidence, kept = method._mixed(view, image, valid, toy_progress())
    assert torch.equal(taught, mixed)
    own, sure = Reader()(mixed).softmax(1).argmax(1), Reader()(mixed).softmax(1).amax(1)
    assert torch.equal(q[kept], own[kept])
    torch.testing.assert_close(confidence[kept], sure[kept])
    assert torch.equal(kept, mixed[:, 0] != 0)
    for item in range(3):
        mine, partners = mixed[item] == image[item], mixed[item] == image[(item + 1) % 3]
        assert (mine | partners)[kept[item : item + 1]].all()
        assert 0.2 < mine.float().mean() < 0.85
    assert torch.equal(kept[0], valid[0])  # no padding is pasted


# Which pixels take part


def roles(method, logits_s, logits_t, label, *, step=0, labelled=False, valid=None):
    """Return where pixels are anchors, make prototypes, are remembered, always as what they are labelled."""
    valid = torch.ones_like(label, dtype=torch.bool) if valid is None else valid
    with torch.no_grad():
        found = method._roles(logits_s, logits_t, label, valid, toy_progress(step, stage="finetune"), labelled=labelled)
    classes = method.student.classes
    assert all(torch.equal(role[role < classes], label[:, 1::2, 1::2][role < classes]) for role in found)
    return [role < classes for role in found]


def random_logits(classes=3, images=2):
    logits = 3 * torch.randn(images, classes, 16, 16, generator=torch.Generator().manual_seed(0))
    return logits, logits.argmax(1)


def test_labelled_pixels_are_sure_and_anchors_where_the_teacher_knows_the_class():
    method = make(net={"classes": 3})
    logits, _ = random_logits()
    label = torch.randint(3, (2, 16, 16), generator=torch.Generator().manual_seed(1))
    anchors, prototypes, keys = roles(method, logits, logits, label, labelled=True)
    p_own = logits.softmax(1).gather(1, label[:, None])[:, 0, 1::2, 1::2]
    assert torch.equal(anchors, p_own > 0.3)
    assert prototypes.all()
    assert keys.all()
    hard, *_ = roles(make(net={"classes": 3}, anchor_below=0.9), logits, logits, label, labelled=True)
    assert torch.equal(hard, (p_own > 0.3) & (p_own <= 0.9))


@pytest.mark.parametrize(("step", "share"), [(0, 0.2), (5, 0.1), (9, 0.02)])
def test_of_unlabelled_pixels_those_of_lowest_entropy_take_part_and_ever_fewer(step, share):
    """T17: alpha_t falls from 20 % to 0; 128 pixels compete, all of them together as released."""
    method = make(net={"classes": 3}, anchors_from="released", alpha_floor=0.0)
    logits, label = random_logits()
    anchors, prototypes, keys = roles(method, logits, -logits, label, step=step)
    assert prototypes.sum() == int(share * 128)
    assert keys.all()
    doubt = torch.special.entr(logits.softmax(1)).sum(1)[:, 1::2, 1::2]
    assert doubt[prototypes].max() <= doubt[~prototypes].min()
    assert not anchors.any()  # the teacher thinks otherwise
    anchors, prototypes, _ = roles(method, logits, logits, label, step=step)
    assert torch.equal(anchors, prototypes)


@pytest.mark.parametrize(("step", "share"), [(0, 0.2), (5, 0.1), (9, 0.05)])
def test_unlabelled_pixels_compete_within_their_pseudo_class_and_some_always_take_part(step, share):
    method = make(net={"classes": 3})
    logits, label = random_logits()
    logits = torch.where(label[:, None] == 0, 5 * logits, logits)  # background is surer than any foreground
    label = logits.argmax(1)
    _, prototypes, _ = roles(method, logits, logits, label, step=step)
    y, doubt = label[:, 1::2, 1::2], torch.special.entr(logits.softmax(1)).sum(1)[:, 1::2, 1::2]
    for k in range(3):
        assert prototypes[y == k].sum() == int(share * (y == k).sum() + 1e-6) > 0
        assert doubt[prototypes & (y == k)].max() <= doubt[~prototypes & (y == k)].min()


def test_the_teacher_labels_clean_crops_whatever_the_student_sees():
    batch = toy_batch(dims=2)
    for kind in ("clean", "released"):
        method = make(mix="none", geometry="none", intensity="strong", teacher_view=kind)
        with spied(method.student.encoder) as student, spied(method.teacher.encoder) as teacher:
            run_forward(method, batch, toy_progress(stage="finetune"))
        assert not torch.equal(student[1][0], batch.image_u)
        for image, _ in teacher[1:]:
            assert torch.equal(image, batch.image_u) == (kind == "clean")


def test_pixels_that_are_not_valid_take_no_part():
    method = make(net={"classes": 3}, alpha=1.0)
    logits, label = random_logits()
    valid = torch.ones(2, 16, 16, dtype=torch.bool)
    valid[0], valid[1, :8] = False, False
    for labelled in (True, False):
        for role in roles(method, logits, logits, label, labelled=labelled, valid=valid):
            assert role.sum() == 32
            assert role[1, 4:].all()


def test_released_keys_are_uncertain_unlabelled_pixels_of_rank_3_to_19():
    method = make(net={"classes": 24}, negatives="released", alpha=0.5)
    logits_t = -torch.arange(24.0).expand(1, 16, 16, 24).movedim(-1, 1)  # class k has rank k
    label = torch.arange(256).reshape(1, 16, 16) // 2 % 24
    logits_s = torch.zeros(1, 24, 16, 16)
    logits_s[:, 0, :8] = 9  # the lower half is uncertain
    *_, keys = roles(method, logits_s, logits_t, label)
    expected = ((label >= 3) & (label < 20))[:, 1::2, 1::2]
    expected[:, :4] = False
    assert torch.equal(keys, expected)
    assert expected.any()
    *_, keys = roles(method, logits_s, logits_t, label, labelled=True)
    assert not keys.any()


@pytest.mark.parametrize(
    ("dims", "axis", "grid"), [(2, 2, (4, 4)), (3, 2, (4, 4, 2)), (3, 0, (2, 4, 4)), (3, 1, (4, 2, 4))]
)
def test_the_grid_has_4_by_4_cells_a_slice_and_two_across(dims, axis, grid):
    batch = toy_batch(dims=dims)
    batch.slice_axis = axis
    assert default_grid(batch.image_l.ndim - 2, batch.slice_axis) == grid
