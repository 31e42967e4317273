"""The methods, found by file name: ``methods/simcvd.py`` is the method ``simcvd``."""

import importlib
import pkgutil
from types import ModuleType

from semivox.errors import UnknownMethodError, nearest
from semivox.methods.base_file import OwnMethod, load_own, loaded_own, method_class, own_name, read_own

__all__ = [
    "OwnMethod", "list_methods", "load_own", "loaded_own", "method_class", "method_module", "own_method",
    "own_name", "shipped_module",
]  # fmt: skip


def list_methods() -> tuple[str, ...]:
    """Return the names of the methods in this package, in order; files called ``base*`` hold what several share."""
    names = (module.name for module in pkgutil.iter_modules(__path__))
    return tuple(sorted(name for name in names if not name.startswith("base")))


def method_module(word: str) -> ModuleType:
    """Return the module of a method that a user named: one from `list_methods`, or a file of one's own, which runs.

    Args:
        word: a name, ``path/own.py``, or the dotted name of a module in one file.

    Raises:
        UnknownMethodError: no such method; the message names the nearest one.
        MethodError: the file is none of a method.
    """
    own = own_method(word)
    return load_own(own) if own else shipped_module(word)


def own_method(word: str) -> OwnMethod | None:
    """Return the file of one's own that a word names, read but not run; None for a method that semivox ships.

    Raises:
        UnknownMethodError: no such method; or a file that is called as a shipped one, which reports would mix up.
        MethodError: the file cannot be read.
    """
    known = list_methods()
    if word in known:
        return None
    try:
        own = read_own(word)
    except UnknownMethodError:
        if own_name(word) != word:  # a path
            raise
        raise UnknownMethodError(
            f"there is no method '{word}': {nearest(word, known)} Your own is named by its file, path/own.py"
        ) from None
    if own.name in known:
        raise UnknownMethodError(f"{own.path} is called as a method that semivox ships: give the file another name")
    return own


def shipped_module(name: str) -> ModuleType:
    """Return the module of a method that semivox ships.

    Raises:
        UnknownMethodError: it ships none of that name; the message names the nearest one.
    """
    known = list_methods()
    if name not in known:
        raise UnknownMethodError(
            f"semivox ships no method '{name}': {nearest(name, known)} A method of one's own is named by --method FILE"
        )
    return importlib.import_module(f"{__name__}.{name}")
