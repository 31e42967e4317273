"""Jobs side by side, each in a process of its own, which ends with the one that started it.

Run as ``python -m semivox.benchmarking.workers``, this file is such a process: it reads a task from standard input,
does it, and tells of it on standard output, a JSON object a line.
"""

import contextlib
import json
import os
import pickle
import signal
import subprocess
import sys
import threading
from queue import SimpleQueue
from typing import TYPE_CHECKING, Any, BinaryIO, TextIO

from semivox.errors import TimeUpError, reason

if TYPE_CHECKING:  # a process loads what its task needs, with the task
    from semivox.benchmarking.tasks import Task

Event = dict[str, Any]
DONE, TIME_UP, FAILED = "done", "time is up", "failed"
"""How a task ends; the event of a failure says why."""


def threads_each(count: int) -> int:
    """Return how many threads each of `count` jobs side by side has."""
    import torch

    return max(1, torch.get_num_threads() // count)


class Workers:
    """Processes that each do a task; a context manager, whose end stops those that still run behind a checkpoint.

    Args:
        threads: of each.
    """

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        self.listeners: list[threading.Thread] = []
        self.events: SimpleQueue[tuple[str, Event]] = SimpleQueue()

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, *_: object) -> None:
        try:
            for process in self.running.values():
                process.terminate()
            for process in self.running.values():
                process.wait()
        finally:  # a second signal came while they were waited for
            for process in self.running.values():
                process.kill()
            for listener in self.listeners:
                listener.join()

    def start(self, task: "Task", *, seconds: float) -> None:
        """Start a task, which has so many seconds for its training."""
        process = subprocess.Popen(
            [sys.executable, "-m", "semivox.benchmarking.workers"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,  # Ctrl-C on a terminal reaches this process alone, which then stops them in order
            env={**os.environ, "OMP_NUM_THREADS": str(self.threads)},
        )
        self.running[task.name] = process
        self.listeners.append(threading.Thread(target=self._listen, args=(task, seconds, process), daemon=True))
        self.listeners[-1].start()

    def _listen(self, task: "Task", seconds: float, process: "subprocess.Popen[bytes]") -> None:
        """Hand a process its task, and on what it tells; what it does not tell, its exit code does."""
        assert process.stdin
        assert process.stdout
        end: Event = {}
        with contextlib.suppress(BrokenPipeError):  # it died at once
            pickle.dump((task, seconds), process.stdin)
            process.stdin.flush()  # and stays open: where it ends, this process has
        with process.stdout:
            for line in process.stdout:
                event: Event = json.loads(line)
                if "end" in event:
                    end = event
                else:
                    self.events.put((task.name, event))
        code = process.wait()
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
        self.events.put((task.name, end or {"end": FAILED, "why": _death(code)}))

    def next_event(self) -> tuple[str, Event]:
        """Return the next that a task tells, and the task's name; one that ended runs no longer."""
        name, event = self.events.get()
        if "end" in event:
            del self.running[name]
        return name, event


def _death(code: int) -> str:
    """Return why a process ended that did not say it."""
    if code >= 0:
        return f"its process ended with exit code {code}"
    hint = "; the system does that where memory runs out" if code == -signal.SIGKILL else ""
    return f"its process was killed by signal {-code}{hint}"


def work(given: BinaryIO, told: TextIO) -> None:
    """Do the task that is given, and tell of it."""

    def tell(event: Event) -> None:
        print(json.dumps(event), file=told, flush=True)

    task, seconds = pickle.load(given)
    threading.Thread(target=_end_with, args=(given.fileno(),), daemon=True).start()
    try:
        task.do(
            seconds=seconds,
            on_row=lambda row, total: tell({"row": row, "total": total}),
            on_note=lambda text: tell({"note": text}),
        )
        tell({"end": DONE})
    except TimeUpError:
        tell({"end": TIME_UP})
    except KeyboardInterrupt:
        tell({"end": FAILED, "why": "a signal stopped its process; the same command goes on with it"})
    except Exception as error:
        tell({"end": FAILED, "why": reason(error)})


def _end_with(pipe: int) -> None:
    """End this process, without further ado, when the one that started it does: its end of the pipe closes then."""
    os.read(pipe, 1)
    os._exit(1)


def _main() -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    told = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever else is printed is no event
    work(sys.stdin.buffer, told)


if __name__ == "__main__":
    _main()
