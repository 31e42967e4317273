"""What goes wrong in a training step, told with what to do about it; signals, which end it behind a checkpoint."""

import signal
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

import torch

from semivox.errors import ConfigError, MethodError, RunError
from semivox.methods.base import Method
from semivox.types import Terms


@contextmanager
def device_errors_told(total_step: int, device: torch.device, *, last_good: Callable[[], str]) -> Iterator[None]:
    """Say what to do where a step asks the device for more memory, or more determinism, than it has.

    Args:
        total_step: the step's number, for the message.
        device: where it runs.
        last_good: gives the name of the newest checkpoint.

    Raises:
        RunError: out of memory.
        ConfigError: an operation that is not deterministic while torch was told to allow no such.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise RunError(
            f"step {total_step}: {_memory_of(device)}, too little for this step: lower batch_labelled, "
            "batch_unlabelled, patch or net.filters, or let `semivox plan --memory` choose them; the last good "
            f"checkpoint, {last_good()}, stays"
        ) from error
    except RuntimeError as error:
        if not torch.are_deterministic_algorithms_enabled() or "deterministic" not in str(error).lower():
            raise
        raise ConfigError(
            f"step {total_step}: determinism = 'strict', but torch says: {str(error).splitlines()[0]} "
            "Set determinism = 'fast'"
        ) from error


@contextmanager
def signals_caught(interrupted: threading.Event) -> Iterator[None]:
    """Turn SIGTERM and SIGINT into a stop behind a checkpoint; a second SIGINT ends the process at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def note(number: int, frame: FrameType | None) -> None:
        if interrupted.is_set() and number == signal.SIGINT:
            raise KeyboardInterrupt
        interrupted.set()

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def first_infinite(state: Mapping[str, Any]) -> str | None:
    """Return the name of the first tensor with anything but numbers in it, or None; the device is waited for once."""
    tensors = {name: value for name, value in state.items() if torch.is_tensor(value) and value.is_floating_point()}
    if not tensors:
        return None
    finite = torch.stack([torch.isfinite(value).all() for value in tensors.values()])
    return None if finite.all() else list(tensors)[finite.tolist().index(False)]


def checked_terms(terms: Any, method: Method) -> Terms:
    """Return what a method's ``forward`` returned.

    Raises:
        MethodError: it is anything but Terms, without a loss, or with a value that is no tensor of one number.
    """
    if not isinstance(terms, Terms):
        raise _wrong_terms(method, f"a {type(terms).__name__}")
    for kind, values in (("losses", terms.losses), ("shown", terms.shown)):
        if not isinstance(values, dict) or (kind == "losses" and not values):
            raise _wrong_terms(method, f"Terms whose {kind} are {values!r}")
        for name, value in values.items():
            if not torch.is_tensor(value) or value.ndim:
                shape = f" of shape {tuple(value.shape)}" if torch.is_tensor(value) else ""
                raise _wrong_terms(method, f"Terms whose {kind}[{name!r}] is a {type(value).__name__}{shape}")
    return terms


def _wrong_terms(method: Method, found: str) -> MethodError:
    code = type(method).forward.__code__
    return MethodError(
        f"{code.co_filename}, line {code.co_firstlineno}: {type(method).__name__}.forward returned {found}, expected "
        "semivox.types.Terms({name: a scalar tensor, ...}), with at least one loss"
    )


def _memory_of(device: torch.device) -> str:
    if device.type != "cuda":
        return "the machine has no memory left"
    return f"the GPU has {torch.cuda.get_device_properties(device).total_memory / 1e9:.1f} GB"
