"""Provenance: by which programs, on which device and in which precision a run is trained."""

import platform
import subprocess
from functools import lru_cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

import semivox
from semivox.config.keys import Config
from semivox.runs.building import resolve_device
from semivox.runs.folder import RunFolder


def circumstances(config: Config, device: str) -> dict[str, Any]:
    """Return what run.json says of programs and device: precision, device, gpu, versions, commit.

    Args:
        config: of the run; "auto" is resolved here.
        device: "auto", "cpu" or "cuda".

    Raises:
        ConfigError: an unknown device, or one that is not there; half precision that it does not have.
    """
    place, precision = resolve_device(config, device)
    return {
        "precision": precision,
        "device": place,
        "gpu": torch.cuda.get_device_name() if place == "cuda" else None,
        "versions": versions(),
        "commit": source_commit(),
    }


def versions() -> dict[str, str]:
    """Return the versions of what computes."""
    return {
        "semivox": version("semivox"),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
    }


@lru_cache(maxsize=1)
def source_commit() -> str | None:
    """Return the git commit of the semivox that runs, with ``-dirty`` where files have changed since; else None."""
    file = Path(semivox.__file__)
    # A package installed within somebody else's checkout is none of that checkout's files.
    for command in (["ls-files", "--error-unmatch", file.name], ["describe", "--always", "--dirty", "--abbrev=40"]):
        try:
            done = subprocess.run(["git", *command], cwd=file.parent, capture_output=True, text=True, timeout=10)
        except (OSError, subprocess.TimeoutExpired):  # no git here
            return None
        if done.returncode:
            return None
    return done.stdout.strip()


def changes_since(run: RunFolder, now: dict[str, Any]) -> tuple[str, ...]:
    """Return a note for whatever is not as it was when a run started; what runs of before do not say is no change."""
    before = {**run.facts, **run.facts.get("versions", {})}
    after = {**now, **now["versions"]}
    return tuple(
        f"{run.path} was started with {what} {before[what]}, it goes on with {after[what]}: its numbers may differ "
        "from those of a run that was not cut"
        for what in ("device", "gpu", "commit", *now["versions"])
        if what in before and before[what] != after[what]
    )
