"""FixMatch: who sees what, and which voxels teach."""

import math

import pytest
import torch
from crops import make_toy_method, run_forward, spied, toy_batch, toy_progress

PLAIN = {"geometry": "none", "intensity": "none"}


class Columns(torch.nn.Module):
    """Gives the voxels of the first four columns, of 16, one probability of the foreground, and all others another."""

    def __init__(self, first, others):
        super().__init__()
        p = torch.tensor([first] * 4 + [others] * 12)
        self.logits = torch.nn.Parameter(torch.stack([1 - p, p]).log())  # (2, 16)

    def forward(self, image):
        return self.logits[:, None].expand(len(image), 2, image.shape[2], 16)


def step(student, *, batch=None, **fields):
    """Return the match and what is shown, with the student in place."""
    method = make_toy_method("fixmatch", dims=2, **PLAIN | fields)
    method.student = student
    terms = run_forward(method, batch or toy_batch(dims=2, padded=False), toy_progress())
    return terms.losses["match"], terms.shown["sure"].item()


def test_the_loss_is_the_mean_over_all_voxels_and_those_in_doubt_add_nothing():
    match, sure = step(Columns(0.98, 0.7), weight=0.5)
    assert sure == 0.25
    assert match.item() == pytest.approx(0.5 * 0.25 * -math.log(0.98), rel=1e-4)


def test_voxels_in_doubt_are_ignored_and_not_taught_as_background():
    student = Columns(0.98, 0.7)
    step(student)[0].backward()
    gradient = student.logits.grad
    assert (gradient[1, :4] < 0).all()  # the foreground gains where it is sure
    assert (gradient[:, 4:] == 0).all()


@pytest.mark.parametrize(("tau", "sure"), [(0.95, 0.25), (0.5, 1.0), (0.99, 0.0)])
def test_a_voxel_counts_from_the_threshold_on(tau, sure):
    match, found = step(Columns(0.98, 0.3), confidence=tau)  # of .3 it is .7 for the background
    assert found == sure
    assert (match.item() > 0) == (sure > 0)


def test_padding_neither_counts_nor_is_counted():
    batch = toy_batch(dims=2, padded=False)
    batch.valid_u[..., 2:] = False
    match, sure = step(Columns(0.98, 0.7), batch=batch)
    assert sure == 1
    assert match.item() == pytest.approx(-math.log(0.98), rel=1e-4)


@pytest.mark.parametrize("dims", [2, 3])
def test_the_student_labels_the_clean_crop_and_learns_on_a_strongly_shaded_one_of_the_same_geometry(dims):
    method, batch = make_toy_method("fixmatch", dims=dims, geometry="wide", intensity="none"), toy_batch(dims=dims)
    with spied(method.student.encoder) as seen:
        run_forward(method, batch, toy_progress())
    (labelled, _), (clean, _), (shaded, _) = seen
    view = method.augment(batch, toy_progress())
    assert torch.equal(labelled, view.image_l)
    assert torch.equal(clean, view.clean_u)
    assert not torch.equal(shaded, clean)
    assert torch.equal(shaded == 0, clean == 0)  # padding stays where it was: the geometry is the same


@pytest.mark.parametrize(("mode", "dropping"), [("eval", [True, False, True]), ("train", [True, True, True])])
def test_labels_are_made_without_dropout_or_with_it(mode, dropping):
    method = make_toy_method("fixmatch", dims=2, label_mode=mode, **PLAIN).train()
    modes = []
    method.student.encoder.register_forward_hook(lambda module, *_: modes.append(module.training))
    run_forward(method, toy_batch(dims=2), toy_progress())
    assert modes == dropping
    assert method.student.training
