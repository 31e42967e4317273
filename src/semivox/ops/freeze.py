"""Which parts of a module learn."""

from collections.abc import Iterable

from torch import nn


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
