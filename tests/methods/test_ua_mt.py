"""UA-MT: what measures the teacher's doubt, and which voxels count."""

import pytest
import torch
from crops import make_toy_method, run_forward, spied, toy_batch, toy_progress
from pydantic import ValidationError

from semivox.ops.ramps import sigmoid_rampup

PLAIN = {"geometry": "none", "intensity": "none", "noise": 0.0}
in_2d_and_3d = pytest.mark.parametrize("dims", [2, 3])


class Says(torch.nn.Module):
    """Gives every voxel the same class probabilities: those of its first call, of its second, and so on in a circle."""

    def __init__(self, *answers):
        super().__init__()
        self.answers, self.calls = [torch.tensor(p) for p in answers], 0

    def forward(self, image):
        p = self.answers[self.calls % len(self.answers)]
        self.calls += 1
        return p.log().reshape(1, -1, *[1] * (image.ndim - 2)).expand(len(image), -1, *image.shape[2:])


def terms_of(teacher, *, student=(0.6, 0.4), step=5, batch=None, **fields):
    classes = len(student)
    method = make_toy_method("ua_mt", dims=2, net={"classes": classes}, **PLAIN | {"passes": 2} | fields)
    method.student, method.teacher = Says(student), teacher
    return run_forward(method, batch or toy_batch(dims=2, classes=classes), toy_progress(step))


def share_that_counts(*args, **more):
    return terms_of(*args, **more).shown["sure"].item()


def test_the_consistency_is_the_mean_square_over_voxels_that_count():
    """The student says (.6, .4), the teacher (.9, .1), of entropy .469: all count, each with .3^2."""
    loss = terms_of(Says((0.9, 0.1)), weight=0.5).losses["consistency"].item()
    assert loss == pytest.approx(0.5 * sigmoid_rampup(0.5) * 0.09, rel=1e-5)


def test_voxels_of_doubt_do_not_count_and_the_limit_rises_with_the_ramp():
    """(.75, .25) has an entropy of .8113; the limit is .7517 at first, .8216 in the middle."""
    assert share_that_counts(Says((0.75, 0.25)), step=0) == 0
    assert share_that_counts(Says((0.75, 0.25)), step=5) == 1
    assert terms_of(Says((0.75, 0.25)), step=0).losses["consistency"].item() == 0
    assert share_that_counts(Says((0.75, 0.25)), limits=(0.8, 0.8)) == 0
    assert share_that_counts(Says((0.75, 0.25)), step=0, limits=(0.8, 0.9)) == 0
    assert share_that_counts(Says((0.75, 0.25)), step=0, limits=(0.82, 0.9)) == 1


def test_limits_are_shares_of_log_k_and_those_of_log_two_are_within_reach():
    """Of four classes two are alike and two as good as impossible: the entropy is ln 2, half of ln 4."""
    two = (0.5 - 1e-9, 0.5 - 1e-9, 1e-9, 1e-9)
    student = (0.25, 0.25, 0.25, 0.25)
    assert share_that_counts(Says(two), student=student, step=0) == 1
    assert share_that_counts(Says(two), student=student, step=9, limits=(0.375, 0.5)) == 0


def test_doubt_is_that_of_the_mean_of_the_passes_not_the_mean_of_their_doubts():
    """The first call is the target; each pass is sure, of the other class: their mean is not."""
    assert share_that_counts(Says((0.99, 0.01), (0.01, 0.99))) == 0
    assert share_that_counts(Says((0.99, 0.01))) == 1


def test_padding_does_not_count():
    batch = toy_batch(dims=2)
    batch.image_u[:, :, :2] = 5
    method = make_toy_method("ua_mt", dims=2, net={"dropout": 0.0}, limits=(1.1, 1.1), **PLAIN)
    loss = run_forward(method, batch, toy_progress()).losses["consistency"].item()
    assert loss == 0  # equal nets, equal views

    class Half(torch.nn.Module):
        def forward(self, image):
            return torch.cat([torch.zeros_like(image), (image == 5) * 1.0], 1)

    method.teacher = Half()
    method.student = Says((0.5, 0.5))
    assert run_forward(method, batch, toy_progress()).losses["consistency"].item() == 0
    batch.valid_u[:] = True
    assert run_forward(method, batch, toy_progress()).losses["consistency"].item() > 0


@in_2d_and_3d
def test_each_pass_has_its_own_noise_on_the_clean_crop_and_the_target_has_none(dims):
    method = make_toy_method("ua_mt", dims=dims, passes=3, geometry="none", intensity="strong")
    batch = toy_batch(dims=dims)
    with spied(method.student) as seen, spied(method.teacher) as taught:
        run_forward(method, batch, toy_progress())
    (target, answer), *passes = taught
    assert torch.equal(target, batch.image_u)
    assert not answer.requires_grad
    assert len(passes) == 3
    noises = [image - batch.image_u for image, _ in passes]
    assert all(0.19 < noise.abs().max() <= 0.2001 for noise in noises)
    assert not torch.equal(noises[0], noises[1])
    assert not torch.equal(noises[1], noises[2])
    assert (seen[1][0] - batch.image_u).abs().max() > 0.2001  # its intensities too


def test_each_pass_has_its_own_dropout():
    method = make_toy_method("ua_mt", dims=2, passes=2, net={"filters": 4}, **PLAIN)
    with spied(method.teacher) as taught:
        run_forward(method, toy_batch(dims=2), toy_progress())
    logits = [answer for _, answer in taught]
    assert torch.equal(taught[1][0], taught[2][0])
    assert not torch.equal(logits[1], logits[2])


def test_in_the_papers_views_the_student_has_no_noise_and_the_target_has():
    method = make_toy_method("ua_mt", dims=2, passes=1, geometry="none", intensity="none", teacher_view="paper")
    batch = toy_batch(dims=2)
    with spied(method.student) as seen, spied(method.teacher) as taught:
        run_forward(method, batch, toy_progress())
    assert torch.equal(seen[1][0], batch.image_u)
    noises = [image - batch.image_u for image, _ in taught]
    assert all(0.19 < noise.abs().max() <= 0.2001 for noise in noises)
    assert not torch.equal(noises[0], noises[1])


def test_limits_below_zero_and_no_pass_are_refused():
    for fields in ({"limits": (-0.1, 1.0)}, {"passes": 0}):
        with pytest.raises(ValidationError):
            make_toy_method("ua_mt", **fields)
