"""Which parts of a module learn, how to pass through one that shall not or in evaluation mode, and what is unused."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.func import functional_call


def learn_only(module: nn.Module, names: Iterable[str]) -> None:
    """Let the named submodules of `module` ask for gradients, and nothing else in it.

    Args:
        module: a method, usually.
        names: of submodules, as in ``Stage.trains``.

    Raises:
        AttributeError: `module` has no submodule of that name.
    """
    learning = [module.get_submodule(name) for name in names]
    module.requires_grad_(False)
    for part in learning:
        part.requires_grad_(True)


def through_frozen(module: nn.Module, *inputs: Tensor) -> Tensor:
    """Return what `module` gives for `inputs`, with a gradient to them and none to its own weights.

    Its buffers stay as they are. Unlike ``requires_grad`` switched off and on, this leaves the weights free to learn
    from another call in the same step.
    """
    state = {name: weight.detach() for name, weight in module.named_parameters()}
    state |= {name: buffer.clone() for name, buffer in module.named_buffers()}
    result: Tensor = functional_call(module, state, inputs)
    return result


def unused(module: nn.Module) -> Tensor:
    """Return 0, whose gradient is 0 for every weight of `module`.

    To be added to the losses of a step that does not use the module: under DDP each step waits for a gradient of every
    weight that learns.
    """
    return 0 * torch.stack([weight.sum() for weight in module.parameters()]).sum()


@torch.no_grad()
def in_eval(module: nn.Module, *inputs: Tensor) -> Tensor:
    """Return what `module` gives in evaluation mode, without gradient; each of its parts then has its mode again."""
    modes = [(part, part.training) for part in module.modules()]
    module.eval()
    try:
        result: Tensor = module(*inputs)
    finally:
        for part, mode in modes:
            part.training = mode
    return result
