"""What MONA has beside ARCO: predictions move with the image."""

import pytest
import torch
from anatomical import FINETUNE, PLAIN, SMALL, in_2d_and_3d
from crops import freeze, make_toy_method, run_forward, spied, toy_batch, toy_progress

from semivox.methods import mona
from semivox.ops.motion import geometry


def make(dims, **fields):
    method = make_toy_method("mona", dims=dims, net={"dropout": 0.0}, **(SMALL | PLAIN | fields))
    freeze(method, FINETUNE)
    return method.train()


def equivariance(method, dims):
    terms = run_forward(method, toy_batch(dims=dims, padded=False), toy_progress(stage="finetune"))
    return terms.losses["equivariance"]


def still(monkeypatch):
    """Let no image move or change in intensity."""
    monkeypatch.setattr(mona, "intensity", lambda image, *_, **__: image)
    monkeypatch.setattr(mona, "geometry", lambda shape, generator, _, **options: geometry(shape, generator, "none"))


@in_2d_and_3d
def test_the_prediction_of_an_image_that_does_not_change_is_its_own_target(dims, monkeypatch):
    method = make(dims, equivariance_confidence=0.0)
    assert equivariance(method, dims) > 1e-4
    still(monkeypatch)
    assert equivariance(method, dims).item() == pytest.approx(0, abs=1e-6)


@in_2d_and_3d
def test_where_no_pixel_is_confident_the_equivariance_is_an_exact_zero(dims):
    assert equivariance(make(dims, equivariance_confidence=1.0), dims).item() == 0


def test_background_takes_no_part(monkeypatch):
    method = make(2, equivariance_confidence=0.0)
    with torch.no_grad():
        for net in (method.student, method.teacher):
            net.decoders[0].out.bias[0] = 1e4
    assert equivariance(method, 2).item() == 0


def test_the_student_sees_three_batches_the_unlabelled_one_twice_in_two_intensities():
    method = make(2)
    with spied(method.student.encoder) as seen:
        equivariance(method, 2)
    labelled, first, second = (image for image, _ in seen)
    assert labelled.shape[0] == 2
    assert first.shape == second.shape
    assert not torch.equal(first, second)
