"""Runs a protocol that is killed again and again, until it has been killed so often; as a script, in one process.

``python toy_bench.py '{"protocol_file": ..., "output": ..., "cache": ..., "kills": 3, "seed": 0}'`` first lets it come
to its end, then forks attempts that kill themselves before one of their own file operations, which the seed decides.
Whenever one comes to its end, what it left must be what the first left; prints how often each was the case.
"""

import hashlib
import json
import os
import random
import shutil
import signal
import sys
import traceback
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from semivox.benchmarking.bench import bench
from semivox.training import loop, start

EVENTS = ("open", "os.rename", "os.remove", "os.mkdir", "os.truncate")
MOVING = ("lock",)
"""Files that say which process wrote them."""


def stop_the_clocks() -> None:
    """Have every day and time that a run writes down the same."""
    loop.time = SimpleNamespace(monotonic=lambda: 0.0)  # type: ignore[assignment]
    day = SimpleNamespace(isoformat=lambda timespec: "2026-01-01T00:00:00+00:00")
    start.datetime = SimpleNamespace(now=lambda zone: day)  # type: ignore[assignment,misc]
    os.fsync = lambda handle: None  # type: ignore[assignment]


def attempt(words: dict[str, Any], *, kill_before: int | None) -> tuple[int, int]:
    """Return the exit status of a process that runs the protocol, and how many operations it came to."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        count = 0

        def hook(event: str, given: tuple[Any, ...]) -> None:
            nonlocal count
            if event not in EVENTS:  # os.kill is an event, too
                return
            count += 1
            if count == kill_before:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(hook)
        status = 1
        try:
            status = len(bench(**words, device="cpu")) - 1
        except BaseException:
            traceback.print_exc()
        finally:
            os.write(writer, str(count).encode())
            os._exit(status)
    os.close(writer)
    _, status = os.waitpid(child, 0)
    with os.fdopen(reader) as pipe:
        told = pipe.read()
    return status, int(told or 0)


def contents(folder: Path) -> dict[str, str]:
    """Return the digest of every file that a bench leaves."""
    files = (path for path in sorted(folder.rglob("*")) if path.is_file() and path.name not in MOVING)
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def main() -> None:
    """Kill and compare."""
    words = json.loads(sys.argv[1])
    kills, generator = words.pop("kills"), random.Random(words.pop("seed"))
    output = Path(words["output"])
    stop_the_clocks()
    status, operations = attempt(words, kill_before=None)
    assert status == 0, "the protocol itself fails"
    expected = contents(output)
    shutil.rmtree(output)
    killed = ended = 0
    while killed < kills or ended == 0:
        status, _ = attempt(words, kill_before=generator.randint(1, operations) if killed < kills else None)
        if os.WIFSIGNALED(status):
            killed += 1
            continue
        assert status == 0, f"what was killed cannot go on: {status}"
        found = contents(output)
        assert found == expected, [name for name in {**found, **expected} if found.get(name) != expected.get(name)]
        shutil.rmtree(output)
        ended += 1
    print(json.dumps({"killed": killed, "ended": ended, "files": sorted(expected)}))


if __name__ == "__main__":
    main()
