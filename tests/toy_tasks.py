"""Tasks that train nothing, for processes side by side: each ends in the way that its name says."""

import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from semivox.errors import RunError, TimeUpError


@dataclass(frozen=True)
class ToyTask:
    """A task by name: done, refused, crashed, killed, exited, spent, or waiting for a signal."""

    name: str
    folder: Path
    done: bool = False

    @property
    def job(self) -> SimpleNamespace:
        return SimpleNamespace(done=self.done, folder=self.folder / self.name)

    def do(self, *, seconds: float, on_row: Any = None, on_note: Any = None) -> None:
        print("what a library prints is no event")
        (self.folder / f"{self.name}.began").write_text(os.environ.get("OMP_NUM_THREADS", ""))
        ends = {"refused": self.refused, "crashed": self.crashed, "killed": self.killed, "exited": self.exited,
                "spent": self.spent, "waiting": self.waiting}  # fmt: skip
        if self.name in ends:
            ends[self.name]()
        on_row({"total_step": 0, "stage": "train"}, 1)
        on_note(f"{self.name} has {seconds:g} s")

    def refused(self) -> None:
        raise RunError("step 3: the loss is nan\n  lower it")

    def crashed(self) -> None:
        raise ZeroDivisionError("one by nothing")

    def killed(self) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    def exited(self) -> None:
        os._exit(7)

    def spent(self) -> None:
        raise TimeUpError("the time is up")

    def waiting(self) -> None:
        try:
            time.sleep(600)
        finally:
            (self.folder / "stopped").touch()
