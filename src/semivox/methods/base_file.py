"""Method files: what each must define; and those that semivox does not ship, read once and known by their content."""

import hashlib
import inspect
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from semivox.errors import MethodError, UnknownMethodError
from semivox.methods.base import Method, MethodConfig

EXPECTED = "expected one file with a card, a Config and one subclass of Method, which imports installed packages alone"


@dataclass(frozen=True)
class OwnMethod:
    """The file of a method that semivox does not ship, as it was read; nothing of it has run by that.

    Attributes:
        name: what config and reports call it: the file's stem, or the dotted name that it was asked for by.
        path: where it was read.
        source: its bytes.
    """

    name: str
    path: Path
    source: bytes

    @property
    def digest(self) -> str:
        """The SHA-256 of the file."""
        return hashlib.sha256(self.source).hexdigest()


def read_own(word: str) -> OwnMethod:
    """Return the file of a method: ``path/own.py``, or the dotted name of a module in one file.

    Raises:
        UnknownMethodError: there is no such file.
        MethodError: it cannot be read, or is a package.
    """
    path = Path(word) if _is_path(word) else _dotted_file(word)
    if not path.is_file():
        raise UnknownMethodError(f"there is no method file '{word}' (working folder {Path.cwd()}): check the path")
    try:
        return OwnMethod(own_name(word), path, path.read_bytes())
    except OSError as error:
        raise MethodError(f"the method file {path} cannot be read ({error.strerror or error})") from None


def own_name(word: str) -> str:
    """Return what a method is called that is named by a word: the stem of a path, or the word itself."""
    return Path(word).stem if _is_path(word) else word


def load_own(own: OwnMethod) -> ModuleType:
    """Run a method file, and return its module; once in a process for every content.

    The module's name is made of the content, so that two files of one name are never taken for each other.

    Raises:
        MethodError: a syntax error, an exception, or not what a method file defines; with the line.
    """
    name = _module_name(own.digest)
    if name in sys.modules:
        return sys.modules[name]
    module = ModuleType(name)
    module.__file__, module.__package__ = str(own.path.absolute()), ""
    sys.modules[name] = module  # while it runs, too: pydantic looks its classes up there
    try:
        exec(compile(own.source, module.__file__, "exec", dont_inherit=True), vars(module))
        method_class(module)
    except BaseException as error:
        del sys.modules[name]
        if isinstance(error, MethodError) or not isinstance(error, Exception | SystemExit):
            raise
        raise MethodError(
            f"{own.path}{_line_of(error, module.__file__)}: {type(error).__name__}: {_said(error)}; {EXPECTED}"
        ) from error
    return module


def loaded_own(digest: str) -> ModuleType | None:
    """Return the module that `load_own` made of the file with this SHA-256; None where it has not run here."""
    return sys.modules.get(_module_name(digest))


def method_class(module: ModuleType) -> type[Method]:
    """Return the one method that a module defines; its config is the module's ``Config``.

    Raises:
        MethodError: the module has no card or no Config, not one subclass of Method, or one that lacks a verb.
    """
    found = [
        item for _, item in inspect.getmembers(module, inspect.isclass)
        if issubclass(item, Method) and item.__module__ == module.__name__
    ]  # fmt: skip
    config = getattr(module, "Config", None)
    where = module.__file__
    if len(found) != 1:
        names = f" ({', '.join(item.__name__ for item in found)})" if found else ""
        raise MethodError(f"{where} defines {len(found)} subclasses of Method{names}, expected one; {EXPECTED}")
    if not (inspect.isclass(config) and issubclass(config, MethodConfig)):
        raise MethodError(f"{where} defines no Config, expected a subclass of MethodConfig of that name; {EXPECTED}")
    if not (module.__doc__ or "").strip():
        raise MethodError(f"{where} has no card, expected a docstring on its first line that says what the method is")
    for verb in ("forward", "predict"):
        if getattr(found[0], verb) is getattr(Method, verb):
            raise MethodError(f"{where}: {found[0].__name__} defines no {verb}, expected forward and predict")
    return found[0]


def _is_path(word: str) -> bool:
    return word.endswith(".py") or "/" in word or "\\" in word


def _module_name(digest: str) -> str:
    return f"semivox_own_{digest}"


def _dotted_file(word: str) -> Path:
    """Return the file of a module, found as Python would, but without running the packages on the way."""
    parts = word.split(".")
    if all(part.isidentifier() for part in parts):
        for place in map(Path, [*sys.path, ""]):  # as with `python -m`, it may lie in the working folder
            if place.joinpath(*parts, "__init__.py").is_file():
                raise MethodError(
                    f"'{word}' is a package ({place.joinpath(*parts)}), and a method is one file: name the module in "
                    "it, or give the path of the file"
                )
            found = place.joinpath(*parts[:-1], f"{parts[-1]}.py")
            if found.is_file():
                return found
    return Path(f"{word}.py")


def _line_of(error: BaseException, file: str) -> str:
    """Return where in a file an error came up, as ``, line 3``; nothing where it did not."""
    if isinstance(error, SyntaxError) and error.filename == file:
        return f", line {error.lineno}"
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == file]
    return f", line {lines[-1]}" if lines else ""


def _said(error: BaseException) -> str:
    return error.msg if isinstance(error, SyntaxError) else str(error) or "nothing said"
