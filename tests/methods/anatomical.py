"""ARCO, small and on toy data, for its tests: ``from anatomical import make``."""

import pytest
import torch
from crops import all_stages, freeze, make_toy_method, run_forward, run_steps, toy_batch, toy_progress

PRETRAIN, FINETUNE = all_stages("arco")
SMALL = {"anchors": 16, "keys": 8, "bank": 64, "width": 8, "latent": 8, "memory": 6, "neighbours": 2}
RELEASED = {
    "alpha_floor": 0.0, "anchors_from": "released", "confidence": 0.97, "pseudo": "released", "weight_local": 1.0,
    "teacher_view": "released", "weight_contrast": 0.01, "neighbours_head": "released", "ema_decay": 0.99,
    "schedule_over": "stage",
}  # fmt: skip
"""What the papers print and the released code does, where the defaults are mended."""
PLAIN = {"geometry": "none", "intensity": "none"}

in_2d_and_3d = pytest.mark.parametrize("dims", [2, 3])


def make(*, dims=2, net=None, stage=FINETUNE, **fields):
    method = make_toy_method("arco", dims=dims, net=net, **(SMALL | fields))
    freeze(method, stage)
    return method.train()


def one_step(method, batch=None, *, stage=FINETUNE, step=5, seed=0):
    """Return the losses of one step."""
    batch = batch or toy_batch(dims=method.student.dims, classes=method.student.classes)
    terms = run_forward(method, batch, toy_progress(step, stage=stage.name, seed=seed))
    return {name: loss.item() for name, loss in terms.losses.items()}


def warmed(*, dims=2, classes=2, stage=FINETUNE, steps=3, **fields):
    """Return the method after three steps: banks and queues hold something."""
    method = make(dims=dims, net={"classes": classes}, stage=stage, **fields)
    run_steps(method, [toy_batch(dims=dims, classes=classes, seed=seed) for seed in range(steps)], stage=stage)
    return method


def never(method, *classes):
    """Let neither net of the method find these classes anywhere."""
    with torch.no_grad():
        for net in (method.student, method.teacher):
            net.decoders[0].out.bias[list(classes)] = -1e4
    return method
