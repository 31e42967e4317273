"""Toy batches, tiny methods and single steps, for the tests of methods: ``from crops import toy_batch``."""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import ModuleType
from typing import Any

import torch
from scipy import ndimage
from torch import Tensor, nn

from semivox.methods import method_class, method_module
from semivox.methods.base import Method
from semivox.nets.build import MakeNet
from semivox.nets.net import Net
from semivox.types import Batch, Progress, Stage, Terms, seed_from

SIZES = {2: (16, 16), 3: (16, 16, 8)}
STEPS = 10


def make_toy_net(*, dims: int = 3, channels: int = 1, classes: int = 2, **more: Any) -> MakeNet:
    """Return the maker of a V-Net of three levels and two filters."""
    options = {"filters": 2, "levels": 3, "patch": SIZES[dims]} | more
    return MakeNet("vnet", dims=dims, channels=channels, classes=classes, slice_axis=2, **options)


def make_toy_method(name: str, *, dims: int = 3, net: dict[str, Any] | None = None, **fields: Any) -> Method:
    """Return a method with a tiny net; `fields` are its config's."""
    module = method_module(name)
    return method_class(module)(make_toy_net(dims=dims, **(net or {})), module.Config(**fields))


def loss_weights(module: ModuleType) -> dict[str, float]:
    """Return the config fields that weigh what a method adds to the supervised loss: ``weight`` and ``weight_*``."""
    fields = module.Config.model_fields
    names = (name for name in fields if name == "weight" or name.startswith("weight_"))
    return {name: fields[name].default for name in names if name != "weight_decay"}


def toy_batch(
    *,
    dims: int = 3,
    labelled: int = 2,
    unlabelled: int = 4,
    channels: int = 1,
    classes: int = 2,
    seed: int = 0,
    padded: bool = True,
) -> Batch:
    """Return crops of bright blobs on noise; with `padded`, the first two voxels of the first axis are padding."""
    generator = torch.Generator().manual_seed(seed)
    image_l, label_l, valid_l = _blobs(labelled, dims, channels, classes, generator, padded)
    image_u, valid_u = None, None
    if unlabelled:
        image_u, _, valid_u = _blobs(unlabelled, dims, channels, classes, generator, padded)
    return Batch(
        image_l=image_l,
        label_l=label_l,
        valid_l=valid_l,
        targets_l={"distances": distances(label_l, classes)},
        group_l=torch.arange(labelled) % 2,
        case_l=torch.arange(labelled),
        corner_l=torch.zeros(labelled, dims, dtype=torch.int64),
        span_l=_spans(labelled, dims),
        image_u=image_u,
        valid_u=valid_u,
        case_u=torch.arange(unlabelled) if unlabelled else None,
        corner_u=torch.zeros(unlabelled, dims, dtype=torch.int64) if unlabelled else None,
        span_u=_spans(unlabelled, dims) if unlabelled else None,
        spacing=(1.0, 1.0, 2.0)[:dims],
        slice_axis=2,
    )


def _spans(batch: int, dims: int) -> Tensor:
    """Return (B, 3, 2): volumes are whole scans, slices lie one above the other from the first to the last."""
    spans = torch.tensor([0.0, 1.0]).repeat(batch, 3, 1)
    if dims == 2:
        spans[:, 0] = torch.arange(batch)[:, None] / batch + torch.tensor([0.0, 1.0]) / batch
    return spans


def distances(label: Tensor, classes: int) -> Tensor:
    """Return (B, K - 1, 2, *spatial): of every voxel to the outside and to the inside of every class, in voxels."""
    maps = []
    for item in label.numpy():
        for k in range(1, classes):
            inside = item == k
            for mask in (inside, ~inside):
                maps.append(torch.from_numpy(ndimage.distance_transform_edt(mask)).float())
    return torch.stack(maps).reshape(len(label), classes - 1, 2, *label.shape[1:])


def first_half(batch: Batch) -> Batch:
    """Return the labelled crops of half 0 alone, as a batch of their own."""
    own = batch.group_l == 0
    labelled = {name: getattr(batch, name)[own] for name in ("image_l", "label_l", "valid_l", "group_l", "case_l")}
    return Batch(**labelled, spacing=batch.spacing, slice_axis=batch.slice_axis)


def stage_batch(stage: Stage, **options: Any) -> Batch:
    """Return the toy batch that a stage asks for: without unlabelled crops, or with pseudo labels, as it says."""
    if stage.batch_unlabelled == 0:
        options["unlabelled"] = 0
    batch = toy_batch(**options)
    if "pseudo" in stage.uses and batch.image_u is not None:
        batch.label_u = (batch.image_u[:, 0] > 1).long()
        batch.weight_u = torch.ones_like(batch.image_u[:, 0])
    return batch


def toy_progress(
    step: int = 5, *, stage: str = "train", seed: int = 0, logged: bool = True, steps: int = STEPS
) -> Progress:
    """Return a place in a stage, by default one of ten steps; step 5 is its middle."""
    return Progress(stage=stage, step=step, steps=steps, total_step=step, seed=seed, logged=logged)


def run_forward(method: Method, batch: Batch, progress: Progress) -> Terms:
    """Return the terms of one step with the global randomness that the loop gives it."""
    torch.manual_seed(seed_from(progress.seed, progress.stage, progress.step, progress.rank))
    terms: Terms = method(batch, progress)
    return terms


def run_steps(method: Method, batches: list[Batch], *, stage: Stage, first: int = 0, seed: int = 0) -> None:
    """Train `method` in place for one step per batch, as the loop does."""
    freeze(method, stage)
    optimizers = method.optimizers(stage)
    method.train()
    for step, batch in enumerate(batches, start=first):
        progress = toy_progress(step, stage=stage.name, seed=seed)
        run_forward(method, batch, progress).total().backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        method.after_step(progress)


def freeze(method: Method, stage: Stage) -> None:
    """Let only what the stage trains ask for gradients."""
    method.requires_grad_(False)
    for name in stage.trains:
        method.get_submodule(name).requires_grad_(True)


def warm(method: Method, stage: Stage, **options: Any) -> Method:
    """Return `method` after four steps and with confident nets: queues filled, teachers moved, thresholds passed."""
    run_steps(method, [stage_batch(stage, seed=seed, **options) for seed in range(4)], stage=stage)
    with torch.no_grad():
        for module in method.modules():
            if isinstance(module, Net):
                for decoder in module.decoders:
                    decoder.out.weight *= 5
    return method


def all_stages(name: str) -> tuple[Stage, ...]:
    """Return a method's stages, each with a name that is not None."""
    module = method_module(name)
    return tuple(replace(stage, steps=STEPS) for stage in method_class(module).stages(module.Config()))


def gradients(method: Method) -> dict[str, Tensor]:
    """Return the gradients that are there, by name of the weight."""
    return {name: p.grad for name, p in method.named_parameters() if p.grad is not None}


def one_step(
    method: Method, batch: Batch, progress: Progress | None = None
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return losses and gradients of one step from where `method` stands, which stays as it was."""
    method = copy.deepcopy(method)
    terms = run_forward(method, batch, progress or toy_progress())
    terms.total().backward()
    return {name: loss.detach() for name, loss in terms.losses.items()}, gradients(method)


def assert_equal(first: dict[str, Tensor], second: dict[str, Tensor]) -> None:
    """Assert that both have the same tensors by the same names, bit for bit."""
    assert first.keys() == second.keys()
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def _blobs(
    batch: int, dims: int, channels: int, classes: int, generator: torch.Generator, padded: bool
) -> tuple[Tensor, Tensor, Tensor]:
    size = SIZES[dims]
    axes = [torch.linspace(-1, 1, length) for length in size]
    grid = torch.stack(torch.meshgrid(*axes, indexing="ij"))
    label = torch.zeros(batch, *size, dtype=torch.int64)
    for item in label:
        for k in range(1, classes):
            centre = torch.rand(dims, generator=generator).sub(0.5).reshape(dims, *[1] * dims)
            item[((grid - centre) / 0.5).square().sum(0) < 1] = k
    image = 0.5 * torch.randn(batch, channels, *size, generator=generator) + 2 * label.unsqueeze(1)
    valid = torch.ones_like(label, dtype=torch.bool)
    if padded:
        valid[:, :2] = False
    return image * valid.unsqueeze(1), label * valid, valid


@contextmanager
def spied(module: nn.Module) -> Iterator[list[tuple[Any, Any]]]:
    """Give a list that fills with (first argument, result) of every call of `module`, whatever changes them later."""
    calls: list[tuple[Any, Any]] = []
    handle = module.register_forward_hook(lambda _, given, result: calls.append((given[0].detach().clone(), result)))
    try:
        yield calls
    finally:
        handle.remove()
