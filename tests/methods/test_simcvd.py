"""SimCVD: views, heads, terms, the paper's ablations, and a volume learned by heart."""

import pytest
import torch
from crops import (
    SIZES,
    all_stages,
    freeze,
    make_toy_method,
    make_toy_net,
    run_forward,
    run_steps,
    spied,
    toy_batch,
    toy_progress,
)

from semivox.errors import ConfigError
from semivox.methods.simcvd import Config, SimCVD
from semivox.nets.build import MakeNet
from semivox.ops.contrast import info_nce
from semivox.ops.ramps import sigmoid_rampup
from semivox.ops.slices import valid_slices

PLAIN = {"geometry": "none", "intensity": "none"}
QUIET = PLAIN | {"noise": 0.0, "alpha_dropout": 0.0}
UNSUPERVISED = ("contrast", "distillation", "consistency")


def losses(batch=None, *, step=5, dims=3, net=None, **fields):
    method = make_toy_method("simcvd", dims=dims, net=net, **fields)
    terms = run_forward(method, batch or toy_batch(dims=dims), toy_progress(step))
    return {name: loss.item() for name, loss in terms.losses.items()}


# Views


def test_equal_nets_without_any_noise_agree_exactly():
    method = make_toy_method("simcvd", net={"dropout": 0.0}, **QUIET)
    with spied(method.head_slices) as student, spied(method.teacher_slices) as teacher:
        terms = run_forward(method, toy_batch(), toy_progress())
    h_s, h_t = student[0][1], teacher[0][1]
    assert torch.equal(h_s, h_t)
    torch.testing.assert_close((h_s * h_t).sum(-1), torch.ones(h_s.shape[:2]))
    assert terms.losses["consistency"] == 0


@pytest.mark.parametrize("mode", ["train", "eval"])
def test_the_two_heads_always_draw_their_own_dropout_masks(mode):
    fields = QUIET | {"alpha_dropout": 0.1}
    method = make_toy_method("simcvd", net={"dropout": 0.0}, teacher_mode=mode, **fields)
    for _ in range(2):
        with spied(method.head_slices) as student, spied(method.teacher_slices) as teacher:
            run_forward(method, toy_batch(), toy_progress())
        assert torch.equal(student[0][0], teacher[0][0])  # the same maps go in
        assert not torch.equal(student[0][1], teacher[0][1])
        clean = make_toy_method("simcvd", net={"dropout": 0.0}, **QUIET).head_slices(teacher[0][0])
        assert not torch.equal(teacher[0][1], clean)  # the teacher's mask is no empty one
        method.eval()  # no mode switches the masks off


def test_both_views_are_one_crop_with_two_noises():
    method = make_toy_method("simcvd")
    with spied(method.student.encoder) as student, spied(method.teacher.encoder) as teacher:
        run_forward(method, toy_batch(), toy_progress())
    assert [len(image) for image, _ in student] == [2, 4]  # labelled first
    assert len(teacher) == 1
    difference = (student[1][0] - teacher[0][0]).abs()
    assert 0.2 < difference.max() <= 0.4001
    method = make_toy_method("simcvd", noise=0.0)
    with spied(method.student.encoder) as student, spied(method.teacher.encoder) as teacher:
        run_forward(method, toy_batch(), toy_progress())
    assert torch.equal(student[1][0], teacher[0][0])


@pytest.mark.parametrize("extra", ["local_shuffle", "nonlinear", "inpaint", "outpaint"])
def test_an_extra_augmentation_changes_the_students_unlabelled_input_alone(extra):
    method = make_toy_method("simcvd", extra=extra, **PLAIN, noise=0.0)
    batch = toy_batch()
    with spied(method.student.encoder) as student, spied(method.teacher.encoder) as teacher:
        run_forward(method, batch, toy_progress())
    assert torch.equal(student[0][0], batch.image_l)
    assert torch.equal(teacher[0][0], batch.image_u)
    assert not torch.equal(student[1][0], batch.image_u)


def test_train_does_not_wake_a_teacher_in_eval_mode():
    method = make_toy_method("simcvd", teacher_mode="eval").train()
    assert method.student.training
    assert not any(module.training for module in method.teacher.modules())


# Slices and heads


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_the_contrast_reads_the_slices_of_the_clean_crop_plus_the_map(axis):
    method = make_toy_method("simcvd", net={"channels": 2, "classes": 3, "dropout": 0.0}, **PLAIN)
    batch = toy_batch(channels=2, classes=3)
    batch.slice_axis = axis
    with spied(method.head_sdm) as branch, spied(method.head_slices) as heads:
        run_forward(method, batch, toy_progress())
    sdm = branch[1][1].tanh()  # (M, F, X, Y, Z), of the unlabelled forward
    maps = (batch.image_u.mean(1, keepdim=True) + sdm) * batch.valid_u.unsqueeze(1)
    kept = range(2, 16) if axis == 0 else range(SIZES[3][axis])  # the first two of axis 0 are padding
    slices = [[maps[m, k].select(axis, j) for m in range(4) for j in kept] for k in range(2)]
    torch.testing.assert_close(heads[0][0], torch.stack([torch.stack(row) for row in slices]))


def test_the_teachers_maps_are_its_own_on_the_same_clean_crop():
    method = make_toy_method("simcvd", **PLAIN)
    batch = toy_batch(padded=False)
    with spied(method.teacher_sdm) as branch, spied(method.teacher_slices) as heads:
        run_forward(method, batch, toy_progress())
    maps = batch.image_u + branch[0][1].tanh()
    torch.testing.assert_close(heads[0][0][0], maps[:, 0].movedim(3, 1).flatten(0, 1))


def test_each_classs_contrast_counts_alike():
    method = make_toy_method("simcvd", net={"classes": 3}, ramp="consistency")
    with spied(method.head_slices) as student, spied(method.teacher_slices) as teacher:
        loss = run_forward(method, toy_batch(classes=3), toy_progress()).losses["contrast"]
    each = [info_nce(teacher[0][1][k], student[0][1][k], 0.5) for k in range(2)]
    torch.testing.assert_close(loss, 0.5 * sum(each) / 2)


def test_in_2d_every_image_is_a_slice_and_one_alone_gives_an_exact_zero():
    method = make_toy_method("simcvd", dims=2)
    with spied(method.head_slices) as heads:
        run_forward(method, toy_batch(dims=2, unlabelled=5), toy_progress())
    assert heads[0][0].shape == (1, 5, *SIZES[2])
    alone = losses(toy_batch(dims=2, unlabelled=1), dims=2)
    assert alone["contrast"] == 0
    assert alone["distillation"] > 0


def test_the_contrast_may_draw_fewer_slices_the_same_for_both_views():
    fields = QUIET | {"contrast_slices": 6}
    method = make_toy_method("simcvd", net={"dropout": 0.0}, **fields)
    with spied(method.head_slices) as student, spied(method.teacher_slices) as teacher:
        run_forward(method, toy_batch(), toy_progress())
    assert student[0][0].shape[1] == 6
    assert torch.equal(student[0][0], teacher[0][0])


@pytest.mark.parametrize(
    ("patch", "pool", "expected"),
    [
        ((112, 112, 80), None, (128, 128)),
        ((56, 112, 80), None, (64, 128)),
        ((112, 112, 80), 32, (32, 32)),
        (None, None, (128, 128)),
    ],
)
def test_slices_are_pooled_in_proportion_to_the_patch(patch, pool, expected):
    method = SimCVD(make_toy_net(patch=patch), Config(pool=pool, head_sizes=(4, 2)))
    assert method.head_slices.pool == expected


def test_average_pooling_has_a_deterministic_gradient():
    method = make_toy_method("simcvd", **QUIET)
    with spied(method.head_slices) as heads, spied(method.head_slices.layers) as layers:
        terms = run_forward(method, toy_batch(), toy_progress())
    judge = torch.nn.functional.adaptive_avg_pool2d(heads[0][0], method.head_slices.pool)
    torch.testing.assert_close(layers[0][0], judge.flatten(-2))
    nodes, seen = [terms.losses["contrast"].grad_fn], set()
    while nodes:
        node = nodes.pop()
        seen.add(node)
        nodes += [before for before, _ in node.next_functions if before is not None and before not in seen]
    assert {"Convolution" in type(node).__name__ for node in seen} == {True, False}
    assert not [node for node in seen if "Adaptive" in type(node).__name__]  # torch has none for it on a GPU


def test_slices_are_counted_before_any_network_runs(monkeypatch):
    method = make_toy_method("simcvd")
    with spied(method.student.encoder) as calls:

        def counted(*given):
            assert not calls  # a GPU would be waited for
            return valid_slices(*given)

        monkeypatch.setattr("semivox.methods.simcvd.valid_slices", counted)
        run_forward(method, toy_batch(), toy_progress())
    assert len(calls) == 2


def test_the_teachers_heads_follow_too():
    method = make_toy_method("simcvd", weight_contrast=5.0)
    (stage,) = all_stages("simcvd")
    run_steps(method, [toy_batch()], stage=stage)
    for student, teacher in (("head_slices", "teacher_slices"), ("head_sdm", "teacher_sdm"), ("student", "teacher")):
        pairs = zip(getattr(method, student).parameters(), getattr(method, teacher).parameters(), strict=True)
        assert all(torch.equal(a, b) for a, b in pairs)  # step 0 of the warm start
    fixed = make_toy_method("simcvd", warm_start=False, ema_decay=0.9, lr=0.1)
    before = fixed.head_slices.layers[0].weight.detach().clone()
    run_steps(fixed, [toy_batch()], stage=stage)
    after = fixed.head_slices.layers[0].weight
    torch.testing.assert_close(fixed.teacher_slices.layers[0].weight, 0.9 * before + 0.1 * after)


# Terms


def test_labelled_volumes_do_not_enter_the_unsupervised_terms():
    batch, other = toy_batch(), toy_batch()
    other.image_l = other.image_l * 2 + 1
    first, second = losses(batch), losses(other)
    assert [first[name] for name in UNSUPERVISED] == [second[name] for name in UNSUPERVISED]
    assert first["supervised"] != second["supervised"]
    assert first["sdm"] != second["sdm"]


def test_the_distillation_reads_the_bottleneck_before_dropout():
    method = make_toy_method("simcvd", **QUIET)  # dropout .5
    with spied(method.student.encoder) as student, spied(method.teacher.encoder) as teacher:
        loss = run_forward(method, toy_batch(padded=False), toy_progress()).losses["distillation"]
    v_s, v_t = student[1][1]["bottleneck"], teacher[0][1]["bottleneck"]
    assert torch.equal(v_s, v_t)
    unit = torch.nn.functional.normalize(v_s.flatten(2).mT, dim=-1)  # (M, N, D)
    expected = -(unit @ unit.mT).log_softmax(-1).diagonal(dim1=-2, dim2=-1).mean()
    torch.testing.assert_close(loss, 0.1 * sigmoid_rampup(0.5) * expected)


def test_the_sum_is_the_mean_times_the_positions():
    batch = toy_batch(padded=False)  # 4 x 4 x 2 positions
    assert losses(batch, reduction="sum", **PLAIN)["distillation"] == pytest.approx(
        32 * losses(batch, **PLAIN)["distillation"], rel=1e-5
    )


def test_the_ramp_multiplies_all_unsupervised_terms_or_the_consistency_alone():
    everything, alone = losses(), losses(ramp="consistency")
    for name in ("contrast", "distillation"):
        assert everything[name] == pytest.approx(sigmoid_rampup(0.5) * alone[name])
    assert everything["consistency"] == alone["consistency"]
    assert everything["sdm"] == alone["sdm"]


def test_weights_multiply_their_term_and_nothing_else():
    base = losses()
    fields = {"weight_sdm": "sdm", "weight_contrast": "contrast", "weight_distillation": "distillation"}
    for field, name in (fields | {"weight_consistency": "consistency"}).items():
        doubled = losses(**{field: 2 * Config.model_fields[field].default})
        assert doubled == base | {name: pytest.approx(2 * base[name])}


def test_the_defaults_are_the_papers():
    config = Config()
    weights = config.weight_sdm, config.weight_contrast, config.weight_distillation, config.weight_consistency
    assert weights == (0.1, 0.5, 0.1, 0.1)
    assert (config.tau, config.ema_decay, config.alpha_dropout, config.weight_decay) == (0.5, 0.999, 0.1, 5e-4)
    assert (config.lr, config.schedule, config.drops) == (0.01, "drop", (0.5,))


def test_spread_is_shown_and_falls_at_collapse():
    method = make_toy_method("simcvd")
    shown = run_forward(method, toy_batch(), toy_progress()).shown
    assert shown["slice_rank"] > 2
    assert shown["bottleneck_rank"] > 2
    with torch.no_grad():
        method.head_slices.layers[-1].weight.zero_()
        method.head_slices.layers[-1].bias.fill_(1)
    shown = run_forward(method, toy_batch(), toy_progress()).shown
    assert shown["slice_variance"].item() == pytest.approx(0, abs=1e-9)
    assert shown["slice_rank"] == 0


# The paper's ablations


def test_without_the_branch_the_foreground_probability_takes_its_place():
    method = make_toy_method("simcvd", sdm=False, **PLAIN, noise=0.0, net={"dropout": 0.0})
    batch = toy_batch(padded=False)
    with spied(method.head_slices) as heads:
        terms = run_forward(method, batch, toy_progress())
    p = method.student(batch.image_u).softmax(1)
    torch.testing.assert_close(heads[0][0][0], (batch.image_u[:, 0] + p[:, 1]).movedim(3, 1).flatten(0, 1))
    assert "sdm" not in terms.losses
    (stage,) = SimCVD.stages(Config(sdm=False))
    assert stage.trains == ("student", "head_slices")
    run_steps(method, [toy_batch()], stage=stage)


def test_alpha_zero_keeps_the_branch():
    method = make_toy_method("simcvd", weight_sdm=0.0)
    (stage,) = all_stages("simcvd")
    freeze(method, stage)
    terms = run_forward(method, toy_batch(), toy_progress())
    terms.total().backward()
    assert terms.losses["sdm"] == 0
    assert method.head_sdm.weight.grad.abs().sum() > 0  # by the contrast and the consistency


@pytest.mark.parametrize(
    "fields",
    [{"pool_kind": "max"}, {"pool": 8}, {"alpha_dropout": 0.5}, {"unit_length": False}, {"consistency_sdm": False}],
    ids=str,
)
def test_further_choices_change_the_losses(fields):
    assert losses(**fields) != losses()


def test_the_volume_norm_needs_the_volumes_maxima():
    batch = toy_batch()
    batch.targets_l["largest"] = torch.full((2, 1, 2), 50.0)
    assert losses(batch, sdm_norm="volume")["sdm"] != losses(batch)["sdm"]
    with pytest.raises(ValueError, match="largest"):
        losses(sdm_norm="volume")


def test_a_net_without_features_is_refused_with_a_clear_error():
    with pytest.raises(ConfigError, match=r"asks net 'monai:BasicUNet' for its features"):
        SimCVD(MakeNet("monai:BasicUNet", dims=2, channels=1, classes=2), Config())


def test_the_map_of_a_crop_without_foreground_is_a_choice():
    batch = toy_batch(padded=False)
    batch.label_l.zero_()
    method = make_toy_method("simcvd", sdm_empty=1, weight_sdm=1.0, **PLAIN)
    with torch.no_grad():
        method.head_sdm.weight.zero_()
        method.head_sdm.bias.zero_()
    assert run_forward(method, batch, toy_progress()).losses["sdm"] == 1


# T25


def test_one_volume_is_learned_by_heart():
    fields = PLAIN | {"lr": 0.05, "schedule": "constant", "ema_decay": 0.95, "head_sizes": (32, 16)}
    method = make_toy_method("simcvd", net={"filters": 4, "dropout": 0.1}, **fields)
    batch = toy_batch(labelled=1, unlabelled=2)
    (stage,) = all_stages("simcvd")
    run_steps(method, [batch] * 150, stage=stage)
    with torch.no_grad():
        found = method.eval().predict(batch.image_l).argmax(1)
    overlap = 2 * (found * batch.label_l).sum() / (found.sum() + batch.label_l.sum())
    assert overlap > 0.95
