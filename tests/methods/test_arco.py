"""ARCO: its terms, what it remembers, bad input, and what the released code gets wrong."""

import copy

import pytest
import torch
from anatomical import FINETUNE, PLAIN, PRETRAIN, RELEASED, in_2d_and_3d, make, never, one_step, warmed
from crops import make_toy_method, run_forward, run_steps, toy_batch, toy_progress

from semivox.errors import ConfigError
from semivox.methods.arco import ARCO, Config
from semivox.nets.build import MakeNet
from semivox.ops.dice import dice_ce
from semivox.types import Progress

# The released bugs


def test_the_bug_that_two_classes_leave_every_negative_bank_empty_is_mended():
    """T10: released, after any number of steps a bank holds the row of zeros that it started with."""
    batches = [toy_batch(dims=2, seed=seed) for seed in range(4)]
    ours, released = make(), make(negatives="released", alpha=1.0)
    run_steps(ours, batches[:1], stage=FINETUNE)
    assert (ours.anatomy.banks.written > 0).all()
    assert ours.anatomy.banks.rows[:, 0].abs().sum(-1).all()
    run_steps(released, batches, stage=FINETUNE)
    assert released.anatomy.banks.written.tolist() == [1, 1]
    assert not released.anatomy.banks.rows.any()


@in_2d_and_3d
def test_labels_0_2_3_have_the_losses_of_0_1_2_in_every_step(dims):
    """T11: released, the classes behind an absent one are compared with another class's bank."""
    names, channels = torch.tensor([0, 2, 3]), torch.tensor([0, 2, 3, 1])
    gap, dense = (make(dims=dims, net={"classes": 4}, anchor_above=0.0, confidence=0.5) for _ in range(2))
    never(gap, 1)
    with torch.no_grad():
        for net, other in ((dense.student, gap.student), (dense.teacher, gap.teacher)):
            net.load_state_dict(other.state_dict())
            net.decoders[0].out.weight.copy_(other.decoders[0].out.weight[channels])
            net.decoders[0].out.bias.copy_(other.decoders[0].out.bias[channels])
    for step in range(4):
        batch, other = (toy_batch(dims=dims, classes=3, seed=step) for _ in range(2))
        other.label_l = names[batch.label_l]
        expected, found = one_step(dense, batch, step=step), one_step(gap, other, step=step)
        assert found == pytest.approx(expected, rel=1e-3), step
        for method, given in ((dense, batch), (gap, other)):
            run_steps(method, [given], stage=FINETUNE, first=step)
    assert all(value > 0 for value in expected.values())
    assert gap.anatomy.banks.fill[1] == dense.anatomy.banks.fill[3] == 0
    torch.testing.assert_close(gap.anatomy.banks.rows[names], dense.anatomy.banks.rows[:3], rtol=1e-3, atol=1e-4)


def test_the_loss_of_neighbours_trains_the_student():
    """T13: released, it has no gradient."""
    method = warmed()
    terms = run_forward(method, toy_batch(dims=2), toy_progress(stage="finetune"))
    (gradient,) = torch.autograd.grad(terms.losses["neighbours"], [method.student.encoder.stages[0][0][0].weight])
    assert gradient.abs().sum() > 0


# Terms


def test_every_stage_has_its_terms():
    assert one_step(make(stage=PRETRAIN), stage=PRETRAIN).keys() == {"supervised", "global", "local"}
    assert one_step(make()).keys() == {"supervised", "unsupervised", "contrast", "neighbours"}
    labelled = toy_batch(dims=2, unlabelled=0)
    assert one_step(make(stage=PRETRAIN), labelled, stage=PRETRAIN).keys() == {"supervised"}
    assert one_step(make(), labelled).keys() == {"supervised", "contrast", "neighbours"}


@pytest.mark.parametrize("stage", [PRETRAIN, FINETUNE], ids=lambda stage: stage.name)
def test_weights_multiply_their_term_and_nothing_else(stage):
    method = warmed(stage=stage)
    base = one_step(method, stage=stage)
    for name in base.keys() - {"supervised"}:
        field = f"weight_{name}"
        method.config = method.config.model_copy(update={field: 2 * getattr(Config(), field)})
        assert one_step(method, stage=stage) == base | {name: pytest.approx(2 * base[name])}
        method.config = method.config.model_copy(update={field: getattr(Config(), field)})


def test_released_pseudo_labels_count_by_the_confident_part_of_their_image():
    assert one_step(make(confidence=1.0, pseudo="released"))["unsupervised"] == 0
    released = {"pseudo": "released", "mix": "none", "net": {"dropout": 0.0}}
    method = make(confidence=0.0, **released, **PLAIN)
    batch = toy_batch(dims=2, padded=False)
    with torch.no_grad():
        errors = torch.nn.functional.cross_entropy(
            method.student(batch.image_u), method.teacher.train(method.training)(batch.image_u).argmax(1)
        )
    assert one_step(method, batch)["unsupervised"] == pytest.approx(errors.item(), rel=1e-5)


def test_pseudo_labels_train_by_cross_entropy_and_dice_where_they_are_sure():
    assert one_step(make(confidence=1.0))["unsupervised"] == pytest.approx(0, abs=1e-6)
    method = make(confidence=0.6, mix="none", net={"dropout": 0.0}, **PLAIN)
    batch = toy_batch(dims=2)
    with torch.no_grad():
        confidence, q = method.teacher(batch.image_u).softmax(1).max(1)
        sure = (confidence >= 0.6) & batch.valid_u
        expected = dice_ce(method.student(batch.image_u), q, sure)
    assert 0 < sure.float().mean() < 1
    assert one_step(method, batch)["unsupervised"] == pytest.approx(expected.item(), rel=1e-5)


def test_the_supervised_loss_is_dice_plus_cross_entropy():
    for stage in (PRETRAIN, FINETUNE):
        half = one_step(make_toy_method("supervised", dims=2), stage=stage)
        assert one_step(make(stage=stage), stage=stage)["supervised"] == pytest.approx(2 * half["supervised"])


@in_2d_and_3d
@pytest.mark.parametrize(
    "fields",
    [
        {"sampler": "naive"}, {"sampler": "sag"}, {"sampler": "sag", "mirror": "space"}, {"grid": (1, 1, 1)},
        {"negative_source": "batch"}, {"negatives": "released"}, {"mix": "class"}, {"mix": "none"}, {"alpha": 0.0},
        {"tau": 0.1},
    ],
    ids=str,
)  # fmt: skip
def test_further_choices_change_the_losses_and_leave_them_numbers(fields, dims):
    if "grid" in fields:
        fields = {"grid": fields["grid"][:dims]}
    found = one_step(warmed(dims=dims, **fields))
    assert all(value >= 0 and value < 100 for value in found.values())
    assert found != one_step(warmed(dims=dims))


def test_mirrors_in_space_are_others_than_those_by_rank():
    assert one_step(warmed(sampler="sag", mirror="space")) != one_step(warmed(sampler="sag"))


def test_what_keeps_a_term_from_working_is_mended_and_comes_back_by_name():
    """The fields in which semivox's defaults differ from print and release, and no others."""
    mended = {name: getattr(Config(), name) for name in RELEASED}
    assert not set(mended.items()) & set(RELEASED.items())
    for stage in (PRETRAIN, FINETUNE):
        assert one_step(warmed(stage=stage, **RELEASED), stage=stage) != one_step(warmed(stage=stage), stage=stage)


def test_the_other_defaults_are_the_papers():
    config = Config(**RELEASED)
    weights = config.weight_contrast, config.weight_unsupervised, config.weight_neighbours
    assert weights == (0.01, 1.0, 1.0)
    assert (config.weight_global, config.weight_local, config.tau_student, config.tau_teacher) == (1.0, 1.0, 0.1, 0.01)
    assert (config.sampler, config.anchors, config.keys, config.tau) == ("sg", 256, 512, 0.5)
    assert (config.memory, config.neighbours, config.ema_decay, config.confidence) == (36, 5, 0.99, 0.97)
    assert (config.lr, config.momentum, config.nesterov, config.weight_decay) == (0.01, 0.9, True, 1e-4)


# Memory, teachers, stages


def test_each_stage_remembers_and_teaches_in_its_own_part():
    method = warmed(stage=PRETRAIN, steps=2)
    assert method.relation.images.written == 8
    assert method.anatomy.images.written == 0
    assert not method.anatomy.banks.written.any()
    before = copy.deepcopy(method.relation.state_dict())
    run_steps(method, [toy_batch(dims=2)], stage=FINETUNE)
    assert all(torch.equal(before[key], value) for key, value in method.relation.state_dict().items())
    assert method.anatomy.images.written == 6
    assert method.anatomy.banks.written.tolist() == [16, 16]


def test_nothing_remembered_asks_for_a_gradient():
    for stage in (PRETRAIN, FINETUNE):
        assert not any(buffer.requires_grad for buffer in warmed(stage=stage).buffers())


def test_released_the_teacher_starts_each_stage_from_the_student():
    method = warmed(stage=PRETRAIN, schedule_over="stage", ema_decay=0.99)
    name = "decoders.0.out.weight"
    assert not torch.equal(method.student.get_parameter(name), method.teacher.get_parameter(name))
    run_steps(method, [toy_batch(dims=2)], stage=FINETUNE)  # step 0 of the warm start
    assert torch.equal(method.student.get_parameter(name), method.teacher.get_parameter(name))


def test_the_teacher_goes_on_over_the_stages_border_and_its_memory_is_a_tenth_of_the_stage():
    method = warmed(stage=PRETRAIN)
    name = "decoders.0.out.weight"
    before = method.teacher.get_parameter(name).clone()
    with torch.no_grad():
        method.student.get_parameter(name).add_(1)
    method.after_step(Progress("finetune", step=0, steps=40, total_step=30))  # 1 - 10 / 40
    expected = 0.75 * before + 0.25 * method.student.get_parameter(name)
    torch.testing.assert_close(method.teacher.get_parameter(name), expected)


@pytest.mark.parametrize("own", [True, False])
def test_the_projector_of_pixels_learns_from_neighbours_only_where_it_is_shared(own):
    method = warmed(neighbours_head="own" if own else "released")
    terms = run_forward(method, toy_batch(dims=2), toy_progress(stage="finetune"))
    weight = method.anatomy.student.out.weight
    (gradient,) = torch.autograd.grad(terms.losses["neighbours"], [weight], allow_unused=True)
    assert (gradient is None) == own


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_all_teachers_are_in_evaluation_mode_unless_told_otherwise(mode):
    method = make(teacher_mode=mode, net={"norm": "batch"}).train()
    for teacher in (method.teacher, method.relation.teacher, method.anatomy.teacher):
        assert {module.training for module in teacher.modules()} == {mode == "train"}
    assert all(module.training for module in (*method.student.modules(), *method.anatomy.student.modules()))


def test_spread_is_shown_for_every_class_and_falls_at_collapse():
    method = warmed(classes=3)
    batch = toy_batch(dims=2, classes=3, seed=4)
    shown = run_forward(method, batch, toy_progress(stage="finetune")).shown
    assert shown.keys() == {f"class{k}_{what}" for k in range(3) for what in ("variance", "rank", "fill")}
    assert all(shown[f"class{k}_rank"] > 1.5 for k in range(3))
    assert [shown[f"class{k}_fill"].item() for k in range(3)] == [48 / 64] * 3
    with torch.no_grad():
        method.anatomy.student.predictor[-1].weight.zero_()
        method.anatomy.student.predictor[-1].bias.fill_(1)
    shown = run_forward(method, batch, toy_progress(stage="finetune")).shown
    assert all(shown[f"class{k}_rank"] == shown[f"class{k}_variance"] == 0 for k in range(3))


# Bad input


@in_2d_and_3d
def test_a_batch_with_one_class_has_an_exact_zero_contrast_and_no_other_loss_that_is_no_number(dims):
    method = never(make(dims=dims), 1)
    batch = toy_batch(dims=dims)
    batch.label_l.zero_()
    terms = run_forward(method, batch, toy_progress(stage="finetune"))
    terms.total().backward()
    assert terms.losses["contrast"] == 0
    assert all(loss.isfinite() for loss in terms.losses.values())
    assert all(weight.grad.isfinite().all() for weight in method.parameters() if weight.grad is not None)
    method.after_step(toy_progress(stage="finetune"))
    assert method.anatomy.banks.written.tolist() == [16, 0]
    assert one_step(method, batch)["contrast"] == 0  # one bank alone answers nobody


@in_2d_and_3d
@pytest.mark.parametrize("negatives", ["paper", "released"])
def test_a_class_that_no_label_holds_leaves_all_losses_numbers_and_its_bank_empty(negatives, dims):
    method = never(make(dims=dims, net={"classes": 4}, negatives=negatives), 2)
    for step in range(4):
        batch = toy_batch(dims=dims, classes=4, seed=step)
        batch.label_l[batch.label_l == 2] = 0
        losses = one_step(method, batch, step=step)
        assert all(0 <= value < 100 for value in losses.values())
        run_steps(method, [batch], stage=FINETUNE, first=step)
    assert method.anatomy.banks.written[2] == (negatives == "released")
    assert all(value.isfinite().all() for value in method.state_dict().values())


def test_more_neighbours_than_images_are_refused():
    with pytest.raises(ConfigError, match=r"method.neighbours = 7, but method.memory = 6 images"):
        make(neighbours=7)


@pytest.mark.parametrize("grid", [(4, 4, 4), (4,), (4, 0)])
def test_a_grid_of_other_axes_than_the_images_is_refused(grid):
    with pytest.raises(ConfigError, match=r"method.grid = .*: expected 2 numbers of cells from 1 on"):
        make(grid=grid)


def test_a_net_without_features_is_refused_with_a_clear_error():
    with pytest.raises(ConfigError, match=r"asks net 'monai:BasicUNet' for its features"):
        ARCO(MakeNet("monai:BasicUNet", dims=2, channels=1, classes=2), Config())
