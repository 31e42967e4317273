"""Many runs of a protocol: methods, label budgets, draws and seeds, scored, and compared in reports.

What is done is skipped, what was cut is resumed, what fails is named; what another protocol, other data or other code
has left there is refused.
"""

import math
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from semivox.benchmarking.course import Course
from semivox.benchmarking.lock import Lock
from semivox.benchmarking.own_methods import load_own_methods
from semivox.benchmarking.pace import at_equal_time
from semivox.benchmarking.protocols import Job, Protocol, jobs_of, read_protocol, with_group
from semivox.benchmarking.splits import deal_jobs
from semivox.benchmarking.tasks import Task
from semivox.data.dataset import Dataset, read_dataset
from semivox.errors import ConfigError, FailedRunsError
from semivox.files import if_given, locked_folder, read_object, refuse_no_folder, remove_unfinished
from semivox.reporting.report import write_report
from semivox.training.loop import Row


def bench(
    protocol_file: Path | str,
    *,
    output: Path | str | None = None,
    seconds: float | None = None,
    jobs: int = 1,
    cache: Path | str | None = None,
    device: str = "auto",
    trust: bool = False,
    on_job: Callable[[Job, int, int], None] | None = None,
    on_done: Callable[[Job, str, int, float], None] | None = None,
    on_row: Callable[[Row, int], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> tuple[Path, ...]:
    """Run a protocol to its end and write a report for each group of held-out cases.

    Args:
        protocol_file: the protocol.
        output: folder of runs, masks, scores and reports; by default ``runs/NAME`` after the file.
        seconds: time budget of the trainings; the one that it ends stops behind a checkpoint.
        jobs: how many runs go side by side, each in a process of its own with its share of the threads.
        cache: folder of prepared arrays.
        device: "auto", "cpu" or "cuda".
        trust: run the methods that the protocol names and semivox does not ship.
        on_job: called with (job, number, all) before each job that is not done.
        on_done: called with (job, why it failed or "", jobs left, seconds that they will take) after each; the seconds
            are NaN before one has come to its end.
        on_row: called with every row of the logs, under "job" with the job's name, and the steps of all stages.
        on_note: called with what a new run should know and goes on without.

    Returns:
        The reports' paths.

    Raises:
        ConfigError: the protocol or the data folder cannot be used, or `output` holds runs of another protocol, of
            other data or of other code.
        FailedRunsError: runs failed; the others are done, and the reports made of them.
        TimeUpError: the time is up; the same call goes on.
        RunError: a method that semivox does not ship may not run without `trust`, or another bench is in `output`.
        KeyboardInterrupt: a signal stopped a training behind a checkpoint; the same call goes on.
    """
    deadline = math.inf if seconds is None else time.monotonic() + seconds
    if jobs < 1:
        raise ConfigError(f"jobs: found {jobs}, expected a number of runs side by side, from 1 on")
    protocol = read_protocol(Path(protocol_file))
    output = Path(output) if output else Path("runs") / Path(protocol_file).stem
    dataset = read_dataset(find_data(protocol.data))
    refuse_no_folder(output)
    tasks = _tasks(protocol, output, dataset, trust=trust, cache=if_given(cache), device=device)
    with locked_folder(output, doing="benched into"):
        remove_unfinished(output, age=-1)  # the folder is locked: they are of killed processes
        lock = Lock(output, dataset)
        if protocol.equal == "time":
            tasks = at_equal_time(tasks, lock)
        begun = [_refuse_other_job(task) for task in tasks]
        if on_note and any(begun) and not lock.known["jobs"]:
            on_note(f"{output} was begun before protocols were locked: it does not say with which code and data")
        lock.add(tasks)
        course = Course(
            tasks,
            check=lambda: lock.refuse_changes(tasks, code_anew=jobs > 1),
            deadline=deadline,
            on_job=on_job,
            on_done=on_done,
            on_row=on_row,
            on_note=on_note,
        )
        course.run(side_by_side=jobs)
        lock.refuse_changes(tasks, code_anew=jobs > 1)
        return _write_reports(tasks, protocol, output, course.failures)


def find_data(name: str) -> Path:
    """Return a data folder: a path, or a name below the folder that SEMIVOX_DATA names.

    Raises:
        ConfigError: neither exists.
    """
    candidates = [Path(name), Path(os.environ.get("SEMIVOX_DATA", ".")) / name]
    for candidate in candidates:
        if (candidate / "dataset.json").exists():
            return candidate
    raise ConfigError(
        f"there is no data folder '{name}' (with a dataset.json) here or below SEMIVOX_DATA: set SEMIVOX_DATA to the "
        "folder that holds it"
    )


def _tasks(
    protocol: Protocol, output: Path, dataset: Dataset, *, trust: bool, cache: Path | None, device: str
) -> list[Task]:
    """Return all tasks of a protocol, each of which a run can follow: it is known before the first hour of work."""
    jobs = jobs_of(protocol, output)
    own = load_own_methods(jobs, trust=trust)
    deals = deal_jobs(protocol, jobs, dataset)
    tasks = [
        Task(job, protocol, dataset.folder, deals[job.folder], own.get(job.spec.method), cache, device) for job in jobs
    ]
    for task in tasks:
        task.config()
    return tasks


def _refuse_other_job(task: Task) -> bool:
    """Refuse a folder that another row has filled; return whether this one has."""
    before, now = _read_record(task.job), task.record()
    for key in sorted(before.keys() | now.keys()):
        if before and before.get(key) != now.get(key):
            raise ConfigError(
                f"{task.job.folder} was run with {key} = {before.get(key)}, the protocol has {now.get(key)}: "
                "name another folder with -o, or give the row another label"
            )
    return bool(before)


def _read_record(job: Job) -> dict[str, Any]:
    """Return what a job was run with before; nothing where it was not."""
    try:
        return read_object(job.folder / "job.json", advice=f"delete {job.folder} to run the job anew")
    except FileNotFoundError:
        return {}


def _write_reports(
    tasks: Sequence[Task], protocol: Protocol, output: Path, failures: Mapping[str, str]
) -> tuple[Path, ...]:
    """Return the paths of the reports on what is done.

    Raises:
        FailedRunsError: something failed.
    """
    done = [task.job for task in tasks if task.job.done]
    counted = f"{len(failures)} of {len(tasks)} runs failed"
    named = "; ".join(f"{name} ({why})" for name, why in failures.items())
    reports = tuple(
        write_report(
            [job.scores[group] for job in done],
            output / with_group("report", group, ".html"),
            control=protocol.control,
            further_controls=protocol.further_controls,
            subgroups=protocol.subgroups,
            title=f"{protocol.title}: {group}" if group else protocol.title,
            notes=[f"{counted} and are in no number: {named}."] if failures else [],
        )
        for group in (protocol.groups if done else ())
    )
    if failures:
        rest = "the report is made of the others" if done else "there is nothing to report"
        lines = "".join(f"\n{name}: {why}" for name, why in failures.items())
        raise FailedRunsError(f"{counted}, {rest}; the same command tries them again{lines}", failures, reports)
    return reports
