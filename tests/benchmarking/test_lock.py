"""The lock of a protocol: whatever a result depends on is named when it changes, and what does not is let pass."""

import json
import os
from dataclasses import replace

import pytest

from semivox.benchmarking import lock as lock_file
from semivox.benchmarking.lock import Lock, code_version
from semivox.benchmarking.protocols import Protocol, RunSpec, jobs_of
from semivox.benchmarking.splits import deal_jobs
from semivox.benchmarking.tasks import Task
from semivox.data.dataset import read_dataset
from semivox.errors import ConfigError, RunError
from toys import write_toy_dataset


@pytest.fixture
def data(tmp_path):
    return read_dataset(write_toy_dataset(tmp_path / "toys", cases=5, unlabelled=1, shape=(6, 6, 4)))


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "out").mkdir()
    return tmp_path / "out"


def tasks_of(data, folder, *rows, **others) -> list[Task]:
    """Return the tasks of a protocol with these rows; one of supervised where none is given."""
    specs = [RunSpec(**row) for row in rows or ({"method": "supervised", "labelled": 1},)]
    protocol = Protocol(**{"title": "Toys", "data": "toys", "config": "demo", "held_out": 1, "run": specs} | others)
    jobs = jobs_of(protocol, folder)
    deals = deal_jobs(protocol, jobs, data)
    return [Task(job, protocol, data.folder, deals[job.folder]) for job in jobs]


@pytest.fixture
def locked(data, folder):
    """Lock one task, and return a function that goes on with others."""
    Lock(folder, data).add(tasks_of(data, folder))
    return lambda *rows, **others: Lock(folder, data).add(tasks_of(data, folder, *rows, **others))


def test_the_same_protocol_goes_on_and_its_lock_is_not_written_again(locked, folder):
    before = (folder / "lock.json").stat().st_mtime_ns
    locked()
    assert (folder / "lock.json").stat().st_mtime_ns == before
    content = json.loads((folder / "lock.json").read_text())
    assert len(content["data"]) == 10, "dataset.json, five images, four labels"
    code = {"semivox", "torch", "numpy", "code of ops", "code of methods", "code of methods/supervised"}
    assert code <= {*content["code"]}
    (job,) = content["jobs"].values()
    assert {"config.steps", "set.seed", "labelled", "split", "unit", "sha256"} <= {*job}


def test_further_rows_seeds_draws_and_another_title_are_no_change(locked, folder):
    rows = [{"method": "supervised", "labelled": (1, 2), "seeds": (0, 1)}, {"method": "mean_teacher", "labelled": 1}]
    locked(*rows, title="Others", further_controls=("mean_teacher",), draws=2)
    content = json.loads((folder / "lock.json").read_text())
    assert len(content["jobs"]) == 10
    assert "code of methods/mean_teacher" in content["code"]
    locked()
    assert len(json.loads((folder / "lock.json").read_text())["jobs"]) == 10, "what is left out stays locked"


@pytest.mark.parametrize(
    ("row", "others", "text"),
    [
        ({"set": {"steps": 7}}, {}, r"set\.steps of supervised-1-seed0 = None, now it is 7"),
        ({}, {"config": "la2018-small"}, r"config\.\S+ of supervised-1-seed0 = .* \(and \d+ more changes\)"),
        ({}, {"held_out": 2}, r"held_out of supervised-1-seed0 = 1, now it is 2"),
        ({}, {"unit": "voxel"}, r"unit of supervised-1-seed0 = None, now it is voxel"),
        ({"labelled": ("case_01",)}, {}, r"labelled of supervised-1-seed0 = 1, now it is \['case_01'\]"),
    ],
)
def test_a_job_that_has_not_begun_may_not_become_another(row, others, text, locked):
    with pytest.raises(ConfigError, match=text + r".*name another folder with -o"):
        locked({"method": "supervised", "labelled": 1} | row, **others)


def test_changed_data_are_named_and_a_file_that_was_only_touched_is_none(locked, data):
    label = data.folder / "labelsTr" / "case_01.nii.gz"
    os.utime(label, (1, 1))
    locked()
    label.write_bytes((data.folder / "labelsTr" / "case_02.nii.gz").read_bytes())
    with pytest.raises(ConfigError, match=r"the content of labelsTr/case_01\.nii\.gz = \w{16}, now it is \w{16}"):
        locked()


def test_a_file_that_is_gone_by_the_next_run_is_named(data, folder):
    tasks = tasks_of(data, folder)
    lock = Lock(folder, data)
    lock.add(tasks)
    (data.folder / "labelsTr" / "case_00.nii.gz").unlink()
    with pytest.raises(ConfigError, match=r"labelsTr/case_00.* now it is no such file"):
        lock.refuse_changes(tasks)


def test_another_split_of_the_same_words_is_named(data, folder):
    tasks = tasks_of(data, folder)
    Lock(folder, data).add(tasks)
    other = replace(tasks[0].deal.split, unlabelled=())
    changed = replace(tasks[0], deal=tasks[0].deal._replace(split=other))
    with pytest.raises(ConfigError, match="split of supervised-1-seed0"):
        Lock(folder, data).add([changed])


def test_changed_code_is_named_by_its_room_and_another_methods_file_is_none(locked, monkeypatch, folder, data):
    now = code_version(["supervised"])
    assert code_version(["supervised", "arco"]).items() > now.items()
    assert code_version([]).items() < now.items()
    monkeypatch.setattr(lock_file, "code_version", lambda methods: now | {"code of ops": "0" * 16, "code of new": "1"})
    lock = Lock(folder, data)
    lock.code = now
    lock.refuse_changes(tasks_of(data, folder), code_anew=False)  # this process has what it has loaded
    with pytest.raises(ConfigError, match=r"code of ops = \w+, now it is 0{16}: runs of both would be mixed"):
        locked()


@pytest.mark.parametrize(
    "text",
    ["{", "[]", "{}", '{"code": 1, "data": {}, "jobs": {}, "step_seconds": {}}',
     '{"code": {}, "data": {"a": {}}, "jobs": {}, "step_seconds": {}}',
     '{"code": {}, "data": {}, "jobs": {"a": []}, "step_seconds": {}}',
     '{"code": {}, "data": {}, "jobs": {}, "step_seconds": {"a": {"train": 0}}}'],
)  # fmt: skip
def test_a_damaged_lock_is_told_in_one_line(text, folder, data):
    (folder / "lock.json").write_text(text)
    with pytest.raises(RunError, match=r"lock\.json is damaged.*name another folder with -o"):
        Lock(folder, data)
