"""A listener to a training: every row of the log reaches a tracker once, however often the run is cut and resumed."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from semivox.errors import RunError, one_line
from semivox.runs.folder import RunFolder
from semivox.tracking.trackers import TRACKERS, Row, Tracker

OnRow = Callable[[dict[str, Any], int], None]


@contextmanager
def tracked(
    name: str | None, run: RunFolder, on_row: OnRow | None, on_note: Callable[[str], None] | None
) -> Iterator[OnRow | None]:
    """Give what is to be called with every row: `on_row`, and before it the tracker.

    Rows of the log that the tracker does not have are written first, so that tracking may begin with a resumed run.
    What a killed run tracked behind its last checkpoint is not written again: a resumed run takes the same steps.
    A tracker that fails is told of in a note and left alone: the run goes on.

    Args:
        name: of `TRACKERS`; None: only `on_row` is called.
        run: its folder is on disk.
        on_row: called with a row and the steps of all stages, or None.
        on_note: called with one sentence where the tracker fails, or None.

    Raises:
        RunError: the tracker's files cannot be opened, or the run's log is damaged.
    """
    if name is None:
        yield on_row
        return
    rows = run.log_rows()
    listener = _Listener(_opened(name, run), name, on_note)
    for row in rows:
        listener.hear(row)

    def hear(row: dict[str, Any], steps: int) -> None:
        listener.hear(row, steps)
        if on_row:
            on_row(row, steps)

    try:
        yield hear
    finally:
        listener.close()


def _opened(name: str, run: RunFolder) -> Tracker:
    try:
        return TRACKERS[name](run)
    except Exception as error:  # whatever a foreign package raises on files that it cannot read or write
        raise RunError(
            f"{run.path / name} cannot be opened by {name} ({one_line(error)}); remove that folder, or go on with "
            "--resume and without --track"
        ) from error


class _Listener:
    """Writes to a tracker until it fails."""

    def __init__(self, tracker: Tracker, name: str, on_note: Callable[[str], None] | None) -> None:
        self.tracker: Tracker | None = tracker
        self.name, self.on_note = name, on_note
        self.finished = False

    def hear(self, row: Row, steps: int | None = None) -> None:
        """Write a row that is newer than all before."""
        self.finished = row["total_step"] + 1 == steps
        if self.tracker and row["total_step"] > self.tracker.newest:
            self._try(lambda tracker: tracker.add(row))

    def close(self) -> None:
        """Close the tracker."""
        self._try(lambda tracker: tracker.close(finished=self.finished))

    def _try(self, act: Callable[[Tracker], None]) -> None:
        if self.tracker is None:
            return
        try:
            act(self.tracker)
        except Exception as error:  # a foreign package's disk or database: no reason to lose a training
            self.tracker = None
            if self.on_note:
                self.on_note(
                    f"{self.name} takes no more rows ({one_line(error)}); the run goes on, log.jsonl has them all, and "
                    f"--resume --track {self.name} writes what is missing"
                )
