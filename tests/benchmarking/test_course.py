"""The course of a protocol: one task's failure stops no other, and side by side is as in turn."""

import math
import os
import sys
from pathlib import Path

import pytest

from semivox.benchmarking.course import Course
from semivox.errors import ConfigError, TimeUpError
from toy_tasks import ToyTask

TESTS = Path(__file__).parents[1]
REFUSED = "step 3: the loss is nan lower it"
KILLED, EXITED = "killed by signal 9; the system does that where memory runs out", "ended with exit code 7"


class Told(list):
    """What a course tells, in order."""

    def course(self, tasks, *, check=lambda: None, **others) -> Course:
        return Course(
            tasks,
            check=check,
            on_job=lambda job, number, total: self.append((job.folder.name, number, total)),
            on_done=lambda job, why, left, seconds: self.append((job.folder.name, why, left, math.isnan(seconds))),
            on_row=lambda row, total: self.append((row["job"], row["total_step"], total)),
            on_note=self.append,
            **others,
        )


@pytest.fixture
def tasks(tmp_path, monkeypatch):
    """Make toy tasks by their names, which other processes find."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(TESTS), *sys.path]))
    return lambda *names: [ToyTask(name, tmp_path) for name in names]


def test_a_task_that_fails_is_told_with_its_reason_and_the_others_go_on(tasks):
    told = Told()
    course = told.course([ToyTask("scored", Path(), done=True), *tasks("refused", "a", "crashed", "b")])
    course.run()
    assert course.failures.keys() == {"refused", "crashed"}
    assert course.failures["refused"] == REFUSED
    assert course.failures["crashed"].startswith("ZeroDivisionError: one by nothing (toy_tasks.py, line ")
    assert told[:2] == [("refused", 1, 5), ("refused", REFUSED, 3, True)]
    assert told[2:6] == [("a", 2, 5), ("a", 0, 1), "a has inf s", ("a", "", 2, False)]
    assert told[-1] == ("b", "", 0, False)


def test_what_stops_all_tasks_is_no_failure_of_one(tasks):
    course = Told().course(tasks("spent", "a"))
    with pytest.raises(TimeUpError):
        course.run()
    assert course.failures == {}

    def refuse():
        raise ConfigError("the data changed")

    told = Told()
    with pytest.raises(ConfigError):
        told.course(tasks("a"), check=refuse).run()
    assert told == []


def test_side_by_side_a_killed_process_is_a_failure_and_the_others_go_on(tasks, tmp_path):
    told = Told()
    names = ("refused", "a", "killed", "crashed", "exited", "b")
    course = told.course(tasks(*names))
    course.run(side_by_side=6)  # all at once
    failures = course.failures
    assert failures["refused"] == REFUSED
    assert failures["crashed"].startswith("ZeroDivisionError: one by nothing (toy_tasks.py")
    assert failures["killed"].endswith(KILLED)
    assert failures["exited"].endswith(EXITED)
    assert failures.keys() == {*names} - {"a", "b"}
    for name in "ab":
        own = [entry for entry in told if isinstance(entry, tuple) and entry[0] == name]
        assert own[:2] == [(name, names.index(name), 6), (name, 0, 1)]
        assert own[2][:2] == (name, "")
        assert f"{name} has inf s" in told
    assert all(int((tmp_path / f"{name}.began").read_text()) >= 1 for name in names), "its share of the threads"


def test_side_by_side_no_task_begins_once_the_time_is_up_and_those_that_run_end(tasks, tmp_path):
    course = Told().course(tasks("spent", "a", "b"))
    with pytest.raises(TimeUpError, match="the same command goes on"):
        course.run(side_by_side=2)
    assert course.failures == {}
    assert len(course.took) in (1, 2), "'b' begins where 'a' ends before the time is up"


def test_side_by_side_a_signal_stops_what_runs_in_order(tasks, tmp_path):
    def interrupt(*given):
        raise KeyboardInterrupt

    course = Told().course(tasks("waiting", "a"))
    course.on_done = interrupt  # once 'a' is done
    with pytest.raises(KeyboardInterrupt):
        course.run(side_by_side=2)
    assert (tmp_path / "stopped").exists() or not (tmp_path / "waiting.began").exists()
