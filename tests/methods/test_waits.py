"""No step of a method makes the CPU wait for a GPU, as seen on the CPU from the operations that it dispatches."""

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from crops import all_stages, freeze, make_toy_method, stage_batch, toy_progress, warm
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode

import semivox
from semivox.methods import list_methods

ATEN = torch.ops.aten
READ = {
    *(ATEN._local_scalar_dense, ATEN.item, ATEN.is_nonzero, ATEN.equal),
    *(ATEN.nonzero, ATEN.masked_select, ATEN.bincount, ATEN._unique2, ATEN.unique_dim, ATEN.unique_consecutive),
}
"""Operations whose result, or its shape, the CPU must know: `.item()`, `int(x)`, `if x`, `.tolist()`, `x.nonzero()`."""
MADE = {ATEN.lift_fresh, ATEN.lift_fresh_copy}
"""What makes a tensor from Python numbers, which a GPU is sent and waited for."""
COPIED = {Tensor.cpu, Tensor.tolist, Tensor.numpy, Tensor.__array__}
"""What a tensor on the CPU does without any operation, and one on a GPU by a copy that is waited for."""
INDEXED = {ATEN.index, ATEN.index_put, ATEN.index_put_, ATEN._index_put_impl_}
"""Indexing: by a mask, the shape of the result is unknown before it is there."""
WAITING = {
    ("bcp", "mix"): "ops/components.py",  # rounds until nothing changes: how many, only the labels know
    ("local_contrast", "local"): "ops/dense.py",  # once: how many pixels ask, of which most would ask for nothing
}
"""The stages that wait all the same, and the one file in which they do."""


class Waits(TorchDispatchMode):
    """Lists the lines of semivox that would wait for a GPU, while it is entered."""

    def __init__(self) -> None:
        super().__init__()
        self.found: set[str] = set()

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        packet = function.overloadpacket
        masked = packet in INDEXED and any(index is not None and index.dtype == torch.bool for index in args[1])
        of_unknown_length = packet is ATEN.repeat_interleave and kwargs.get("output_size") is None
        if packet in READ | MADE or masked or of_unknown_length:
            self.found.add(f"{packet} in {line_of_semivox()}")
        return function(*args, **kwargs)


class Copies(TorchFunctionMode):
    """Adds the lines that would copy a tensor to the CPU to `found`, while it is entered."""

    def __init__(self, found: set[str]) -> None:
        super().__init__()
        self.found = found

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if function in COPIED:
            self.found.add(f"{function.__name__} in {line_of_semivox()}")
        return function(*args, **(kwargs or {}))


def line_of_semivox() -> str:
    """Return the innermost line of the package that is running, FILE:LINE CODE."""
    package = Path(semivox.__file__).parent
    frames = [frame for frame in traceback.extract_stack() if Path(frame.filename).is_relative_to(package)]
    return f"{Path(frames[-1].filename).relative_to(package)}:{frames[-1].lineno} {frames[-1].line}" if frames else "?"


def waits_of(call: Callable[[], object]) -> set[str]:
    with Waits() as waits, Copies(waits.found):
        call()
    return waits.found


@pytest.mark.parametrize("dims", [2, 3])
@pytest.mark.parametrize(("name", "stage"), [(name, stage) for name in list_methods() for stage in all_stages(name)])
def test_a_step_that_is_not_logged_asks_a_gpu_for_nothing(name, stage, dims):
    method = warm(make_toy_method(name, dims=dims), stage, dims=dims)
    freeze(method, stage)
    optimizers = method.optimizers(stage)
    batch, progress = stage_batch(stage, dims=dims, seed=9), toy_progress(stage=stage.name, logged=False)

    def step() -> None:
        method(batch, progress).total().backward()
        method.after_step(progress)

    assert optimizers
    found = waits_of(step)
    allowed = WAITING.get((name, stage.name))
    assert not {line for line in found if not (allowed and f"in {allowed}:" in line)}
    assert bool(found) == bool(allowed), "an exception that is none any more"


WAITERS: dict[str, Callable[[torch.Tensor], object]] = {
    "item": lambda x: x[0].item(),
    "int": lambda x: int(x[0]),
    "if": lambda x: 1 if x[0] > 0 else 0,
    "tolist": lambda x: x.tolist(),
    "cpu": lambda x: x.cpu(),
    "numpy": lambda x: x.numpy(),
    "nonzero": lambda x: x.nonzero(),
    "mask": lambda x: x[x > 0],
    "mask written to": lambda x: x.clone().__setitem__(x > 0, x[x > 0]),
    "where": lambda x: torch.where(x > 0),
    "numbers": lambda x: torch.tensor([1.0, 2.0]),
    "unique": lambda x: x.unique(),
    "bincount": lambda x: x.long().bincount(),
    "repeats": lambda x: x.repeat_interleave(x.long()),
    "equal": lambda x: torch.equal(x, x),
}


@pytest.mark.parametrize("how", WAITERS)
def test_what_waits_is_found(how):
    x = torch.tensor([1.0, 2.0, 0.0])
    assert waits_of(lambda: WAITERS[how](x))


def test_what_does_not_wait_is_not_found():
    x = torch.arange(3.0)
    assert not waits_of(lambda: torch.where(x > 0, x, 0.0).masked_fill(x > 1, 2.0)[torch.arange(2)].sum())
    assert not waits_of(lambda: x.gather(0, x.long()).cumsum(0).argsort().topk(2))
