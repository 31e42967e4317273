"""What a checkpoint holds, given back to the method and the optimisers it is of; one clear line where it cannot."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.optim import SGD, Adam, Optimizer

from semivox.errors import RunError


def whole_number(state: Mapping[str, Any], key: str, path: Path, *, low: int = 0) -> int:
    """Return a number that a checkpoint holds.

    Raises:
        RunError: it is missing, no whole number, or below `low`.
    """
    found = state.get(key)
    if type(found) is not int or found < low:
        raise _damaged(path, f"found {key} = {_shown(found)}, expected a whole number from {low} on")
    return found


def steps_taken(state: Mapping[str, Any], path: Path) -> tuple[int, int]:
    """Return how many steps the weights of a checkpoint have taken, and how many the whole run has.

    Raises:
        RunError: either is no such number.
    """
    step = whole_number(state, "total_step", path, low=1)
    return step, whole_number({"steps": step, **state}, "steps", path, low=1)


def load_method(method: nn.Module, state: Mapping[str, Any], path: Path) -> None:
    """Give a method the weights, banks and queues that a checkpoint holds.

    Raises:
        RunError: some are missing, unknown, of another shape or type, or not finite.
    """
    found, expected = state.get("method"), method.state_dict()
    if not isinstance(found, Mapping):
        raise _damaged(path, f"found method = {_shown(found)}, expected tensors by name")
    for name in [*expected, *found]:
        if name not in found or name not in expected:
            lacks = "lacks" if name not in found else "has, but the method of its config lacks,"
            raise RunError(
                f"checkpoint {path} is damaged, or of another version of its method: it {lacks} '{name}'; take the "
                "semivox that run.json names, or resume from the checkpoint before"
            )
        if torch.is_tensor(expected[name]):
            _check_tensor(found[name], expected[name], f"'{name}'", path)
    method.load_state_dict(found)


def load_scale(precision: Any, saved: Any, path: Path) -> None:
    """Give Fabric's precision the scale of losses that a checkpoint holds; other than fp16 have none.

    Raises:
        RunError: it is no such scale.
    """
    try:
        precision.load_state_dict(dict(saved))
    except Exception as error:
        raise _damaged(path, f"found precision = {_shown(saved)}, expected the scale of the losses ({error})") from None


def load_optimizers(optimizers: Sequence[Optimizer], saved: Any, path: Path) -> None:
    """Give optimisers the state that a checkpoint holds.

    Args:
        optimizers: fresh ones, of the same config.
        saved: the state of each.
        path: of the checkpoint, for the message.

    Raises:
        RunError: it is not theirs: of another number, kind or shape, or not finite.
    """
    if not isinstance(saved, list) or len(saved) != len(optimizers):
        raise _damaged(path, f"found optimizers = {_shown(saved)}, expected a list of {len(optimizers)}")
    for optimizer, one in zip(optimizers, saved, strict=True):
        fresh = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
        try:
            optimizer.load_state_dict(one)
            kept = _kept(optimizer)
            # What others keep (Adafactor: rows and columns of a weight) is theirs to know.
            whole = _is_of_one_kind(kept) if isinstance(optimizer, SGD | Adam) else all(map(_is_whole, kept))
        except Exception as error:
            raise _damaged(path, f"its optimiser cannot be read ({error})") from None
        if not whole:
            raise _damaged(path, "what its optimiser keeps of the weights is not all of one kind, shape or finite")
        for group, expected in zip(optimizer.param_groups, fresh, strict=True):
            for key, value in expected.items():
                if not _alike(group.get(key), value):
                    raise _damaged(path, f"found {key} = {_shown(group.get(key))} in its optimiser")


def _kept(optimizer: Optimizer) -> list[tuple[torch.Tensor, Mapping[str, Any]]]:
    """Return (weight, what is kept of it) for every weight that has learned."""
    weights = [weight for group in optimizer.param_groups for weight in group["params"]]
    return [(weight, kept) for weight in weights if (kept := optimizer.state.get(weight, {})) != {}]


def _is_whole(kept: tuple[torch.Tensor, Mapping[str, Any]]) -> bool:
    """Return whether all that is kept of a weight is finite."""
    values = kept[1].values() if isinstance(kept[1], Mapping) else [None]
    return all(torch.isfinite(value).all() if torch.is_tensor(value) else value is None or _is_finite(value)
               for value in values)  # fmt: skip


def _is_of_one_kind(kept: Sequence[tuple[torch.Tensor, Mapping[str, Any]]]) -> bool:
    """Return whether the same is kept of all weights, each value finite and of its weight's shape or a number."""
    kinds: dict[str, set[Any]] = {}
    if not all(isinstance(values, Mapping) for _, values in kept):
        return False
    for weight, values in kept:
        for key, value in values.items():
            kinds.setdefault(key, set()).add(_kind(value, weight))
    one = all(len(found - {"nothing"}) <= 1 and "wrong" not in found for found in kinds.values())
    return one and all(values.keys() == kinds.keys() for _, values in kept)


def _kind(value: Any, weight: torch.Tensor) -> Any:
    """Return what the state of all weights has in common; "wrong" for what no optimiser keeps."""
    if value is None:
        return "nothing"
    if not torch.is_tensor(value):
        return "number" if _is_finite(value) else "wrong"
    fits = value.dim() == 0 or value.shape == weight.shape
    return (value.dtype, value.dim() == 0) if fits and bool(torch.isfinite(value).all()) else "wrong"


def _alike(found: Any, expected: Any) -> bool:
    """Return whether a value is of the kind that is expected; numbers are finite."""
    if isinstance(expected, list | tuple):
        pairs = zip(found, expected, strict=False) if isinstance(found, list | tuple) else ()
        return isinstance(found, list | tuple) and len(found) == len(expected) and all(_alike(a, b) for a, b in pairs)
    if isinstance(expected, int | float) and not isinstance(expected, bool):
        return _is_finite(found)
    return type(found) is type(expected)


def _is_finite(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) < 2**63 and math.isfinite(value)


def _check_tensor(found: Any, expected: torch.Tensor, what: str, path: Path) -> None:
    if not torch.is_tensor(found) or found.layout != torch.strided:
        raise _damaged(path, f"found {what} = {_shown(found)}, expected a tensor")
    kinds = [f"{tensor.dtype} of shape {tuple(tensor.shape)}".removeprefix("torch.") for tensor in (found, expected)]
    if kinds[0] != kinds[1]:
        raise _damaged(path, f"found {what} as {kinds[0]}, expected {kinds[1]}, as its config asks for")
    if found.is_floating_point() and not torch.isfinite(found).all():
        raise _damaged(path, f"found numbers in {what} that are not finite")


def _shown(value: Any) -> str:
    """Return a value for a message: short, and on one line."""
    text = " ".join(repr(value).split()) if not isinstance(value, Mapping | list | tuple) else type(value).__name__
    return text if len(text) <= 60 else f"{text[:60]}…"


def _damaged(path: Path, what: str) -> RunError:
    return RunError(f"checkpoint {path} is damaged: {what}; delete it and resume from the one before")
