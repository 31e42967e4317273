"""Sizes: what a header asks for, against what its file can hold and what memory is free, before any value is read."""

import os
from pathlib import Path

from semivox.errors import DatasetError

FLOAT = 4
"""Bytes of a voxel in float32, which every image becomes beside what was read."""
SMALL = 2**26
"""Bytes that are free wherever this program runs, and need not be asked for."""


def refuse_size(path: Path, shape: tuple[int, ...], channels: int, value_size: int) -> None:
    """Refuse a scan without voxels, or one that the free memory does not hold.

    Args:
        path: of the scan.
        shape: voxels along its axes.
        channels: values per voxel.
        value_size: bytes of a value, as stored.

    Raises:
        DatasetError: such a scan.
    """
    sides = " x ".join(str(side) for side in (*shape, channels))
    values = channels
    for side in shape:
        values *= int(side)
    if min(*shape, channels) < 1:
        raise DatasetError(f"{path}: found {sides} voxels and channels, expected at least one of each; export it anew")
    needed = values * (value_size + FLOAT)
    if needed > SMALL and (free := free_memory()) is not None and needed > free:
        raise DatasetError(
            f"{path}: found {sides} voxels and channels, which take {needed / 1e9:.1f} GB to read, expected at most "
            f"the {free / 1e9:.1f} GB of memory that are free; crop or resample the scan, or use a larger machine"
        )


def refuse_promise(promised: int, stored: int, *, most: int = 1, exact: bool = False) -> None:
    """Refuse a header that promises more bytes than its file can hold.

    Args:
        promised: bytes of values by the header.
        stored: bytes that the file has for them.
        most: bytes that one stored byte may stand for.
        exact: refuse fewer as well.

    Raises:
        ValueError: they do not fit.
    """
    if promised > most * stored or (exact and promised < stored):
        held = f"{stored} bytes" if most == 1 else f"{stored} packed bytes, which are at most {most * stored}"
        raise ValueError(f"its header promises {promised} bytes of values, the file has {held}")


def free_memory() -> int | None:
    """Return the bytes of main memory that are free for this process; None where the system does not say."""
    known = [_available(), *(_number(Path(limit)) for limit in _LIMITS)]
    return min((number for number in known if number is not None), default=None)


_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")  # of a container


def _available() -> int | None:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        return next(1024 * int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, ValueError, StopIteration):  # no Linux
        pass
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):  # Windows
        return None


def _number(file: Path) -> int | None:
    try:
        return int(file.read_text())
    except (OSError, ValueError):  # no such limit, or "max"
        return None
