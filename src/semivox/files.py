"""Files on disk: written whole or not at all, locked, digested; JSON read with one clear line where it is damaged."""

import contextlib
import csv
import errno
import glob
import hashlib
import io
import json
import os
import platform
import shutil
import time
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from semivox.errors import RunError, SemivoxError

UNFINISHED = ".unfinished-"
"""How the name of a file or folder begins while it is being written; hidden, so that no scan is called so."""
DAY = 24 * 3600
FEW_HANDLES = (
    "too many files are open at once: allow more with `ulimit -n 65536` in this shell (or ask who runs the machine), "
    "then give the same command again"
)


@contextmanager
def whole_file(path: Path, *, then: str = "try again") -> Iterator[Path]:
    """Give a path to write to, which takes the place of `path` when all went well and is removed when not.

    A reader sees the old file or the new one, never a part; the folder is made; the mode follows the umask. What killed
    processes left of the same file goes once it is a day old.

    Args:
        path: of the file; the temporary name keeps its ending, since some writers choose the format by it.
        then: what a person does once the disk is free.

    Raises:
        RunError: `path` is there and no regular file, or cannot be written; nothing half-written stays.
    """
    refuse_irregular(path)
    # In the same folder, since only a rename within one file system is atomic.
    temporary = path.with_name(f"{UNFINISHED}{uuid.uuid4().hex}-{path.name}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        with temporary.open("rb+") as file:
            os.fsync(file.fileno())  # a rename that outlives its data would look whole after a power cut
        os.replace(temporary, path)
    except SemivoxError:
        raise
    except (OSError, RuntimeError) as error:  # torch and ITK report a full disk as a RuntimeError
        raise unwritable(path, error, then=then) from error
    finally:
        if temporary.parent.is_dir():
            temporary.unlink(missing_ok=True)  # after Ctrl-C too
    remove_unfinished(path.parent, of=path.name)


def write_atomic(path: Path, write: Callable[[IO[bytes]], Any], *, then: str = "try again") -> None:
    """Write a file through a handle, whole or not at all; see `whole_file`.

    Raises:
        RunError: the disk is full, read-only or gone, or `path` is no regular file.
    """
    with whole_file(path, then=then) as temporary, temporary.open("xb") as file:
        write(file)


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write rows as a CSV file, whole or not at all.

    Raises:
        RunError: it cannot be written.
    """
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, columns, lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_atomic(path, lambda file: file.write(text.getvalue().encode()))


@contextmanager
def whole_folder(folder: Path, *, then: str = "try again") -> Iterator[Path]:
    """Give a folder to write into, which takes the place of `folder` when all went well and is removed when not.

    Args:
        folder: is not there, or empty.
        then: what a person does once the disk is free.

    Raises:
        RunError: see `refuse_used_folder`; or it cannot be written; nothing half-written stays.
    """
    refuse_used_folder(folder)
    folder = folder.absolute()
    temporary = folder.with_name(f"{UNFINISHED}{uuid.uuid4().hex}-{folder.name}")
    parents = [parent for parent in folder.parents if not parent.exists()]
    try:
        temporary.mkdir(parents=True)
        yield temporary
        os.replace(temporary, folder)
    except SemivoxError:
        raise
    except OSError as error:
        raise unwritable(folder, error, then=then) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)  # after Ctrl-C too
        for parent in parents:
            with contextlib.suppress(OSError):  # it holds what went well
                parent.rmdir()
    remove_unfinished(folder.parent, of=folder.name)


def refuse_few_handles(error: BaseException) -> None:
    """Refuse to go on where an error, or what caused it, is that too many files are open: no file is at fault.

    Raises:
        RunError: it is.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in (errno.EMFILE, errno.ENFILE):
            raise RunError(FEW_HANDLES) from error
        cause = cause.__cause__ or cause.__context__


def unwritable(path: Path, error: Exception, *, then: str = "try again") -> RunError:
    """Return the error that says that a file or folder cannot be written, and why."""
    if isinstance(error, OSError) and error.errno in (errno.EMFILE, errno.ENFILE):
        return RunError(FEW_HANDLES)
    return RunError(f"cannot write {path}: {error}; free or unlock the disk, then {then}")


def refuse_irregular(path: Path) -> None:
    """Refuse to write over a link, a device, a pipe or a folder.

    Raises:
        RunError: `path` is one.
    """
    if path.is_symlink() or (path.exists() and not path.is_file()):
        kind = "a link" if path.is_symlink() else "a folder" if path.is_dir() else "a device or a pipe"
        raise RunError(f"cannot write {path}: found {kind}, expected a regular file or none; name another output")


def refuse_no_folder(path: Path) -> None:
    """Refuse a folder for results that is a link, or that is there and no folder.

    Raises:
        RunError: it is.
    """
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        kind = "a link" if path.is_symlink() else "a file" if path.is_file() else "a device or a pipe"
        raise RunError(f"cannot write into {path}: found {kind}, expected a folder or none; name another with -o")


def refuse_used_folder(folder: Path) -> None:
    """Refuse a folder for results in which something lies already; see `refuse_no_folder`.

    Raises:
        RunError: it does.
    """
    refuse_no_folder(folder)
    if folder.is_dir() and any(folder.iterdir()):
        raise RunError(f"{folder} is not empty, and nothing in it is replaced: name another folder with -o")


def append_line(path: Path, line: str, *, then: str = "try again") -> None:
    """Add a line to a file, which is never a link to another.

    Raises:
        RunError: it is a link, or cannot be written; `then` says what to do once the disk is free.
    """

    def opened(name: str, flags: int) -> int:
        return os.open(name, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)

    try:
        with open(path, "a", encoding="utf-8", opener=opened) as file:
            file.write(line + "\n")
    except OSError as error:
        raise unwritable(path, error, then=then) from error


def remove_unfinished(folder: Path, *, of: str = "", age: float = DAY) -> None:
    """Remove what killed processes left half-written in a folder, once no living process can own it.

    Args:
        folder: is not searched below.
        of: the name of the file that was being written; else of any.
        age: in seconds, since the last change.
    """
    for left in folder.glob(f"{UNFINISHED}*{glob.escape(of)}"):
        with contextlib.suppress(OSError):  # its owner was quicker
            if time.time() - left.stat().st_mtime > age:
                shutil.rmtree(left) if left.is_dir() else left.unlink()


@contextmanager
def locked_folder(folder: Path, *, doing: str) -> Iterator[None]:
    """Keep other processes out of a folder, which is made where it is missing, until the block ends.

    The kernel frees the lock of a process that dies. Where the system or the disk knows no locks, there is none.

    Args:
        folder: gets a file called ``lock``.
        doing: what is done with it, as in "is being trained into".

    Raises:
        RunError: another process holds it, or it cannot be written.
    """
    refuse_no_folder(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        refuse_irregular(folder / "lock")
        handle = os.open(folder / "lock", os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
    except OSError as error:
        raise unwritable(folder, error) from error
    try:
        if not _lock(handle):
            owner = os.read(handle, 1000).decode(errors="replace") or "another process"
            raise RunError(f"{folder} is being {doing} by {owner}: wait for its end, or name another folder with -o")
        os.ftruncate(handle, 0)
        os.pwrite(handle, f"process {os.getpid()} on {platform.node()}".encode(), 0)
        yield
    finally:
        os.close(handle)


@contextmanager
def in_turn(folder: Path) -> Iterator[None]:
    """Let other processes that ask for the same folder wait until the block ends: for a file that all read and rewrite.

    Where the system or the disk knows no locks, nobody waits.

    Raises:
        RunError: there is no such folder.
    """
    try:
        handle = os.open(folder, os.O_RDONLY)
    except PermissionError:  # Windows opens no folders
        yield
        return
    except OSError as error:
        raise unwritable(folder, error) from error
    try:
        _lock(handle, wait=True)
        yield
    finally:
        os.close(handle)


def _lock(handle: int, *, wait: bool = False) -> bool:
    """Lock an open file or folder, when its turn comes or at once; False where another holds it."""
    try:
        import fcntl
    except ImportError:  # Windows
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:  # some network disks
        return True
    return True


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_object(path: Path, *, advice: str, error: type[SemivoxError] = RunError) -> dict[str, Any]:
    """Return the JSON object that a file holds.

    Args:
        path: of a file in UTF-8.
        advice: what to do where it is damaged, such as "restore it or train again".
        error: the class of what is raised.

    Raises:
        FileNotFoundError: there is no such file.
        SemivoxError: it cannot be read, or holds no JSON object; of the class `error`.
    """
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise
    except OSError as reason:
        raise error(f"{path} cannot be read ({reason.strerror or reason}); {advice}") from None
    except (ValueError, RecursionError) as reason:  # no UTF-8, no JSON, a number of a million digits, deep nesting
        raise error(f"{path} is damaged ({reason}), expected a JSON object; {advice}") from None
    if not isinstance(found, dict):
        raise error(f"{path} is damaged (found {type(found).__name__}), expected a JSON object; {advice}")
    return found


def listed(paths: Path | str | Sequence[Path | str]) -> list[Path]:
    """Return the paths that one path, or several, name; a string is one path."""
    return [Path(paths)] if isinstance(paths, Path | str) else [Path(path) for path in paths]


def if_given(path: Path | str | None) -> Path | None:
    """Return what a path, or a string, names; None for None."""
    return None if path is None else Path(path)
