"""SimCVD: views, terms, the paper's ablations, and a volume learned by heart."""

import pytest
import torch
from crops import (
    all_stages,
    freeze,
    make_toy_method,
    run_forward,
    run_steps,
    spied,
    toy_batch,
    toy_progress,
)

from semivox.errors import ConfigError
from semivox.methods.simcvd import Config, SimCVD
from semivox.nets.build import MakeNet
from semivox.ops.ramps import sigmoid_rampup

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


@pytest.mark.parametrize("view", ["clean", "paper"])
def test_both_views_of_the_contrast_are_one_crop_with_two_noises(view):
    method = make_toy_method("simcvd", teacher_view=view)
    with spied(method.student.encoder) as student, spied(method.teacher.encoder) as teacher:
        run_forward(method, toy_batch(), toy_progress())
    assert [len(image) for image, _ in student] == [2, 4]  # labelled first
    assert len(teacher) == (2 if view == "clean" else 1)
    difference = (student[1][0] - teacher[0][0]).abs()
    assert 0.2 < difference.max() <= 0.4001
    method = make_toy_method("simcvd", noise=0.0, teacher_view=view)
    with spied(method.student.encoder) as student, spied(method.teacher.encoder) as teacher:
        run_forward(method, toy_batch(), toy_progress())
    assert torch.equal(student[1][0], teacher[0][0])


class _Marked(torch.nn.Module):
    """A teacher's encoder that gives random features for one crop, and its own for all others."""

    def __init__(self, encoder, crop):
        super().__init__()
        self.encoder, self.crop = encoder, crop

    def forward(self, image):
        features = self.encoder(image)
        if not torch.equal(image, self.crop):
            return features
        return {name: torch.rand(x.shape, generator=torch.Generator().manual_seed(0)) for name, x in features.items()}


def test_targets_come_of_the_clean_crop_and_the_contrast_of_the_noisy_one():
    """Exchange what the teacher makes of the one crop or of the other, and see which terms notice."""
    batch, quiet = toy_batch(), {"geometry": "none", "alpha_dropout": 0.0, "teacher_mode": "eval"}

    def terms(exchanged, view):
        method = make_toy_method("simcvd", net={"dropout": 0.0}, intensity="strong", teacher_view=view, **quiet)
        with spied(method.teacher.encoder) as seen:
            run_forward(method, batch, toy_progress())
        assert [torch.equal(image, batch.image_u) for image, _ in seen] == [False, True][: len(seen)]
        if exchanged is not None:
            method.teacher.encoder = _Marked(method.teacher.encoder, seen[exchanged][0])
        losses = run_forward(method, batch, toy_progress()).losses
        return [losses[name].item() for name in UNSUPERVISED]

    contrast, *targets = terms(None, "clean")
    noisy, clean = terms(0, "clean"), terms(1, "clean")
    assert noisy[0] != contrast
    assert noisy[1:] == targets
    assert clean[0] == contrast
    assert all(one != other for one, other in zip(clean[1:], targets, strict=True))
    before, after = terms(None, "paper"), terms(0, "paper")
    assert all(one != other for one, other in zip(before, after, strict=True))
    assert before[0] == contrast


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
    assert (config.tau, config.ema_decay, config.alpha_dropout, config.weight_decay) == (0.5, None, 0.1, 5e-4)
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
    method = make_toy_method("simcvd", sdm=False, slices="paper", **PLAIN, noise=0.0, net={"dropout": 0.0})
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
