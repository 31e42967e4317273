"""Equal time: steps that take as long as the control's, measured once a row and kept."""

import pytest

from semivox.benchmarking import pace
from semivox.benchmarking.lock import Lock
from semivox.benchmarking.pace import at_equal_time, step_seconds
from semivox.benchmarking.protocols import Protocol, RunSpec, jobs_of
from semivox.benchmarking.splits import deal_jobs
from semivox.benchmarking.tasks import Task
from semivox.data.dataset import read_dataset
from semivox.errors import ConfigError
from toys import write_toy_dataset

NET = {"net": {"filters": 2, "levels": 2}, "patch": [8, 8]}
ROWS = (
    {"method": "supervised", "labelled": (1, 2), "seeds": (0, 1), "set": NET | {"steps": 100}},
    {"method": "mean_teacher", "labelled": 1, "set": NET | {"steps": 70}},
    {"method": "averaged_match", "labelled": 1, "set": NET | {"steps": 100}},
)
TIMES = {
    "supervised": {"train": 0.2},
    "mean_teacher": {"train": 0.5},
    "averaged_match": {"warm": 0.2, "match": 0.8},
}


@pytest.fixture
def data(tmp_path):
    return read_dataset(write_toy_dataset(tmp_path / "toys", cases=5, unlabelled=1, shape=(10, 9, 8)))


@pytest.fixture
def tasks_of(data, tmp_path):
    """Return the tasks of a protocol with these rows."""

    def make(*rows, **others):
        specs = [RunSpec(**row) for row in rows]
        words = {"title": "Toys", "data": "toys", "config": "demo", "held_out": 1, "run": specs, "equal": "time"}
        protocol = Protocol(**words | others)
        jobs = jobs_of(protocol, tmp_path / "out")
        deals = deal_jobs(protocol, jobs, data)
        return [Task(job, protocol, data.folder, deals[job.folder], None, tmp_path / "cache", "cpu") for job in jobs]

    return make


@pytest.fixture
def lock(data, tmp_path):
    (tmp_path / "out").mkdir()
    return Lock(tmp_path / "out", data)


@pytest.fixture
def measured(monkeypatch):
    """Have times by method instead of a clock, and return the methods in the order in which they are measured."""
    asked = []

    def told(task, place):
        asked.append(task.job.spec.name)
        stages = [stage.name for stage in pace._stages(task)]
        return dict(zip(stages, TIMES[task.job.spec.name].values(), strict=True))

    monkeypatch.setattr(pace, "step_seconds", told)
    return asked


def test_steps_fill_the_controls_time_and_stages_keep_their_shares(tasks_of, lock, measured, data):
    tasks = at_equal_time(tasks_of(*ROWS), lock)
    assert sorted(measured) == ["averaged_match", "mean_teacher", "supervised"], "once a row, for all budgets and seeds"
    assert measured[0] == "supervised"
    by_method = {task.job.spec.name: task for task in tasks}
    assert by_method["supervised"].job.pace == {"equal_time": True}
    assert by_method["supervised"].config().steps == 100
    teacher = by_method["mean_teacher"]
    assert teacher.config().steps == 40, "100 steps of .2 s are 40 of .5 s"
    assert [stage.steps for stage in pace._stages(teacher)] == [70], "its own, before they are paced"
    match = by_method["averaged_match"]
    own = [stage.steps for stage in pace._stages(match)]
    found = [match.config().stages[stage.name].steps for stage in pace._stages(match)]
    assert 0.2 * found[0] + 0.8 * found[1] == pytest.approx(20, abs=0.8)
    assert found[0] / found[1] == pytest.approx(own[0] / own[1], rel=0.1)
    assert match.config().steps == sum(found)
    # what is known is not measured again, and a further row follows the same clock
    measured.clear()
    more = ROWS[1] | {"label": "more", "set": ROWS[1]["set"] | {"steps": 9}}
    again = at_equal_time(tasks_of(*ROWS, more), Lock(lock.file.parent, data))
    assert measured == ["mean_teacher"]
    assert [task.job.pace for task in again if task.job.label != "more"] == [task.job.pace for task in tasks]


def test_the_control_must_be_one_kind_of_row(tasks_of, lock, measured):
    with pytest.raises(ConfigError, match="found 0 kinds of rows"):
        at_equal_time(tasks_of(ROWS[1]), lock)
    other = ROWS[0] | {"labelled": 3, "set": NET | {"steps": 50}}
    with pytest.raises(ConfigError, match="found 2 kinds of rows"):
        at_equal_time(tasks_of(ROWS[0], other), lock)
    tasks = at_equal_time(tasks_of(ROWS[0], other | {"label": "half"}, control="half"), lock)
    assert {task.config().steps for task in tasks} == {50}


def test_a_step_is_measured_in_every_stage_and_leaves_nothing_behind(tasks_of, tmp_path):
    (tmp_path / "out").mkdir()
    (task,) = tasks_of(ROWS[2])
    found = step_seconds(task, tmp_path / "out")
    assert [*found] == [stage.name for stage in pace._stages(task)]
    assert all(seconds > 0 for seconds in found.values())
    assert [*(tmp_path / "out").iterdir()] == []
