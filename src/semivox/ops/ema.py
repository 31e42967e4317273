"""Teachers: copies of a network that follow it as an exponential moving average."""

from copy import deepcopy
from typing import TypeVar

import torch
from torch import nn

Module = TypeVar("Module", bound=nn.Module)


def make_teacher(student: Module) -> Module:
    """Return a deep copy of `student` that asks for no gradient."""
    return deepcopy(student).requires_grad_(False)


@torch.no_grad()
def ema_update(teacher: nn.Module, student: nn.Module, decay: float) -> None:
    """Move `teacher` in place: decay * teacher + (1 - decay) * student, for parameters and buffers alike.

    Running statistics of batch norm are averaged like weights; integer buffers (its counter of batches) are copied.
    By hand: with teacher 1, student 0 and decay .999, k updates leave .999^k.
    """
    mine = [*teacher.parameters(), *teacher.buffers()]
    others = [*student.parameters(), *student.buffers()]
    pairs = list(zip(mine, others, strict=True))
    averaged = [(t, s) for t, s in pairs if t.is_floating_point()]
    torch._foreach_lerp_([t for t, _ in averaged], [s for _, s in averaged], 1 - decay)
    for t, s in pairs:
        if not t.is_floating_point():
            t.copy_(s)
