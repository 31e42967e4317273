"""Pixel contrast: what every framework owes, as test_contract.py asks it of the default one, and what is its own."""

import copy
import math

import pytest
import torch
from crops import (
    all_stages,
    freeze,
    gradients,
    make_toy_method,
    run_forward,
    run_steps,
    spied,
    toy_batch,
    toy_progress,
    warm,
)

from semivox.errors import ConfigError
from semivox.methods import pixel_contrast
from semivox.methods.pixel_contrast import QUEUED, TAUGHT, WEIGHTS
from semivox.ops.ramps import sigmoid_rampup
from semivox.ops.sampling import Pool
from semivox.ops.slices import strided

FRAMEWORKS = tuple(WEIGHTS)
(STAGE,) = all_stages("pixel_contrast")
OPTIMISATION = {"weight_decay": 0.0, "schedule": "constant", "lr": 0.01, "momentum": 0.9}

in_2d_and_3d = pytest.mark.parametrize("dims", [2, 3])
every_framework = pytest.mark.parametrize("framework", FRAMEWORKS)


def make(framework, *, dims=2, net=None, **fields):
    small = {"queue": 64, "neighbours": 5, "count": 16}
    method = make_toy_method("pixel_contrast", dims=dims, net=net, framework=framework, **(small | fields))
    freeze(method, STAGE)
    return method.train()


def warmed(framework, dims=2, **fields):
    return warm(make(framework, dims=dims, **fields), STAGE, dims=dims).train()


def one_step(method, batch, progress=None):
    """Return losses and gradients of one step from where `method` stands, which stays as it was."""
    method = copy.deepcopy(method)
    terms = run_forward(method, batch, progress or toy_progress())
    terms.total().backward()
    return {name: loss.detach() for name, loss in terms.losses.items()}, gradients(method)


def contrast(method, batch=None, progress=None):
    return one_step(method, batch or toy_batch(dims=2), progress)[0]["contrast"].item()


def assert_equal(first, second):
    assert first.keys() == second.keys()
    assert all(torch.equal(value, second[name]) for name, value in first.items())


@in_2d_and_3d
@every_framework
def test_the_contrast_is_finite_and_moves_the_student_and_its_head(framework, dims):
    method = warmed(framework, dims)
    terms = run_forward(method, toy_batch(dims=dims, seed=9), toy_progress())
    assert terms.losses["contrast"].isfinite()
    terms.losses["contrast"].backward()
    found = gradients(method)
    for part in ("student.encoder", "student.decoders", "head.narrow", "head.out", "head.predictor"):
        assert any(g.abs().sum() > 0 for key, g in found.items() if key.startswith(part)), part
    assert all(value.shape == () and not value.requires_grad for value in terms.shown.values())


@in_2d_and_3d
@every_framework
def test_other_unlabelled_volumes_give_another_gradient(framework, dims):
    method, batch, other = warmed(framework, dims), toy_batch(dims=dims, seed=9), toy_batch(dims=dims, seed=9)
    other.image_u = toy_batch(dims=dims, seed=10).image_u
    first, second = one_step(method, batch)[1], one_step(method, other)[1]
    assert any(not torch.equal(first[key], second[key]) for key in first if key.startswith("student"))


@in_2d_and_3d
@every_framework
def test_with_weight_zero_the_student_is_the_supervised_one(framework, dims):
    method = make(framework, dims=dims, weight=0.0, **OPTIMISATION)
    control = make_toy_method("supervised", dims=dims, **OPTIMISATION)
    batches = [toy_batch(dims=dims, seed=seed) for seed in range(5)]
    run_steps(method, batches, stage=STAGE)
    run_steps(control, batches, stage=all_stages("supervised")[0])
    assert_equal(method.student.state_dict(), control.student.state_dict())


@every_framework
@pytest.mark.parametrize("unlabelled", [0, 4])
def test_from_the_first_step_on_every_weight_that_learns_has_a_gradient_and_no_teacher_has(framework, unlabelled):
    method, batch = make(framework), toy_batch(dims=2, unlabelled=unlabelled)
    learning = {key for key, weight in method.named_parameters() if weight.requires_grad}
    method.requires_grad_(True)
    assert one_step(method, batch)[1].keys() == learning


@in_2d_and_3d
@every_framework
def test_the_state_alone_reproduces_the_next_step(framework, dims):
    method, fresh = warmed(framework, dims), make(framework, dims=dims, net={"seed": 1})
    fresh.load_state_dict(method.state_dict())
    batch = toy_batch(dims=dims, seed=9)
    first, second = one_step(method, batch), one_step(fresh, batch)
    assert_equal(first[0], second[0])
    assert_equal(first[1], second[1])


@in_2d_and_3d
@every_framework
def test_a_volume_without_a_valid_voxel_changes_nothing(framework, dims):
    method, batch = warmed(framework, dims), toy_batch(dims=dims, seed=9)
    batch.valid_l[1], batch.valid_u[1] = False, False
    other = copy.deepcopy(batch)
    for image in (other.image_l, other.image_u):
        image[1] = image[1].flip(-1) * 3 + 1
    other.label_l[1] = 1 - other.label_l[1]
    first, second = one_step(method, batch), one_step(method, other)
    for key, value in first[0].items():
        torch.testing.assert_close(value, second[0][key], rtol=1e-5, atol=1e-7)
    for key, value in first[1].items():
        torch.testing.assert_close(value, second[1][key], rtol=1e-3, atol=1e-6, msg=key)


@every_framework
def test_losses_are_finite_and_single_precision_under_autocast(framework):
    method = warmed(framework)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = run_forward(method, toy_batch(dims=2), toy_progress())
    terms.total().backward()
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in terms.losses.values())


@every_framework
def test_a_step_that_is_not_logged_shows_nothing_and_loses_the_same(framework):
    method, batch = make(framework), toy_batch(dims=2)
    quiet, logged = (run_forward(method, batch, toy_progress(logged=logged)) for logged in (False, True))
    assert quiet.shown == {}
    assert_equal(quiet.losses, logged.losses)
    spread = {f"class{k}_{what}" for k in (0, 1) for what in ("variance", "rank")}
    assert logged.shown.keys() == spread | ({"queue_fill"} if framework in QUEUED else set())


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


@pytest.mark.parametrize("framework", ["simclr", "moco"])
def test_classes_are_labels_where_there_are_and_else_what_the_second_views_net_finds(framework, monkeypatch):
    method, batch = warmed(framework, geometry="none"), toy_batch(dims=2, seed=9)
    pools, drawn = [], []

    class Spy(Pool):
        def __init__(self, class_ids, cell_ids, *, classes):
            pools.append((class_ids, cell_ids))
            super().__init__(class_ids, cell_ids, classes=classes)

        def draw(self, count, **options):
            drawn.append(options["scheme"])
            return super().draw(count, **options)

    monkeypatch.setattr(pixel_contrast, "Pool", Spy)
    net = method.teacher or method.student
    with spied(net.decoders[0].out) as calls:
        run_forward(method, batch, toy_progress())
    found = calls[-1][1].argmax(1)
    expected = torch.cat([batch.label_l.where(batch.valid_l, 2), found.where(batch.valid_u, 2)])
    (class_ids, cell_ids), strides = pools[0], method.head.strides
    assert torch.equal(class_ids, strided(expected, strides).flatten())
    assert class_ids.unique().tolist() == [0, 1, 2]
    assert cell_ids.max() + 1 == 6 * 16  # six images, four by four cells each
    assert drawn == ["sg"]


@pytest.mark.parametrize("sampler", ["naive", "sag"])
def test_the_sampler_decides_which_pixels_are_compared(sampler):
    assert contrast(make("byol", sampler=sampler)) != contrast(make("byol"))
    assert contrast(make("byol", sampler=sampler)) == contrast(make("byol", sampler=sampler))


@every_framework
def test_the_contrast_is_weighed_and_ramped_up(framework):
    method = warmed(framework)
    half, full = (warmed(framework, weight=weight) for weight in (0.5, 1.0))
    for other in (half, full):
        other.load_state_dict(method.state_dict())
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
    assert contrast(warmed("knn_moco")) > contrast(warmed("moco"))
    with pytest.raises(ConfigError, match=r"method.neighbours = 65, but method.queue = 64"):
        make("knn_moco", neighbours=65)
    make("moco", neighbours=65)
