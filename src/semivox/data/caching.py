"""A cache of arrays on disk: an entry is a folder that is there whole or not at all, and holds what was put into it."""

import contextlib
import hashlib
import json
import os
import shutil
import sys
import uuid
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from semivox.errors import RunError
from semivox.files import UNFINISHED, refuse_few_handles

Arrays = dict[str, NDArray[Any]]
Facts = dict[str, Any]

BLOCK = 2**20
"""Bytes that are read at once."""
_whole: set[tuple[tuple[str, int, int], ...]] = set()
"""Stamps of the entries whose content this process has verified: reading every byte again at every look is dear."""


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


def cached(
    cache: Path, key: str, make: Callable[[], tuple[Arrays, Facts]], *, unsealed: Literal["remade", "read"] = "remade"
) -> tuple[Arrays, Facts]:
    """Return an entry's arrays, memory-mapped and read-only, and the facts kept with them; make it where it is missing.

    The first time that a process opens an entry, every byte is compared with the sums that were stored with it: what
    is damaged, edited or another entry's counts as missing. Several processes may ask for the same entry at once: each
    writes its own folder, the first renamed stays.

    Args:
        cache: the folder of all entries.
        key: the entry's name, from `cache_key`.
        make: gives the arrays, and facts that JSON can hold.
        unsealed: what becomes of an entry of before there were sums: remade like a damaged one, or read as it is.

    Raises:
        RunError: the cache cannot be written; nothing half-written is left.
    """
    entry = cache / key
    found = _open(entry, unsealed)
    if found is None:
        arrays, facts = make()
        _store(entry, arrays, facts)
        found = _open(entry, unsealed)
    if found is None:
        raise RunError(f"the cache entry {entry} cannot be read after writing: check the disk, or name another --cache")
    return found


def _open(entry: Path, unsealed: str = "remade") -> tuple[Arrays, Facts] | None:
    """Return a whole entry; None where it is missing or is not what its own list says."""
    try:
        listed = json.loads((entry / "entry.json").read_text())
        files = [entry / f"{name}.npy" for name in listed["arrays"]]
        if ("seal" in listed or unsealed == "remade") and not _is_whole(entry, listed, files):
            return None
        arrays = {file.stem: _mapped(file) for file in files}
        as_listed = all([list(arrays[name].shape), arrays[name].dtype.str] == listed["arrays"][name] for name in arrays)
        return (arrays, listed["facts"]) if as_listed else None
    except Exception as error:  # a damaged list or header makes JSON's and numpy's readers raise nearly anything
        refuse_few_handles(error)
        return None


def _mapped(path: Path) -> NDArray[Any]:
    """Return a file's array, memory-mapped and read-only; unlike NumPy's own maps, no file stays open."""
    with path.open("rb") as file:
        np.lib.format.read_magic(file)
        shape, _, kind = np.lib.format.read_array_header_1_0(file)
        start = file.tell()
    values = torch.from_file(str(path), shared=False, size=path.stat().st_size, dtype=torch.uint8)
    array = values.numpy()[start:].view(kind).reshape(shape)
    array.flags.writeable = False
    return array


def _is_whole(entry: Path, listed: Mapping[str, Any], files: Sequence[Path]) -> bool:
    """Return whether an entry holds what was stored under its name; its bytes are read once in a process."""
    stamps = tuple(file_stamps([entry / "entry.json", *files]))
    if stamps not in _whole:
        sums = {file.stem: _file_sum(file) for file in files}
        if listed.get("seal") != _seal(entry.name, listed["arrays"], sums, listed["facts"]):
            return False
        _whole.add(stamps)
    return True


def _seal(key: str, arrays: Mapping[str, Any], sums: Mapping[str, int], facts: Facts) -> str:
    """Return what changes with anything in an entry, its name included: another case's entry does not pass for it."""
    return cache_key("entry", key, arrays, sums, facts)


def _file_sum(path: Path) -> int:
    """Return the CRC-32 of a file: of what the standard library has the fastest by far, and damage is no adversary."""
    total = 0
    with path.open("rb", buffering=0) as file:
        while block := file.read(BLOCK):
            total = zlib.crc32(block, total)
    return total


def _store(entry: Path, arrays: Arrays, facts: Facts) -> None:
    unfinished = None
    try:
        entry.parent.mkdir(parents=True, exist_ok=True)
        unfinished = _new_folder(entry.parent)
        _write(unfinished, entry.name, arrays, facts)
        _settle(unfinished, entry)
    except OSError as error:
        refuse_few_handles(error)
        raise RunError(
            f"cannot write to the cache {entry.parent}: {error.strerror or error}; found {_free(entry.parent)}: "
            "make room, make it writable, or choose another folder with --cache or SEMIVOX_CACHE"
        ) from error
    finally:
        if unfinished is not None:
            shutil.rmtree(unfinished, ignore_errors=True)


def _write(folder: Path, key: str, arrays: Arrays, facts: Facts) -> None:
    for name, array in arrays.items():
        with (folder / f"{name}.npy").open("wb") as file:
            np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)
            file.flush()
            os.fsync(file.fileno())  # a rename that outlives its data would look whole after a power cut
    listed: Mapping[str, Any] = {name: [list(array.shape), array.dtype.str] for name, array in arrays.items()}
    sums = {name: _file_sum(folder / f"{name}.npy") for name in arrays}
    seal = _seal(key, listed, sums, facts)
    (folder / "entry.json").write_text(json.dumps({"arrays": listed, "facts": facts, "seal": seal}))


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
