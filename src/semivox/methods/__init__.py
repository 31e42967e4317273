"""The methods, found by file name: ``methods/simcvd.py`` is the method ``simcvd``."""

import importlib
import inspect
import pkgutil
from types import ModuleType

from semivox.errors import UnknownMethodError, nearest
from semivox.methods.base import Method


def list_methods() -> tuple[str, ...]:
    """Return the names of the methods in this package, in order; files called ``base*`` hold what several share."""
    names = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(name for name in names if not name.startswith("base")))


def method_module(name: str) -> ModuleType:
    """Return the module of a method: a name from `list_methods`, or the dotted name of a user's own module.

    Raises:
        UnknownMethodError: no such method; the message names the nearest one.
    """
    if name in list_methods():
        return importlib.import_module(f"{__name__}.{name}")
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is not None and not name.startswith(error.name):
            raise
        raise UnknownMethodError(f"there is no method '{name}': {nearest(name, list_methods())}") from None


def method_class(module: ModuleType) -> type[Method]:
    """Return the one method that a module defines; its config is the module's ``Config``.

    Raises:
        UnknownMethodError: the module defines no subclass of Method or no Config, or several.
    """
    found = [
        item for _, item in inspect.getmembers(module, inspect.isclass)
        if issubclass(item, Method) and item.__module__ == module.__name__
    ]  # fmt: skip
    if len(found) != 1 or not hasattr(module, "Config"):
        raise UnknownMethodError(
            f"module '{module.__name__}' defines {len(found)} subclasses of Method"
            f"{'' if hasattr(module, 'Config') else ' and no Config'}: a method file defines one of each"
        )
    return found[0]
