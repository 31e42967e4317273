"""Pixel contrast: which pixels are compared, in which views, and what each framework makes of them."""

import math

import pytest
import torch
from crops import one_step, run_forward, run_steps, spied, toy_batch, toy_progress
from frameworks import STAGE, contrast, every_framework, make, warmed

from semivox.errors import ConfigError
from semivox.methods import pixel_contrast
from semivox.methods.pixel_contrast import QUEUED, TAUGHT, WEIGHTS
from semivox.ops.ramps import sigmoid_rampup
from semivox.ops.slices import strided


def recorded(monkeypatch, name):
    """Return a list that fills with (arguments, options, result) of the method's calls of a function."""
    calls, function = [], getattr(pixel_contrast, name)

    def spy(*given, **options):
        calls.append((given, options, function(*given, **options)))
        return calls[-1][-1]

    monkeypatch.setattr(pixel_contrast, name, spy)
    return calls


@every_framework
def test_the_state_holds_a_teacher_and_a_queue_only_where_the_framework_has_them(framework):
    parts = {key.split(".")[0] for key in make(framework).state_dict()}
    teacher = {"teacher", "teacher_head"} if framework in TAUGHT else set()
    assert parts == {"student", "head"} | teacher | ({"queue"} if framework in QUEUED else set())


@pytest.mark.parametrize("framework", TAUGHT)
def test_teacher_and_head_are_means_of_the_students_and_stay_in_evaluation_mode(framework):
    method, students, heads = make(framework, weight_decay=0.1), [], []
    for step in range(3):
        run_steps(method, [toy_batch(dims=2, seed=step)], stage=STAGE, first=step)
        students.append(method.student.decoders[0].out.weight.detach().clone())
        heads.append(method.head.out.weight.detach().clone())
    torch.testing.assert_close(method.teacher.decoders[0].out.weight, torch.stack(students).mean(0))
    torch.testing.assert_close(method.teacher_head.out.weight, torch.stack(heads).mean(0))
    method.train()
    assert method.student.training
    assert not method.teacher.training
    assert not method.teacher_head.training


def views(method, batch):
    """Return the two views of the labelled images and those of the unlabelled ones that the nets were given."""
    with spied(method.student.encoder) as seen, spied((method.teacher or method.student).encoder) as taught:
        run_forward(method, batch, toy_progress())
    seen, taught = ([image for image, _ in calls] for calls in (seen, taught))
    return list(zip(seen, taught, strict=True)) if method.teacher else [tuple(seen[:2]), tuple(seen[2:])]


@pytest.mark.parametrize("framework", ["vicreg", "moco"])
def test_views_are_the_same_pixels_in_other_intensities_and_the_first_labelled_one_is_the_supervised_crop(framework):
    batch = toy_batch(dims=2, padded=False)
    method = make(framework, geometry="turns", intensity="none")
    for one, of in zip(views(method, batch), ("image_l", "image_u"), strict=True):
        source = getattr(method.augment(batch, toy_progress()), of)
        assert torch.equal(one[0], source) == (of == "image_l")
        assert not torch.equal(one[0], one[1])
        for image in one:
            pairs = torch.stack([image.flatten(1), source.flatten(1)], 1)
            assert min(torch.corrcoef(pair)[0, 1] for pair in pairs) > 0.9


def test_rows_of_both_views_are_the_same_pixels(monkeypatch):
    method, calls = make("vicreg", net={"dropout": 0.0}), recorded(monkeypatch, "vicreg_terms")
    monkeypatch.setattr(pixel_contrast, "intensity", lambda image, *_, **__: image)
    contrast(method)
    invariance, variance, _ = calls[0][-1]
    assert invariance == 0
    assert variance > 0


@pytest.mark.parametrize("framework", ["simclr", "moco"])
def test_classes_are_labels_where_there_are_and_else_what_the_second_views_net_finds(framework, monkeypatch):
    method, batch = warmed(framework, geometry="none"), toy_batch(dims=2, seed=9)
    pools = recorded(monkeypatch, "Pool")
    net = method.teacher or method.student
    with spied(net.decoders[0].out) as calls:
        run_forward(method, batch, toy_progress())
    found = calls[-1][1].argmax(1)
    expected = torch.cat([batch.label_l.where(batch.valid_l, 2), found.where(batch.valid_u, 2)])
    (class_ids, cell_ids), strides = pools[0][0], method.head.strides
    assert torch.equal(class_ids, strided(expected, strides).flatten())
    assert class_ids.unique().tolist() == [0, 1, 2]
    assert cell_ids.max() + 1 == 6 * 16  # six images, four by four cells each


def test_a_volume_has_a_grid_of_cells_across_its_slices_too(monkeypatch):
    calls = recorded(monkeypatch, "grid_cells")
    run_forward(make("byol", dims=3), toy_batch(dims=3), toy_progress())
    run_forward(make("byol", dims=3, grid=(2, 2, 1)), toy_batch(dims=3), toy_progress())
    assert [given[2] for given, *_ in calls] == [(4, 4, 2), (2, 2, 1)]
    for wrong in ((4, 4), (4, 4, 0)):
        with pytest.raises(ConfigError, match="expected 3 numbers of cells"):
            make("byol", dims=3, grid=wrong)


def test_simclr_takes_no_further_draw_of_a_pixel_for_another_pixel():
    batch = toy_batch(dims=2, unlabelled=0)
    batch.valid_l[:] = False
    batch.valid_l[0, 8:10, 8:10] = True  # one position of the head's grid
    assert contrast(make("simclr", geometry="none"), batch) == 0


@pytest.mark.parametrize("framework", TAUGHT)
def test_the_teacher_predicts_where_the_predictor_is_a_part_of_the_projection(framework):
    method = warmed(framework)
    method.teacher_head.predictor[0].weight.fill_(torch.nan)
    assert math.isfinite(contrast(method)) == (framework in ("byol", "isd"))


def test_isds_student_has_the_softer_temperature(monkeypatch):
    method, calls = warmed("isd", tau=0.3, tau_teacher=0.02), recorded(monkeypatch, "relational_distillation")
    contrast(method)
    assert [options for _, options, _ in calls] == [{"tau_s": 0.3, "tau_t": 0.02}]


def test_vicreg_weighs_its_terms_25_25_and_1_over_25(monkeypatch):
    method, calls = warmed("vicreg", weight=1.0), recorded(monkeypatch, "vicreg_terms")
    found = contrast(method)
    by_hand = sum(share * term.item() for share, term in zip((25, 25, 1), calls[0][-1], strict=True)) / 25
    assert found == pytest.approx(sigmoid_rampup(0.5) * by_hand)


@pytest.mark.parametrize("sampler", ["naive", "sag"])
def test_the_sampler_decides_which_pixels_are_compared(sampler):
    assert contrast(make("byol", sampler=sampler)) != contrast(make("byol"))
    assert contrast(make("byol", sampler=sampler)) == contrast(make("byol", sampler=sampler))


@every_framework
def test_the_contrast_is_weighed_and_ramped_up(framework):
    method, half, full = warmed(framework), warmed(framework, weight=0.5), warmed(framework, weight=1.0)
    assert contrast(full) == pytest.approx(2 * contrast(half))
    assert contrast(full) == pytest.approx(contrast(method) / WEIGHTS[framework])
    fixed = {"geometry": "none", "intensity": "none"}
    early = contrast(make("vicreg", **fixed), progress=toy_progress(0))
    late = contrast(make("vicreg", **fixed), progress=toy_progress(9))
    assert early / late == pytest.approx(sigmoid_rampup(0) / sigmoid_rampup(0.9), rel=0.05)


@pytest.mark.parametrize("framework", QUEUED)
def test_an_empty_queue_contrasts_with_nothing_and_the_next_step_with_the_first_ones_pixels(framework):
    method = make(framework)
    assert contrast(method) == 0
    run_steps(method, [toy_batch(dims=2)], stage=STAGE)
    assert method.queue.written == 2 * 16
    assert contrast(method) > 0
    assert run_forward(method, toy_batch(dims=2), toy_progress()).shown["queue_fill"] == 0.5


def test_a_queue_shorter_than_a_steps_pixels_holds_all_classes_alike(monkeypatch):
    method = make("moco", queue=8)
    of_class = torch.arange(2.0)[:, None, None].expand(2, 16, method.head.width)
    monkeypatch.setattr(method, "_embed_second", lambda pixels: of_class)
    run_forward(method, toy_batch(dims=2), toy_progress())
    method.after_step(toy_progress())
    assert method.queue.rows[:, 0].sum() == 4


def test_a_class_without_a_pixel_is_neither_remembered_nor_shown_as_a_number():
    method = make("moco", net={"classes": 3})
    batch = toy_batch(dims=2, unlabelled=0)
    terms = run_forward(method, batch, toy_progress())
    method.after_step(toy_progress())
    assert method.queue.written == 2 * 16
    assert terms.shown["class2_variance"].isnan()
    assert terms.shown["class1_variance"] > 0


@every_framework
def test_a_batch_of_one_class_is_finite_and_one_without_a_valid_voxel_contrasts_with_nothing(framework):
    method, batch = warmed(framework), toy_batch(dims=2, unlabelled=0)
    batch.label_l[:] = 0
    assert math.isfinite(contrast(method, batch))
    batch.valid_l[:] = False
    losses, found = one_step(method, batch)
    assert losses["contrast"] == 0
    assert all(g.isfinite().all() for g in found.values())


def test_neighbours_are_further_positives_and_no_more_of_them_than_the_queue_holds():
    assert contrast(warmed("knn_moco", weight=0.1)) > contrast(warmed("moco", weight=0.1))
    with pytest.raises(ConfigError, match=r"method.neighbours = 65, but method.queue = 64"):
        make("knn_moco", neighbours=65)
    make("moco", neighbours=65)
