"""The control."""

import torch
from crops import all_stages, make_toy_method, run_forward, toy_batch, toy_progress

from semivox.ops.dice import dice_ce


def test_the_loss_is_dice_and_cross_entropy_of_the_clean_crop_without_augmentation():
    method = make_toy_method("supervised", geometry="none", intensity="none", net={"dropout": 0.0})
    batch = toy_batch()
    expected = dice_ce(method.student(batch.image_l), batch.label_l, batch.valid_l)
    assert torch.equal(run_forward(method, batch, toy_progress()).losses["supervised"], expected)


def test_the_control_has_the_full_augmentation_and_draws_no_unlabelled_crop():
    config = make_toy_method("supervised").config
    assert (config.geometry, config.intensity) == ("affine", "weak")
    (stage,) = all_stages("supervised")
    assert stage.batch_unlabelled == 0
    assert stage.uses == {"labels"}


def test_the_net_normalises_instances_by_default():
    assert make_toy_method("supervised").student.norm == "instance"
