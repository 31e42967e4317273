"""The course of a protocol: its tasks in turn or side by side, what became of each, and how long the rest will take."""

import math
import statistics
import time
from collections import deque
from collections.abc import Callable, Sequence

from semivox.benchmarking.protocols import Job
from semivox.benchmarking.tasks import SPENT, Task
from semivox.benchmarking.workers import TIME_UP, Workers, threads_each
from semivox.errors import TimeUpError, reason
from semivox.training.loop import Row


class Course:
    """What is to be done, and what became of it.

    Args:
        tasks: all of the protocol's; those that are scored are left out.
        check: called before each task begins; what it raises stops the course.
        deadline: time of `time.monotonic` at which the trainings stop.
        on_job, on_done, on_row, on_note: see `semivox.bench`.

    Attributes:
        failures: why a task failed, by its name.
    """

    def __init__(
        self,
        tasks: Sequence[Task],
        *,
        check: Callable[[], object],
        deadline: float = math.inf,
        on_job: Callable[[Job, int, int], None] | None = None,
        on_done: Callable[[Job, str, int, float], None] | None = None,
        on_row: Callable[[Row, int], None] | None = None,
        on_note: Callable[[str], None] | None = None,
    ) -> None:
        self.numbers = {task.name: number for number, task in enumerate(tasks)}
        self.todo = [task for task in tasks if not task.job.done]
        self.check, self.deadline, self.side_by_side = check, deadline, 1
        self.on_job, self.on_done, self.on_row, self.on_note = on_job, on_done, on_row, on_note
        self.failures: dict[str, str] = {}
        self.began: dict[str, float] = {}
        self.took: list[float] = []

    def run(self, *, side_by_side: int = 1) -> None:
        """Do all tasks; one that fails is noted, and the others go on.

        Raises:
            KeyboardInterrupt: a signal; what ran has stopped behind a checkpoint.
            TimeUpError: the deadline is past.
        """
        self.side_by_side = side_by_side
        if side_by_side == 1:
            self._run_in_turn()
        else:
            self._run_side_by_side()

    @property
    def left(self) -> float:
        """Seconds to the deadline."""
        return self.deadline - time.monotonic()

    def _run_in_turn(self) -> None:
        for task in self.todo:
            self._begin(task)
            try:
                task.do(seconds=self.left, on_row=self._rows_of(task), on_note=self.on_note)
            except TimeUpError:
                raise
            except Exception as error:
                self._end(task, reason(error))
            else:
                self._end(task)

    def _run_side_by_side(self) -> None:
        tasks, waiting, spent = {task.name: task for task in self.todo}, deque(self.todo), False
        with Workers(threads_each(self.side_by_side)) as workers:
            while workers.running or (waiting and not spent):
                while waiting and not spent and len(workers.running) < self.side_by_side:
                    self._begin(waiting[0])
                    workers.start(waiting.popleft(), seconds=self.left)
                name, event = workers.next_event()
                if event.get("end") == TIME_UP:
                    spent = True
                elif "end" in event:
                    self._end(tasks[name], event.get("why", ""))
                elif "row" in event:
                    self._rows_of(tasks[name])(event["row"], event["total"])
                elif self.on_note:
                    self.on_note(event["note"])
        if spent:
            raise TimeUpError(SPENT)

    def _begin(self, task: Task) -> None:
        self.check()
        self.began[task.name] = time.monotonic()
        if self.on_job:
            self.on_job(task.job, self.numbers[task.name], len(self.numbers))

    def _end(self, task: Task, why: str = "") -> None:
        if why:
            self.failures[task.name] = why
        else:
            self.took.append(time.monotonic() - self.began[task.name])
        left = len(self.todo) - len(self.took) - len(self.failures)
        each = statistics.fmean(self.took) if self.took else math.nan
        if self.on_done:
            self.on_done(task.job, why, left, each * left / self.side_by_side)

    def _rows_of(self, task: Task) -> Callable[[Row, int], None]:
        """Return what hands the rows of a task's log on, with the task's name in them."""

        def tell(row: Row, total: int) -> None:
            if self.on_row:
                self.on_row({**row, "job": task.name}, total)

        return tell
