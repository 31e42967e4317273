"""SECL: groups of positions, by class or by cell of the scan, and who finds whom; both variants keep the contract."""

import copy

import pytest
import torch
from crops import all_stages, freeze, gradients, make_toy_method, run_forward, run_steps, toy_batch, toy_progress, warm
from torch import nn

from semivox.errors import ConfigError
from semivox.methods.secl import WEIGHTS, Config
from semivox.ops.contrast import group_contrast
from semivox.ops.ramps import sigmoid_rampup

(STAGE,) = all_stages("secl")
QUIET = {"geometry": "none", "intensity": "none", "net": {"dropout": 0.0}}
OPTIMISATION = {"weight_decay": 0.0, "schedule": "constant", "lr": 0.01, "momentum": 0.9}
both = pytest.mark.parametrize("contrast", ["region", "anatomical"])
in_2d_and_3d = pytest.mark.parametrize("dims", [2, 3])


def contrast_of(method, batch, progress=None):
    return run_forward(method, batch, progress or toy_progress()).losses["contrast"]


def groups_of(method, batch):
    """Return what a step hands to the contrast: anchors, keys, found, scans, and its terms."""
    seen = {}

    def watched(*given, **options):
        seen["given"] = given
        return group_contrast(*given, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("semivox.methods.secl.group_contrast", watched)
        terms = run_forward(method, batch, toy_progress())
    return *seen["given"], terms


def read_pixels(method):
    """Let the contrast compare the pixels themselves, of three colours, in place of projected features."""
    for net in (method.student, method.teacher):
        net.encoder.register_forward_hook(lambda _, given, features: features | {"pixels": given[0]})
    method.level, method.strides = "pixels", (1, 1)
    method.head, method.teacher_head = nn.Identity(), nn.Identity()
    return method


# By hand


def test_a_region_is_a_cell_of_the_scan_and_its_mean_is_of_the_positions_that_the_crop_shows():
    """A whole slice of 16 x 16 in 2 x 2 cells, and a crop that is the lower half of the same, twice as fine."""
    colours = QUIET | {"net": {"channels": 3}}
    method = read_pixels(make_toy_method("secl", dims=2, contrast="region", grid=(1, 2, 2), **colours))
    batch = toy_batch(dims=2, channels=3, labelled=1, unlabelled=1, padded=False)
    generator = torch.Generator().manual_seed(0)
    scan = torch.rand(3, 16, 16, generator=generator) + 0.1
    batch.image_l[0] = scan
    batch.image_u[0] = scan[:, 8:].repeat_interleave(2, 1)
    batch.span_u = torch.tensor([[[0.0, 1.0], [0.5, 1.0], [0.0, 1.0]]])
    anchors, keys, found, scans, _ = groups_of(method, batch)
    unit = nn.functional.normalize(scan, dim=0)
    means = [unit[:, x : x + 8, y : y + 8].mean((1, 2)) for x in (0, 8) for y in (0, 8)]
    assert found.tolist() == [[True] * 4, [False, False, True, True]]
    torch.testing.assert_close(anchors[0], torch.stack(means))
    torch.testing.assert_close(keys[1, 2:], torch.stack(means[2:]))
    assert scans.tolist() == [0, -1]


def test_a_class_is_a_mean_over_its_valid_positions_and_absent_where_there_is_none():
    method = read_pixels(make_toy_method("secl", dims=2, **QUIET | {"net": {"channels": 3}}))
    batch = toy_batch(dims=2, channels=3, labelled=2, unlabelled=0)
    batch.label_l[1] = 0
    anchors, _, found, scans, _ = groups_of(method, batch)
    unit = nn.functional.normalize(batch.image_l, dim=1)
    inside = (batch.label_l[0] == 1) & batch.valid_l[0]
    torch.testing.assert_close(anchors[0, 1], unit[0][:, inside].mean(1))
    torch.testing.assert_close(anchors[1, 0], unit[1][:, batch.valid_l[1]].mean(1))
    assert found.tolist() == [[True, True], [True, False]]
    assert scans is None


@both
def test_weight_and_ramp_at_the_middle(contrast):
    method = make_toy_method("secl", contrast=contrast, **QUIET)
    *given, terms = groups_of(method, toy_batch())
    expected = WEIGHTS[contrast] * sigmoid_rampup(0.5) * group_contrast(*given, tau=method.config.tau)
    assert expected > 0
    torch.testing.assert_close(terms.losses["contrast"], expected)
    halved = make_toy_method("secl", contrast=contrast, weight=WEIGHTS[contrast] / 2, **QUIET)
    torch.testing.assert_close(contrast_of(halved, toy_batch()), expected / 2)


# Regions


def test_a_cell_counts_where_the_crop_holds_half_of_it():
    """Of 4 cells along the second axis, a crop from .3 to .8 holds .8 of the second, the third, and .2 of the last."""
    method = make_toy_method("secl", dims=2, contrast="region", grid=(1, 4, 1), **QUIET, stride=1)
    batch = toy_batch(dims=2, padded=False)
    batch.span_u = torch.tensor([[0.0, 1.0], [0.3, 0.8], [0.0, 1.0]]).expand(4, 3, 2)
    assert groups_of(method, batch)[2].tolist() == [[True] * 4] * 2 + [[False, True, True, False]] * 4
    batch.valid_u = batch.valid_u.clone()
    batch.valid_u[0, :, :9] = False  # less than half of each is left
    assert not groups_of(method, batch)[2][2].any()


def test_places_move_with_the_crops():
    """Images that show where they lie in the scan show it still after a turn: a cell has the same content in all."""
    method = make_toy_method("secl", dims=2, contrast="region", grid=(1, 4, 4), **QUIET | {"geometry": "turns"})
    batch = toy_batch(dims=2, channels=1, padded=False)
    rows = torch.arange(16) // 4
    marks = (rows[:, None] * 4 + rows).float()
    batch.image_l, batch.image_u = (marks.expand_as(image).clone() for image in (batch.image_l, batch.image_u))
    view = method.augment(method._placed(batch), toy_progress())
    assert not torch.equal(view.image_u, batch.image_u)
    for image, targets in ((view.image_l, view.targets_l), (view.image_u, view.targets_u)):
        cells = (targets["places"][:, 1] * 4).floor() * 4 + (targets["places"][:, 2] * 4).floor()
        assert torch.equal(cells, image[:, 0])


def test_slices_of_other_heights_share_no_cell_and_slices_of_one_scan_are_no_positives():
    method = make_toy_method("secl", dims=2, contrast="region", **QUIET)
    batch = toy_batch(dims=2, labelled=2, unlabelled=2, padded=False)
    batch.span_l, batch.span_u = batch.span_l.clone(), batch.span_u.clone()
    batch.span_l[:, 0], batch.span_u[:, 0] = torch.tensor([0.1, 0.2]), torch.tensor([0.8, 0.9])
    found = groups_of(method, batch)[2]
    assert found[:2, :16].all()
    assert not found[:2, 16:].any()
    assert found[2:, 16:].all()
    assert contrast_of(method, batch) > 0  # both have a partner
    batch.case_u = torch.tensor([3, 3])
    alone = contrast_of(method, batch)
    batch.case_l = torch.tensor([3, 3])
    assert alone > 0
    assert contrast_of(method, batch) == 0


def test_an_unlabelled_scan_is_never_the_labelled_one_of_the_same_number():
    method = make_toy_method("secl", contrast="region", **QUIET)
    batch = toy_batch(labelled=1, unlabelled=1)
    assert batch.case_l.tolist() == batch.case_u.tolist() == [0]
    assert contrast_of(method, batch) > 0


def test_regions_ask_for_the_places_of_crops_and_classes_do_not():
    batch = toy_batch()
    batch.span_u = None
    assert contrast_of(make_toy_method("secl"), batch) > 0
    with pytest.raises(ConfigError, match=r"contrast = 'region' reads Batch\.span_u"):
        contrast_of(make_toy_method("secl", contrast="region"), batch)
    with pytest.raises(ConfigError, match="expected 3 numbers of cells"):
        make_toy_method("secl", dims=2, grid=(4, 4))


@in_2d_and_3d
def test_across_the_slices_there_are_two_cells(dims):
    assert make_toy_method("secl", dims=dims).grid == ((2, 4, 4) if dims == 2 else (4, 4, 2))


# Classes


def test_without_a_threshold_the_surest_half_of_each_pseudo_class_counts():
    """A filter of .9 lets no unlabelled foreground pass for hundreds of steps: here half of it always does."""
    doubtful = make_toy_method("secl", **QUIET)
    with torch.no_grad():
        for decoder in doubtful.teacher.decoders:
            decoder.out.weight *= 0.1  # nothing is sure
    strict = copy.deepcopy(doubtful)
    strict.config = Config(confidence=0.9, geometry="none", intensity="none")
    shown = run_forward(doubtful, toy_batch(), toy_progress()).shown
    assert [shown[f"class{k}_sure"].item() for k in range(2)] == pytest.approx([0.5, 0.5], abs=0.02)
    shown = run_forward(strict, toy_batch(), toy_progress()).shown
    assert [shown[f"class{k}_sure"].item() for k in range(2)] == [0, 0]


def test_labels_say_the_classes_of_labelled_images_and_the_averaged_net_those_of_others():
    method, batch = make_toy_method("secl", **QUIET), toy_batch()
    before = groups_of(method, batch)
    flipped = copy.deepcopy(batch)
    flipped.label_l = torch.where(batch.valid_l, 1 - batch.label_l, 0)
    after = groups_of(method, flipped)
    torch.testing.assert_close(before[0][:2], after[0][:2].flip(1))
    assert torch.equal(before[0][2:], after[0][2:])
    with torch.no_grad():
        for decoder in method.teacher.decoders:
            decoder.out.weight.neg_()
            decoder.out.bias.neg_()
    assert not torch.equal(groups_of(method, batch)[0][2:], before[0][2:])


def test_the_averaged_net_labels_clean_crops():
    """Not the shaded ones, which the student sees."""
    method = make_toy_method("secl", geometry="none", intensity="strong")
    batch, seen = toy_batch(), []
    handle = method.teacher.encoder.register_forward_hook(lambda _, given, __: seen.append(given[0].clone()))
    run_forward(method, batch, toy_progress())
    handle.remove()
    assert len(seen) == 2
    assert torch.equal(seen[1], batch.image_u)
    assert not torch.equal(seen[0], batch.image_l)


# What solves it


@both
def test_the_contrast_rises_when_the_teachers_groups_are_others(contrast):
    """Learned on one batch; the teacher then sees it turned upside down, with the groups as they were."""
    method = make_toy_method("secl", dims=2, contrast=contrast, lr=0.1, weight=1.0, **QUIET)
    batch = toy_batch(dims=2, padded=False, labelled=4)
    run_steps(method, [batch] * 30, stage=STAGE)
    method.teacher.load_state_dict(method.student.state_dict())
    learned = contrast_of(method, batch)
    handle = method.teacher_head.register_forward_hook(lambda _, __, z: z.flip(2, 3).roll(4, 2))
    exchanged = contrast_of(method, batch)
    handle.remove()
    assert learned < 0.95 * contrast_of(make_toy_method("secl", dims=2, contrast=contrast, weight=1.0, **QUIET), batch)
    assert exchanged > 1.1 * learned


# The contract, for the variant that is not the default too


@both
@in_2d_and_3d
def test_the_contrast_moves_encoder_and_projection_alone(contrast, dims):
    method = warm(make_toy_method("secl", dims=dims, contrast=contrast), STAGE, dims=dims)
    freeze(method.train(), STAGE)
    loss = contrast_of(method, toy_batch(dims=dims, seed=9))
    loss.backward()
    assert loss.isfinite()
    moved = {name for name, g in gradients(method).items() if g.abs().sum() > 0}
    assert {".".join(name.split(".")[:2]) for name in moved} == {"student.encoder", *(f"head.{i}" for i in (0, 1, 3))}


@in_2d_and_3d
def test_regions_with_weight_zero_train_the_supervised_student(dims):
    method = make_toy_method("secl", dims=dims, contrast="region", weight=0.0, **OPTIMISATION)
    control = make_toy_method("supervised", dims=dims, **OPTIMISATION)
    batches = [toy_batch(dims=dims, seed=seed) for seed in range(5)]
    run_steps(method, batches, stage=STAGE)
    run_steps(control, batches, stage=all_stages("supervised")[0])
    found, expected = method.student.state_dict(), control.student.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in found.items())


@in_2d_and_3d
def test_regions_know_no_labels_and_no_padding(dims):
    method, batch = make_toy_method("secl", dims=dims, contrast="region"), toy_batch(dims=dims)
    expected = contrast_of(method, batch)
    other = copy.deepcopy(batch)
    other.label_l = torch.where(batch.valid_l, 1 - batch.label_l, 1)
    assert contrast_of(method, other) == expected
    batch.valid_l[1], batch.valid_u[1] = False, False
    gone = contrast_of(method, batch)
    batch.image_u[1] = batch.image_u[1].flip(-1) * 3 + 1
    torch.testing.assert_close(contrast_of(method, batch), gone, rtol=1e-5, atol=1e-7)
    assert gone != expected


@both
def test_without_unlabelled_crops_there_are_the_labelled_images_and_every_weight_has_a_gradient(contrast):
    method = make_toy_method("secl", contrast=contrast)
    freeze(method, STAGE)
    terms = run_forward(method, toy_batch(unlabelled=0), toy_progress())
    terms.total().backward()
    assert terms.losses["contrast"] > 0
    assert gradients(method).keys() == {key for key, weight in method.named_parameters() if weight.requires_grad}


@both
def test_the_teacher_and_its_projection_follow_by_a_warm_start(contrast):
    method = make_toy_method("secl", contrast=contrast, ema_decay=0.5)
    run_steps(method, [toy_batch()], stage=STAGE)
    pairs = ((method.teacher, method.student), (method.teacher_head, method.head))
    for teacher, student in pairs:  # decay 0 in the first step
        assert all(torch.equal(t, s) for t, s in zip(teacher.parameters(), student.parameters(), strict=True))
        assert not teacher.training
    before = copy.deepcopy(method.teacher_head.state_dict())
    run_steps(method, [toy_batch(seed=1)], stage=STAGE, first=5)
    for name, value in method.teacher_head.state_dict().items():
        torch.testing.assert_close(value, (before[name] + method.head.state_dict()[name]) / 2)


def test_the_contrast_reads_the_coarsest_feature_within_its_stride():
    levels = {stride: make_toy_method("secl", stride=stride).level for stride in (1, 2, 3, 4, 16)}
    assert levels == {1: "level1", 2: "level2", 3: "level2", 4: "bottleneck", 16: "bottleneck"}
