"""A method that has learnt nothing: a fixed intensity threshold, so that tests know what its masks must be."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from semivox.config.keys import resolve_config
from semivox.data.recipe import Recipe
from semivox.methods import load_own, own_method
from semivox.methods.base import Method, MethodConfig
from semivox.nets.build import MakeNet
from semivox.runs.folder import create_run
from semivox.runs.trust import keep_method
from semivox.types import Batch, Progress, Terms


class Config(MethodConfig):
    """What decides the probabilities."""

    threshold: float = 50.0
    """intensity at which both classes are equally probable."""
    width: float = 10.0
    """intensities over which the probability rises."""
    tilt: float = 0.0
    """intensity added along the first axis of a window, to make the net see left and right."""


class Thresholding(Method):
    """p = sigmoid((x - threshold) / width) for the first channel x."""

    def __init__(self, make_net: MakeNet, config: Config) -> None:
        super().__init__(make_net, config)
        self.register_buffer("threshold", torch.tensor(config.threshold))

    def forward(self, batch: Batch, progress: Progress) -> Terms:
        raise AssertionError("it has learnt nothing")

    def predict(self, image: Tensor) -> Tensor:
        side = image.shape[2]
        ramp = torch.linspace(0, self.config.tilt, side).view(1, 1, side, *[1] * (image.ndim - 3))
        p = ((image[:, :1] + ramp - self.threshold) / self.config.width).sigmoid()
        return torch.cat([1 - p, p], dim=1)


def write_run(
    path: Path,
    *,
    fields: dict[str, Any] | None = None,
    settings: dict[str, Any] | None = None,
    held_out: Sequence[str] = (),
    channels: Sequence[str] = ("MRI",),
    classes: Sequence[str] = ("background", "chamber"),
    label_values: Sequence[int] = (0, 1),
    step: int = 7,
) -> Path:
    """Write a run folder as if `Thresholding` had been trained into it, up to `step` of 7, and return it."""
    own = own_method("thresholding")
    load_own(own)  # as if this process had trained it by its file
    named = {"name": own.name, "sha256": own.digest}
    values = {"patch": (24, 24, 16), "method": named | (fields or {}), **(settings or {})}
    config, sources = resolve_config([("test", values)])
    count = len(channels)
    recipe = Recipe(
        dims=config.dims,
        spacing=config.spacing,
        slice_axis=config.slice_axis,
        normalise=("foreground",) * count,
        clip=(None,) * count,
        mean=(0.0,) * count,
        std=(1.0,) * count,
        classes=len(classes),
        channels=count,
        label_values=tuple(label_values),
    )
    facts = {
        "method": "thresholding",
        "channels": list(channels),
        "classes": list(classes),
        "recipe": recipe.to_json(),
        "split": "digest",
        "command": "semivox train",
        "versions": {},
    }
    run = create_run(path, config=config, sources=sources, facts=facts)
    keep_method(path, own)
    split = {"labelled": ["a"], "unlabelled": [], "held_out": list(held_out), "patients": None, "seed": None}
    run.split_file.write_text(json.dumps(split))
    method = Thresholding(None, Config(**(fields or {})))
    run.save_checkpoint({"total_step": step, "steps": 7, "method": method.state_dict()})
    return path
