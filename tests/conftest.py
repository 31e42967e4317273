"""What every test can use."""

import errno
import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest

if "PYTEST_XDIST_WORKER" in os.environ:  # one core a worker, and before torch is imported
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from toy_training import train_toy as train_on_toys
from toys import write_toy_dataset


@pytest.fixture(scope="session", autouse=True)
def _no_waiting_for_disks() -> Iterator[None]:
    """Skip fsync: no test survives a power cut, and on a slow disk it takes longer than the toy trainings."""
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(os, "fsync", lambda handle: None)
        yield


@pytest.fixture(autouse=True)
def _same_draws() -> None:
    """Let every test draw the same numbers, whichever tests its process ran before."""
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


@pytest.fixture(params=[errno.ENOSPC, errno.EROFS], ids=["full", "read_only"])
def disk_error(request: pytest.FixtureRequest) -> OSError:
    """What writing raises on a disk that takes nothing more."""
    return OSError(request.param, os.strerror(request.param))


@pytest.fixture(scope="session")
def toy_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three labelled and two unlabelled toy scans; not to be written to."""
    return write_toy_dataset(tmp_path_factory.mktemp("toys") / "data", cases=5)


@pytest.fixture(scope="session")
def toy_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache that the toy trainings share."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def train_toy(toy_data: Path, toy_cache: Path) -> Callable[..., Any]:
    """``train_toy(output, method=..., settings=..., fields=..., ...)``: a training of less than a second."""
    return partial(train_on_toys, toy_data, cache=toy_cache)
