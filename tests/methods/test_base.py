"""What every method inherits: views of a whole batch, optimisers and schedules."""

import pytest
import torch
from crops import distances, make_toy_method, toy_batch, toy_progress

from semivox.ops.boundary import signed_distance


def augmented(batch, progress=None, **fields):
    dims = batch.image_l.ndim - 2
    return make_toy_method("supervised", dims=dims, **fields).augment(batch, progress or toy_progress())


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize("kind", ["flips", "turns"])
def test_labels_masks_and_distances_follow_an_exact_geometry(kind, dims):
    batch = toy_batch(dims=dims, classes=3)
    batch.image_l = batch.label_l[:, None].float()
    batch.label_u, batch.weight_u = (batch.image_u[:, 0] > 1).long(), batch.image_u[:, 0].abs()
    view = augmented(batch, geometry=kind, intensity="none")
    assert not torch.equal(view.label_l, batch.label_l)
    assert torch.equal(view.image_l[:, 0].long(), view.label_l)
    assert view.valid_l.sum() == batch.valid_l.sum()
    assert not view.label_l[~view.valid_l].any()
    assert torch.equal(view.targets_l["distances"], distances(view.label_l, 3))
    assert torch.equal(view.label_u, (view.image_u[:, 0] > 1).long())
    assert torch.equal(view.weight_u, view.image_u[:, 0].abs())


def test_what_a_method_adds_for_the_unlabelled_crops_moves_with_them():
    batch = toy_batch(dims=2)
    batch.targets_u = {"maps": batch.image_u.expand(-1, 3, -1, -1), "numbers": torch.arange(4)}
    view = augmented(batch, geometry="turns", intensity="none")
    assert torch.equal(view.targets_u["maps"], view.image_u.expand(-1, 3, -1, -1))
    assert not torch.equal(view.targets_u["maps"], batch.targets_u["maps"])
    assert torch.equal(view.targets_u["numbers"], torch.arange(4))


def test_affine_geometry_moves_image_label_and_distances_alike():
    batch = toy_batch(padded=False)
    batch.image_l = batch.label_l[:, None].float()
    view = augmented(batch, geometry="affine", intensity="none")
    assert not torch.equal(view.label_l, batch.label_l)
    assert ((view.image_l[:, 0] > 0.5) == (view.label_l == 1)).float().mean() > 0.97
    assert not view.image_l[:, 0][~view.valid_l].any()
    mask = (view.label_l == 1).unsqueeze(1)
    carried = signed_distance(view.targets_l["distances"], mask, view.valid_l)
    anew = signed_distance(distances(view.label_l, 2), mask, view.valid_l)
    assert (carried - anew).abs().mean() < 0.1


def test_the_batch_stays_as_it_was_and_targets_without_voxels_pass():
    batch = toy_batch()
    batch.targets_l["largest"] = torch.ones(2, 1, 2)
    before = batch.image_l.clone(), batch.label_l.clone(), batch.targets_l["distances"].clone()
    view = augmented(batch)
    assert torch.equal(view.targets_l["largest"], torch.ones(2, 1, 2))
    after = batch.image_l, batch.label_l, batch.targets_l["distances"]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    assert not torch.equal(view.image_l, batch.image_l)


def test_the_labelled_view_does_not_depend_on_the_unlabelled_crops():
    with_crops, without = augmented(toy_batch()), augmented(toy_batch(unlabelled=0))
    assert torch.equal(with_crops.image_l, without.image_l)
    assert without.image_u is None


def test_labelled_and_unlabelled_crops_draw_their_own_views():
    batch = toy_batch(unlabelled=2)
    batch.image_u, batch.valid_u = batch.image_l, batch.valid_l
    view = augmented(batch)
    assert not torch.equal(view.image_l, view.image_u)


def test_views_are_a_function_of_the_step_and_can_be_switched_off():
    batch = toy_batch()
    assert torch.equal(augmented(batch).image_u, augmented(batch).image_u)
    assert not torch.equal(augmented(batch).image_u, augmented(batch, toy_progress(6)).image_u)
    assert torch.equal(augmented(batch, geometry="none", intensity="none").image_u, batch.image_u)


@pytest.mark.parametrize("dims", [2, 3])
def test_labelled_crops_get_boxes_of_each_other_with_labels_masks_and_distances(dims):
    batch = toy_batch(dims=dims, classes=3)
    plain = augmented(batch, geometry="none", intensity="none")
    view = augmented(batch, geometry="none", intensity="none", cutmix_labelled=1.0)
    taken = (view.image_l != plain.image_l)[:, 0]
    assert taken.flatten(1).any(1).all()
    for mixed, one in ((view.label_l, plain.label_l), (view.valid_l, plain.valid_l | taken)):
        assert torch.equal(mixed, torch.where(taken, one.roll(-1, 0), one))
    one = plain.targets_l["distances"]
    assert torch.equal(view.targets_l["distances"], torch.where(taken[:, None, None], one.roll(-1, 0), one))
    assert torch.equal(view.image_u, plain.image_u)


def test_a_share_of_the_labelled_crops_is_mixed():
    batch = toy_batch(dims=2, padded=False)
    batch.image_l = torch.randn(64, *batch.image_l.shape[1:])
    batch.label_l, batch.valid_l = batch.image_l[:, 0].long(), torch.ones_like(batch.image_l[:, 0], dtype=torch.bool)
    batch.targets_l = {}
    view = augmented(batch, geometry="none", intensity="none", cutmix_labelled=0.25)
    assert 6 <= (view.image_l != batch.image_l).flatten(1).any(1).sum() <= 26


def test_schedules_fall_as_their_names_say():
    stage = None
    poly, drop = (make_toy_method("supervised", schedule=kind, drops=(0.5, 0.8)) for kind in ("poly", "drop"))
    assert [poly.schedule(stage, f) for f in (0, 0.5)] == [1, pytest.approx(0.5**0.9)]
    assert [drop.schedule(stage, f) for f in (0.49, 0.5, 0.9)] == [1, pytest.approx(0.1), pytest.approx(0.01)]
    assert make_toy_method("supervised", schedule="constant").schedule(stage, 0.9) == 1
