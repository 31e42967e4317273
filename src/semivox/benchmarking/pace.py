"""Equal time: how many steps of each row take as long as the control's, from the measured time of a step of each.

The times are measured once a row, before its first run, and kept in the lock: the steps that follow from them are part
of a job's settings, and a job that goes on has the same.
"""

import hashlib
import json
import math
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from semivox.benchmarking.lock import Lock
from semivox.benchmarking.tasks import Task
from semivox.config.toml import flatten, nest
from semivox.errors import ConfigError
from semivox.files import UNFINISHED
from semivox.runs.building import make_method_config
from semivox.training.assembly import resolve_stages
from semivox.types import Stage

WARM, MEASURED = 3, 9
"""Steps of every stage that are taken before the clock runs, and while it does."""


def at_equal_time(tasks: Sequence[Task], lock: Lock) -> list[Task]:
    """Return the tasks with as many steps as take the time that the control's take; the control keeps its own.

    A row whose step has not been measured is trained for a few steps, in a folder that goes again.

    Raises:
        ConfigError: no row is the control, or several that differ in their settings are.
        SemivoxError: as `semivox.train`, where a row cannot be trained.
    """
    rows = {_row(task): task for task in reversed(tasks)}
    control = _control([*rows.values()])
    for row, task in [(_row(control), control), *rows.items()]:
        if row not in lock.step_seconds:
            lock.add_step_seconds(row, step_seconds(task, lock.file.parent))
    wanted = _seconds(_stages(control), lock.step_seconds[_row(control)])
    return [_paced(task, wanted, lock.step_seconds[_row(task)], own=_row(task) == _row(control)) for task in tasks]


def step_seconds(task: Task, place: Path) -> dict[str, float]:
    """Return the median seconds of a task's step by stage, from a short training below `place`."""
    with tempfile.TemporaryDirectory(prefix=UNFINISHED, dir=place) as folder:
        begin = partial(task.train, Path(folder) / "run", seconds=math.inf)
        return clocked(_stages(task), task.job.settings, begin)


def clocked(stages: Sequence[Stage], settings: Mapping[str, Any], begin: Callable[..., Any]) -> dict[str, float]:
    """Return the median seconds of a step by stage.

    Args:
        stages: of the training.
        settings: config values, nested.
        begin: trains; called with `settings`, changed to a few steps a stage, and `on_row`, both by name.
    """
    told: dict[str, list[float]] = {}
    few = {f"stages.{stage.name}.steps": WARM + MEASURED for stage in stages}
    begin(
        settings=nest(flatten(settings) | few | {"log_every": 1, "checkpoint_every": 10**6}),
        on_row=lambda row, total: told.setdefault(row["stage"], []).append(time.monotonic()),
    )
    gaps = {stage: pairwise(times[WARM - 1 :]) for stage, times in told.items()}
    return {stage: round(statistics.median(b - a for a, b in pairs), 6) for stage, pairs in gaps.items()}


def _control(rows: Sequence[Task]) -> Task:
    """Return the one row that is the control, whatever its budgets and draws."""
    wanted = rows[0].protocol.control
    found = [row for row in rows if row.job.label == wanted] or [row for row in rows if row.job.spec.name == wanted]
    if len(found) != 1:
        raise ConfigError(
            f"equal = 'time' takes the time of the control '{wanted}': found {len(found)} kinds of rows of that name, "
            "expected one; name it with control, or give rows that differ in their settings a label each"
        )
    return found[0]


def _paced(task: Task, wanted: float, step: Mapping[str, float], *, own: bool) -> Task:
    """Return a task whose steps take the wanted seconds."""
    stages = _stages(task)
    factor = 1.0 if own else wanted / _seconds(stages, step)
    steps = {f"stages.{stage.name}.steps": max(1, round((stage.steps or 0) * factor)) for stage in stages}
    pace: dict[str, Any] = {"equal_time": True} | ({} if own else {"steps": sum(steps.values()), **steps})
    return replace(task, job=replace(task.job, pace=pace))


def _stages(task: Task) -> tuple[Stage, ...]:
    """Return the stages of a task's run as its row has them, before they are paced."""
    config = replace(task, job=replace(task.job, pace={})).config()
    return resolve_stages(config, make_method_config(config))


def _seconds(stages: Sequence[Stage], step: Mapping[str, float]) -> float:
    return sum((stage.steps or 0) * step[stage.name] for stage in stages)


def _row(task: Task) -> str:
    """Return a name for a row's settings; seeds, budgets and draws take the same time."""
    unpaced = replace(task, job=replace(task.job, pace={})).record()
    words = {key: value for key, value in unpaced.items() if key.startswith(("method", "config.", "set."))}
    told = {key: value for key, value in words.items() if key not in ("set.seed", "set.label")}
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
    return f"{task.job.label} {digest[:8]}"
