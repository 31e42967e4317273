"""ICT: what is blended with what, and which voxels count."""

import pytest
import torch
from crops import make_toy_method, run_forward, spied, toy_batch, toy_progress
from pydantic import ValidationError

from semivox.ops.fields import beta
from semivox.ops.ramps import sigmoid_rampup

PLAIN = {"geometry": "none", "intensity": "none", "net": {"dropout": 0.0}}
in_2d_and_3d = pytest.mark.parametrize("dims", [2, 3])


def shares(concentration=0.2, crops=4):
    """Return the partners' shares that a step draws, one for each crop."""
    return beta((crops,), toy_progress().generator("share"), concentration)


class Reader(torch.nn.Module):
    """Says foreground with the probability that an image's value is."""

    def forward(self, image):
        return torch.cat([1 - image, image], 1).log()


def levels(*values):
    """Return a batch whose unlabelled crops have one value each."""
    batch = toy_batch(dims=2, unlabelled=len(values), padded=False)
    batch.image_u = torch.tensor(values).reshape(-1, 1, 1, 1).expand_as(batch.image_u).clone()
    batch.image_l = batch.image_l.clamp(0.1, 0.9)
    return batch


def consistency(batch, *, student=None, **fields):
    method = make_toy_method("ict", dims=2, **PLAIN | fields)
    method.teacher, method.student = Reader(), student or Reader()
    return run_forward(method, batch, toy_progress()).losses["consistency"].item()


@in_2d_and_3d
def test_the_student_sees_every_crop_blended_with_the_next_and_the_teacher_sees_them_clean(dims):
    method, batch = make_toy_method("ict", dims=dims, concentration=1.0, **PLAIN), toy_batch(dims=dims)
    with spied(method.student) as seen, spied(method.teacher) as taught:
        run_forward(method, batch, toy_progress())
    assert torch.equal(taught[0][0], batch.image_u)
    assert not taught[0][1].requires_grad
    s = shares(1.0)
    assert len(set(s.tolist())) == 4
    for crop, other in enumerate((1, 2, 3, 0)):
        expected = (1 - s[crop]) * batch.image_u[crop] + s[crop] * batch.image_u[other]
        torch.testing.assert_close(seen[1][0][crop], expected)


def test_the_students_crops_have_random_intensities_and_the_teachers_have_not():
    method, batch = make_toy_method("ict", dims=2, **PLAIN | {"intensity": "strong"}), toy_batch(dims=2, unlabelled=1)
    with spied(method.student) as seen, spied(method.teacher) as taught:
        run_forward(method, batch, toy_progress())
    assert torch.equal(taught[0][0], batch.image_u)
    assert not torch.equal(seen[1][0], batch.image_u)


def test_what_is_linear_in_the_image_agrees_exactly_and_what_is_not_is_off_by_hand():
    """Crops of .2 and .8: of a student that always says one half the error is that of the blends."""

    class Half(torch.nn.Module):
        def forward(self, image):
            return torch.zeros(len(image), 2, *image.shape[2:])

    batch = levels(0.2, 0.8)
    assert consistency(batch) == pytest.approx(0, abs=1e-12)
    first, second = shares(crops=2).tolist()
    blends = 0.2 + 0.6 * first, 0.8 - 0.6 * second
    expected = sum((0.5 - p) ** 2 for p in blends) / 2
    found = consistency(batch, student=Half(), weight=0.3)
    assert found == pytest.approx(0.3 * sigmoid_rampup(0.5) * expected, rel=1e-5)


def test_a_voxel_counts_where_both_crops_are_valid():
    class Half(torch.nn.Module):
        def forward(self, image):
            return torch.zeros(len(image), 2, *image.shape[2:])

    batch = levels(0.2, 0.2)
    batch.image_u[0, :, 0] = 0.9  # wrong in one row of one crop
    whole = consistency(batch, student=Half())
    batch.valid_u[1, 0] = False  # which is padding in the other
    part = consistency(batch, student=Half(), weight=1.0)
    assert part == pytest.approx(sigmoid_rampup(0.5) * 0.3**2, rel=1e-4)
    assert 10 * whole != pytest.approx(part, rel=1e-3)


def test_a_mode_for_the_teacher_and_a_concentration_above_one_is_refused():
    method = make_toy_method("ict", teacher_mode="eval").train()
    assert not any(module.training for module in method.teacher.modules())
    assert make_toy_method("ict").train().teacher.training
    with pytest.raises(ValidationError):
        make_toy_method("ict", concentration=1.5)
