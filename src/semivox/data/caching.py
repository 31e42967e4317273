"""A cache of arrays on disk: an entry is a folder that is there whole or not at all."""

import contextlib
import hashlib
import json
import os
import shutil
import sys
import uuid
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semivox.errors import RunError
from semivox.files import UNFINISHED

Arrays = dict[str, NDArray[Any]]
Facts = dict[str, Any]


def default_cache() -> Path:
    """Return the cache's folder: ``SEMIVOX_CACHE``, or ``semivox`` in the place where this system keeps caches."""
    if named := os.environ.get("SEMIVOX_CACHE"):
        return Path(named)
    homes = {"darwin": Path.home() / "Library/Caches", "win32": Path(os.environ.get("LOCALAPPDATA", Path.home()))}
    usual = homes.get(sys.platform, Path.home() / ".cache")
    return Path(os.environ.get("XDG_CACHE_HOME") or usual) / "semivox"


def cache_size(cache: Path) -> int:
    """Return the bytes of all files in a cache; 0 where there is none."""
    total = 0
    for folder, _, names in os.walk(cache):  # unlike rglob before Python 3.13, it bears folders that vanish under it
        for name in names:
            with contextlib.suppress(FileNotFoundError):  # another process has just finished or removed it
                total += os.stat(os.path.join(folder, name)).st_size
    return total


def cache_key(*parts: object) -> str:
    """Return a name for an entry that is a function of its parts, which JSON can hold."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:40]


def file_stamps(paths: Iterable[Path]) -> list[tuple[str, int, int]]:
    """Return path, size in bytes and time of change in ns of every file, without opening it."""
    return [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]


def cached(cache: Path, key: str, make: Callable[[], tuple[Arrays, Facts]]) -> tuple[Arrays, Facts]:
    """Return an entry's arrays, memory-mapped and read-only, and the facts kept with them; make it where it is missing.

    Several processes may ask for the same entry at once: each writes its own folder, the first renamed stays.

    Args:
        cache: the folder of all entries.
        key: the entry's name, from `cache_key`.
        make: gives the arrays, and facts that JSON can hold.

    Raises:
        RunError: the cache cannot be written; nothing half-written is left.
    """
    entry = cache / key
    found = _open(entry)
    if found is None:
        arrays, facts = make()
        _store(entry, arrays, facts)
        found = _open(entry)
    if found is None:
        raise RunError(f"the cache entry {entry} cannot be read after writing: check the disk, or name another --cache")
    return found


def allow_open_files(count: int) -> None:
    """Raise this process's own limit on open files to `count` and some more: every mapped array holds one."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + 512
    if soft != resource.RLIM_INFINITY and soft < wanted:
        wanted = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _open(entry: Path) -> tuple[Arrays, Facts] | None:
    """Return a whole entry; None where it is missing or is not what its own list says."""
    try:
        listed = json.loads((entry / "entry.json").read_text())
        arrays = {name: np.load(entry / f"{name}.npy", mmap_mode="r") for name in listed["arrays"]}
    except (OSError, ValueError, KeyError, TypeError):
        return None
    whole = all([list(arrays[name].shape), arrays[name].dtype.str] == kept for name, kept in listed["arrays"].items())
    return (arrays, listed["facts"]) if whole else None


def _store(entry: Path, arrays: Arrays, facts: Facts) -> None:
    unfinished = None
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        unfinished = _new_folder(entry.parent)
        _write(unfinished, arrays, facts)
        _settle(unfinished, entry)
    except OSError as error:
        raise RunError(
            f"cannot write to the cache {entry.parent}: {error.strerror or error}; found {_free(entry.parent)}: "
            "make room, make it writable, or choose another folder with --cache or SEMIVOX_CACHE"
        ) from error
    finally:
        if unfinished is not None:
            shutil.rmtree(unfinished, ignore_errors=True)


def _write(folder: Path, arrays: Arrays, facts: Facts) -> None:
    for name, array in arrays.items():
        with (folder / f"{name}.npy").open("wb") as file:
            np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())  # a rename that outlives its data would look whole after a power cut
    listed: Mapping[str, Any] = {name: [list(array.shape), array.dtype.str] for name, array in arrays.items()}
    (folder / "entry.json").write_text(json.dumps({"arrays": listed, "facts": facts}))


def _settle(unfinished: Path, entry: Path) -> None:
    """Rename a finished folder to its entry, unless another process did so first."""
    try:
        unfinished.rename(entry)
    except OSError:
        if not entry.exists():
            raise
        if _open(entry) is None:  # an entry that cannot be read makes way
            spoilt = _new_folder(entry.parent)
            entry.rename(spoilt / entry.name)
            shutil.rmtree(spoilt, ignore_errors=True)
            unfinished.rename(entry)


def _new_folder(cache: Path) -> Path:
    folder = cache / f"{UNFINISHED}{uuid.uuid4().hex}"
    folder.mkdir()  # unlike tempfile's, open to whom the umask lets in: a cache may be shared
    return folder


def _free(folder: Path) -> str:
    there = next((path for path in (folder, *folder.parents) if path.exists()), None)
    return "no such disk" if there is None else f"{shutil.disk_usage(there).free / 1e9:.1f} GB free"
