"""Ranks: before several processes train as one, they learn of each other's errors and wait for each other."""

import itertools
import os
import pickle
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache
from typing import Any

from semivox.errors import SemivoxError

PAUSE = 0.05
"""Seconds between two looks whether the others are there: no barrier, since those end after minutes, and preparing may
take hours; and a signal is heeded."""
_meetings = itertools.count()


@contextmanager
def together() -> Iterator[None]:
    """Run a block in every process that torchrun started and wait for all; where it fails in one, it fails in all.

    A process of its own has nobody to wait for. Every process has to come by the same blocks in the same order.

    Raises:
        SemivoxError: the block's, of the lowest rank that has one; it is ``quiet`` in all ranks but 0.
    """
    failure: SemivoxError | None = None
    try:
        yield
    except SemivoxError as error:
        failure = error
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        failure = _first_failure(failure)
    if failure is not None:
        raise failure


def _first_failure(own: SemivoxError | None) -> SemivoxError | None:
    """Return the error of the lowest rank that has one, after all ranks have come here."""
    store, rank, count = _meeting_place()
    place = f"semivox/{next(_meetings)}"
    store.set(f"{place}/failure/{rank}", pickle.dumps(own))
    failures = [pickle.loads(word) for word in _words(store, f"{place}/failure", count)]
    first: SemivoxError | None = next((failure for failure in failures if failure is not None), None)
    if first is None:
        return None
    first = own if own is not None and failures.index(first) == rank else first
    first.quiet = rank != 0
    store.set(f"{place}/known/{rank}", b"")
    if rank == 0:  # torchrun ends the others when it sees one end
        _words(store, f"{place}/known", count)
    return first


def _words(store: Any, place: str, count: int) -> list[bytes]:
    """Return what every rank has put into a place, once all have."""
    keys = [f"{place}/{rank}" for rank in range(count)]
    while not store.check(keys):
        time.sleep(PAUSE)
    return [store.get(key) for key in keys]


@lru_cache(maxsize=1)
def _meeting_place() -> tuple[Any, int, int]:
    """Return the store that torchrun's processes share, this process's rank, and their number."""
    from torch.distributed import rendezvous

    place: tuple[Any, int, int] = next(iter(rendezvous("env://")))
    return place
