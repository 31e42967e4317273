"""What a person sees while something runs: a live bar on a terminal, plain lines elsewhere."""

import math
import time
from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from rich.console import Console as RichConsole
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

if TYPE_CHECKING:
    from semivox.workflow.told import Told  # loads torch


class Console:
    """Progress on standard error, so that standard output stays for results; a context manager.

    Args:
        every: seconds between plain lines where there is no terminal.
    """

    def __init__(self, *, every: float = 10.0) -> None:
        self.rich = RichConsole(stderr=True, highlight=False, soft_wrap=True)
        self.every, self.last = every, -math.inf
        self.bar = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[detail]}", markup=False),
            console=self.rich,
            disable=not self.rich.is_terminal,
        )
        self.tasks: dict[str, TaskID] = {}
        self.notes: set[str] = set()

    def __enter__(self) -> "Console":
        self.bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.bar.stop()

    def say(self, text: str) -> None:
        """Write a line that stays."""
        self.rich.print(text, markup=False)

    def facts(self, facts: Mapping[str, str]) -> None:
        """Write a few named facts, a line each, aligned."""
        width = max(map(len, facts))
        for name, text in facts.items():
            self.say(f"{name:<{width}}  {text}")

    def note(self, text: str) -> None:
        """Write a sentence on what goes on all the same, once: the runs of a protocol have the same to say."""
        if text not in self.notes:
            self.notes.add(text)
            self.say(f"note: {text}")

    def show(self, what: str, done: int, total: int, detail: str = "") -> None:
        """Show how far a count is."""
        if not self.rich.is_terminal:
            if done >= total or time.monotonic() - self.last >= self.every:
                self.last = time.monotonic()
                self.say(f"{what} {done}/{total}  {detail}".rstrip())
            return
        if what not in self.tasks:
            self.tasks[what] = self.bar.add_task(what, total=total, detail=detail)
        self.bar.update(self.tasks[what], completed=done, total=total, detail=detail)

    def drop(self, what: str) -> None:
        """Take the bar of a count that goes on no longer away."""
        if what in self.tasks:
            self.bar.remove_task(self.tasks.pop(what))

    def row(self, row: Mapping[str, Any], *, total: int, name: str = "step") -> None:
        """Show a row of a training log: step, losses, speed, time left."""
        done = row["total_step"] + 1
        losses = "  ".join(f"{key} {value:.4f}" for key, value in row["losses"].items())
        left = duration((total - done) * row["seconds"])
        self.show(name, done, total, f"{losses}  {row['seconds']:.2f} s/step  {left} left")


def told_on(console: Console) -> "Told":
    """Return whom a long way tells what goes on: a console."""
    from semivox.workflow.told import Told

    return Told(
        say=console.say,
        row=lambda name, row, total: console.row(row, total=total, name=name),
        case=lambda what, case, done, total: console.show(what, done, total, case),
        note=console.note,
    )


def duration(seconds: float) -> str:
    """Return a time for people: ``45 s``, ``12 min``, ``3.5 h``."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"


def size(count: float) -> str:
    """Return a number of bytes for people: ``3.2 GB``."""
    for unit in ("B", "kB", "MB", "GB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} TB"
