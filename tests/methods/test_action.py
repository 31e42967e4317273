"""ACTION: which pixels ask, which answer, and what the student sees."""

import pytest
import torch
from anatomical import PLAIN, SMALL
from crops import all_stages, freeze, make_toy_method, run_forward, run_steps, spied, toy_batch, toy_progress

PRETRAIN, FINETUNE = all_stages("action")


def make(stage=FINETUNE, **fields):
    method = make_toy_method("action", dims=2, net={"dropout": 0.0}, **(SMALL | {"neighbours": 0} | PLAIN | fields))
    freeze(method, stage)
    return method.train()


def step(method, batch=None):
    return run_forward(method, batch or toy_batch(dims=2), toy_progress(stage="finetune"))


def sure_of(method, probability):
    """Let both nets find the foreground with this probability at every voxel."""
    with torch.no_grad():
        for net in (method.student, method.teacher):
            net.decoders[0].out.weight.zero_()
            net.decoders[0].out.bias.copy_(torch.tensor([1 - probability, probability]).log())
    return method


def test_a_pixel_that_the_teacher_is_sure_of_does_not_ask():
    asked = {p: step(sure_of(make(alpha=0), p)).losses["contrast"].item() for p in (0.96, 0.98)}
    assert asked[0.96] > 0
    assert asked[0.98] == 0, "the foreground is easy, and the background's .02 is below `anchor_above`"
    assert step(sure_of(make(alpha=0, anchor_below=0.99), 0.98)).losses["contrast"] > 0


def test_without_neighbours_there_is_no_such_loss_and_with_some_there_is():
    assert set(step(make()).losses) == {"supervised", "unsupervised", "contrast"}
    assert "neighbours" in step(make(neighbours=2)).losses
    assert make().anatomy.student.images is None
    assert make(neighbours=2).anatomy.student.images is not None


def test_negatives_are_of_the_step_whatever_is_remembered():
    method = make()
    run_steps(method, [toy_batch(dims=2, seed=seed) for seed in range(3)], stage=FINETUNE)
    assert (method.anatomy.banks.written > 0).all()
    before = step(method).losses["contrast"].item()
    method.anatomy.banks.rows.normal_()
    assert step(method).losses["contrast"].item() == before
    method.anatomy.draws = type(method.anatomy.draws)(**(vars(method.anatomy.draws) | {"source": "bank"}))
    assert step(method).losses["contrast"].item() != before


def test_the_student_sees_mixed_crops_in_strong_intensities_and_the_teacher_as_they_are():
    method = make(mix="none")
    batch = toy_batch(dims=2, padded=False)
    with spied(method.student.encoder) as seen, spied(method.teacher.encoder) as taught:
        step(method, batch)
    assert torch.equal(seen[0][0], batch.image_l)
    assert not torch.equal(seen[1][0], batch.image_u)
    assert all(torch.equal(image, batch.image_u) for image, _ in taught if len(image) == 4)


def test_weights_scale_their_terms():
    found = step(make(confidence=0.0)).losses
    more = step(make(confidence=0.0, weight_contrast=0.3, weight_unsupervised=2.0)).losses
    assert more["contrast"].item() == pytest.approx(3 * found["contrast"].item())
    assert more["unsupervised"].item() == pytest.approx(2 * found["unsupervised"].item())
    assert found["unsupervised"] > 0
