"""What every framework of pixel contrast trains, and that without weight it trains as supervised does."""

from crops import all_stages, assert_equal, gradients, make_toy_method, run_forward, run_steps, toy_batch, toy_progress
from frameworks import STAGE, every_framework, in_2d_and_3d, make, warmed

OPTIMISATION = {"weight_decay": 0.0, "schedule": "constant", "lr": 0.01, "momentum": 0.9}


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
def test_with_weight_zero_the_student_is_the_supervised_one(framework, dims):
    method = make(framework, dims=dims, weight=0.0, **OPTIMISATION)
    control = make_toy_method("supervised", dims=dims, **OPTIMISATION)
    batches = [toy_batch(dims=dims, seed=seed) for seed in range(5)]
    run_steps(method, batches, stage=STAGE)
    run_steps(control, batches, stage=all_stages("supervised")[0])
    assert_equal(method.student.state_dict(), control.student.state_dict())
