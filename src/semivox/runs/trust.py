"""Trust: a run folder is data; the copy of a method in it that semivox does not ship runs only by a user's word."""

from pathlib import Path

from semivox.errors import RunError
from semivox.files import write_atomic
from semivox.methods import OwnMethod, list_methods, load_own, loaded_own
from semivox.runs.folder import RunFolder

METHOD_FILE = "method.py"
"""The copy's name in a run folder."""


def keep_method(path: Path, own: OwnMethod) -> None:
    """Write a method's file into a run folder, so that the run needs no other.

    Raises:
        RunError: the folder cannot be written.
    """
    write_atomic(path / METHOD_FILE, lambda file: file.write(own.source))


def admit_method(run: RunFolder, *, trust: bool) -> None:
    """Load the method of a run from the copy in its folder, and from nowhere else.

    Methods that semivox ships need no word, nor does a file of the same content that this process runs already: it was
    given by ``train --method FILE``, or trusted before.

    Raises:
        RunError: it would run a program without `trust`; or the copy is missing, or is not what it was trained with.
    """
    if run.config.method_name in list_methods() or loaded_own(run.config.method_digest):
        return
    own = kept_method(run)
    if not trust:
        raise RunError(
            f"{run.path} was trained with '{own.name}', a method that semivox does not ship: going on would run the "
            f"program {own.path} (SHA-256 {own.digest}), which may do whatever you may. Read it, and if you trust it "
            "give --trust (in Python trust=True)"
        )
    load_own(own)


def kept_method(run: RunFolder) -> OwnMethod:
    """Return the copy of its method that a run keeps, read but not run.

    Raises:
        RunError: there is none, or its content is not what the run was trained with.
    """
    file, name, digest = run.path / METHOD_FILE, run.config.method_name, run.config.method_digest
    if not digest:
        raise RunError(
            f"{run.path} was trained with '{name}', a method that semivox does not ship, and keeps no copy of it: copy "
            f"its file to {file}, add the line method.sha256 = \"...\" with that file's SHA-256 to "
            f"{run.path / 'config.toml'}, and give --trust"
        )
    if file.is_symlink() or not file.is_file():
        raise RunError(
            f"{run.path} was trained with '{name}', a method that semivox does not ship, but {file} is no regular "
            f"file: put the file with the SHA-256 {digest} there"
        )
    own = OwnMethod(name, file, file.read_bytes())
    if own.digest != digest:
        raise RunError(
            f"{file} is not the file that {run.path} was trained with: found SHA-256 {own.digest}, expected {digest} "
            "(config.toml); put that file back, or train again"
        )
    return own
