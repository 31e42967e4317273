"""A protocol: runs once, skips what is done, goes on where it was cut, and refuses what would mix results."""

import json
import os
import re
import signal
import sys
from pathlib import Path

import pytest

from semivox.benchmarking import pace as pace_file
from semivox.benchmarking import tasks as task_file
from semivox.benchmarking.bench import bench, find_data
from semivox.benchmarking.protocols import jobs_of, read_protocol
from semivox.benchmarking.splits import Deal
from semivox.benchmarking.tasks import Task
from semivox.data.splitting import Split
from semivox.errors import (
    ConfigError,
    DatasetError,
    FailedRunsError,
    RunError,
    TimeUpError,
    UnknownMethodError,
)
from semivox.files import locked_folder
from toys import write_toy_dataset

CONFIG = """
steps = 3
checkpoint_every = 2
log_every = 1
patch = [8, 8, 8]
batch_labelled = 1
batch_unlabelled = 1
[net]
filters = 2
levels = 2
"""
PROTOCOL = """
[bench]
title = "Toys"
data = "toys"
config = "{config}"
held_out = 1

[[bench.run]]
method = "supervised"
labelled = 1
seeds = [0, 1]

[[bench.run]]
method = "mean_teacher"
labelled = 2
set = {{ "method.weight" = 0.5 }}
"""


@pytest.fixture
def protocol(tmp_path, monkeypatch) -> Path:
    """Return the file of a protocol of three tiny jobs."""
    write_toy_dataset(tmp_path / "sets" / "toys", cases=5, unlabelled=1, shape=(10, 9, 8))
    monkeypatch.setenv("SEMIVOX_DATA", str(tmp_path / "sets"))
    (tmp_path / "tiny.toml").write_text(CONFIG)
    file = tmp_path / "toys.toml"
    file.write_text(PROTOCOL.format(config=tmp_path / "tiny.toml"))
    return file


def changed(file: Path, old: str, new: str) -> Path:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new, 1))
    return file


def run(file: Path, **told) -> tuple[Path, ...]:
    return bench(file, output=file.parent / "out", cache=file.parent / "cache", device="cpu", **told)


def test_a_protocol_runs_once_goes_on_where_it_was_cut_and_ends_in_a_report(protocol, tmp_path, monkeypatch):
    monkeypatch.setattr("semivox.training.assembly._memory_warnings", lambda *args: ["memory is short"])
    started, rows, notes = [], [], []

    def stop_in_the_second_job(row, total):
        rows.append(row)
        if len(rows) == 4:
            os.kill(os.getpid(), signal.SIGTERM)

    def note(job, number, total):
        started.append((job.folder.name, number, total))

    with pytest.raises(KeyboardInterrupt):
        run(protocol, on_job=note, on_row=stop_in_the_second_job, on_note=notes.append)
    assert notes == ["memory is short", "memory is short"], "one for each new run"
    output = tmp_path / "out"
    first, second, third = "supervised-1-seed0", "mean-teacher-2-seed0", "supervised-1-seed1"
    assert started == [(first, 0, 3), (second, 1, 3)]
    assert (output / second / "run" / "checkpoints" / "step_00000001.pt").exists()
    assert not (output / "report.html").exists()

    before = (output / first / "scores.csv").stat().st_mtime_ns
    started.clear()
    rows.clear()
    (report,) = run(protocol, on_job=note, on_row=lambda row, total: rows.append((row["total_step"], total)))
    assert started == [(second, 1, 3), (third, 2, 3)]
    assert rows == [(1, 3), (2, 3), (0, 3), (1, 3), (2, 3)]
    assert (output / first / "scores.csv").stat().st_mtime_ns == before
    page = report.read_text()
    assert report == output / "report.html"
    assert "Toys" in page
    assert "mean_teacher" in page
    config = (output / second / "run" / "config.toml").read_text()
    assert re.search(r"^method\.weight = 0\.5", config, re.MULTILINE)
    assert json.loads((output / third / "masks" / "prediction.json").read_text())["seed"] == 1
    split = json.loads((output / second / "run" / "split.json").read_text())
    assert (split["labelled"], split["held_out"]) == (["case_00", "case_01"], ["case_03"])

    started.clear()
    run(protocol, on_job=note)
    assert started == []
    with pytest.raises(ConfigError, match=r"seed0 was run with set\.method\.weight = 0\.5, the protocol has 0\.7"):
        run(changed(protocol, "0.5", "0.7"))
    changed(protocol, "0.7", "0.5")
    changed(tmp_path / "tiny.toml", "steps = 3", "steps = 4")
    with pytest.raises(ConfigError, match=r"config\.steps = 3, the protocol has 4"):
        run(protocol)


@pytest.mark.parametrize(
    ("old", "new", "error", "text"),
    [
        ("seeds", "sedes", ConfigError, r"unknown key 'sedes' .*row 1.*did you mean 'seeds'"),
        ("held_out", "heldout", ConfigError, r"unknown key 'heldout'.*did you mean 'held_out'"),
        ("held_out = 1", "", ConfigError, r"key 'held_out' .*is missing"),
        ("labelled = 1", "labelled = 0", ConfigError, r"'labelled' .*row 1.*found 0"),
        ("[0, 1]", "[1, 1]", ConfigError, r"names 'supervised-1-seed1' twice"),
        ("[bench]", "[bnch]", ConfigError, r"expected one \[bench\] table"),
        ("[bench]", "[bench", ConfigError, "not valid TOML"),
        ("method.weight", "method.wieght", ConfigError, r"did you mean 'method\.weight'"),
        ('"mean_teacher"', '"mean_techer"', UnknownMethodError, "did you mean 'mean_teacher'"),
        ("tiny.toml", "tny.toml", ConfigError, "no config file"),
        ('"toys"', '"toy"', ConfigError, "SEMIVOX_DATA"),
        ("labelled = 2", "labelled = 9", DatasetError, "9"),
        ("labelled = 2", 'labelled = ["case_9"]', ConfigError, "no case 'case_9' with a label.*did you mean 'case_0"),
    ],
)
def test_a_protocol_that_cannot_run_to_its_end_is_refused_before_it_starts(
    old, new, error, text, protocol, monkeypatch, tmp_path
):
    monkeypatch.setattr(task_file, "train", lambda *given, **options: pytest.fail("a job has started"))
    with pytest.raises(error, match=text):
        run(changed(protocol, old, new))


def test_named_groups_are_held_out_together_and_scored_and_reported_each_on_its_own(protocol, tmp_path):
    changed(protocol, "held_out = 1", 'patients = "_(0.)"')
    changed(protocol, "labelled = 1\nseeds = [0, 1]", 'labelled = ["02"]')
    changed(protocol, "labelled = 2", 'labelled = ["02"]')
    changed(protocol, "[[bench.run]]", '[bench.held_out]\nnear = ["01"]\nfar = ["00", "03"]\n\n[[bench.run]]')
    changed(protocol, "[bench.held_out]", 'further_controls = ["mean_teacher"]\n[bench.held_out]')
    near, far = run(protocol)
    assert (near.name, far.name) == ("report-near.html", "report-far.html")
    assert "Toys: far" in far.read_text()
    assert "Against mean_teacher" in far.read_text()
    folder = tmp_path / "out" / "supervised-1-seed0"
    split = json.loads((folder / "run" / "split.json").read_text())
    lists = (split["labelled"], split["unlabelled"], split["held_out"])
    assert lists == (["case_02"], ["case_04"], ["case_00", "case_01", "case_03"])
    scored = {group: (folder / f"scores-{group}.csv").read_text() for group in ("near", "far")}
    assert sorted(set(re.findall("case_0.", scored["near"]))) == ["case_01"]
    assert sorted(set(re.findall("case_0.", scored["far"]))) == ["case_00", "case_03"]
    started = []
    run(protocol, on_job=lambda job, number, total: started.append(job))
    assert started == []
    (folder / "scores-far.csv").unlink()
    run(protocol, on_job=lambda job, number, total: started.append(job.folder.name))
    assert started == ["supervised-1-seed0"]
    with pytest.raises(ConfigError, match=r"was run with held_out\.far = \['00', '03'\], the protocol has \['00'\]"):
        run(changed(protocol, 'far = ["00", "03"]', 'far = ["00"]'))


def test_data_is_found_by_path_or_below_the_named_folder(protocol, tmp_path, monkeypatch):
    found = tmp_path / "sets" / "toys"
    assert find_data("toys") == find_data(str(found)) == found
    monkeypatch.delenv("SEMIVOX_DATA")
    monkeypatch.chdir(tmp_path / "sets")
    assert find_data("toys") == Path("toys")


PROTOCOLS = sorted((Path(__file__).parents[2] / "benchmarks").glob("*.toml"))


@pytest.mark.parametrize("file", PROTOCOLS, ids=lambda file: file.stem)
def test_every_shipped_protocol_can_be_followed(file):
    protocol = read_protocol(file)
    for job in jobs_of(protocol, Path("nowhere")):
        assert Task(job, protocol, Path("nowhere"), Deal(Split(()), {})).config().steps


def test_a_spent_budget_stops_behind_a_checkpoint_and_the_same_call_goes_on(protocol, tmp_path):
    with pytest.raises(TimeUpError, match="the same command goes on") as stopped:
        run(protocol, seconds=0.001)
    assert stopped.value.exit_code == 3
    assert len(list(tmp_path.rglob("step_*.pt"))) == 1
    assert [report.name for report in run(protocol)] == ["report.html"]


def test_a_method_of_ones_own_runs_only_with_trust_and_from_the_copies_once_its_file_is_gone(
    protocol, tmp_path, monkeypatch
):
    for name in [name for name in sys.modules if name.startswith("semivox_own")]:
        monkeypatch.delitem(sys.modules, name)
    own = tmp_path / "mine" / "own_method.py"
    own.parent.mkdir()
    own.write_text((Path(__file__).parents[2] / "examples" / "own_method.py").read_text() + "# in a protocol\n")
    rows = f'method = "{own}"\nlabel = "mine"\nlabelled = 2\n'
    changed(protocol, 'method = "mean_teacher"\nlabelled = 2\nset = { "method.weight" = 0.5 }\n', rows)
    words = {"output": tmp_path / "out", "device": "cpu", "cache": tmp_path / "cache"}
    with pytest.raises(RunError, match=rf"would run the program {own} \(SHA-256 \w+\).*give --trust"):
        bench(protocol, **words)
    assert not list(tmp_path.glob("out/*/run"))
    bench(protocol, trust=True, **words)
    (copy,) = tmp_path.glob("out/mine-2-seed0/run/method.py")
    assert copy.read_bytes() == own.read_bytes()
    own.unlink()
    assert bench(protocol, trust=True, **words)


def test_a_run_that_fails_is_named_in_error_and_report_and_the_others_are_scored(protocol, tmp_path):
    changed(protocol, '"method.weight" = 0.5', '"method.lr" = 1e30')
    changed(protocol, "seeds = [0, 1]", "seeds = [0]")
    done = []
    with pytest.raises(FailedRunsError, match=r"1 of 2 runs failed, the report is made of the others") as failed:
        run(protocol, on_done=lambda job, why, left, seconds: done.append((job.folder.name, why[:4], left)))
    name = "mean-teacher-2-seed0"
    assert failed.value.exit_code == 1
    assert failed.value.reports == [tmp_path / "out" / "report.html"]
    assert [*failed.value.failures] == [name]
    assert re.search("expected a finite number|no longer finite", failed.value.failures[name])
    assert done == [("supervised-1-seed0", "", 1), (name, "step", 0)]
    page = failed.value.reports[0].read_text()
    assert f"1 of 2 runs failed and are in no number: {name} (step " in page
    with pytest.raises(FailedRunsError):  # tried again, and nothing else
        run(protocol, on_job=lambda job, number, total: done.append(job.folder.name))
    assert done[2:] == [name]


def test_where_every_run_fails_there_is_no_report(protocol, tmp_path, monkeypatch):
    def crash(*given, **told):
        raise ZeroDivisionError("a fault of ours")

    monkeypatch.setattr(task_file, "train", crash)
    with pytest.raises(FailedRunsError, match="3 of 3 runs failed, there is nothing to report") as failed:
        run(protocol)
    assert failed.value.reports == []
    for why in failed.value.failures.values():
        assert why.startswith("ZeroDivisionError: a fault of ours (test_bench.py, line ")


def test_two_benches_in_one_folder_refuse(protocol, tmp_path):
    with (
        locked_folder(tmp_path / "out", doing="benched into"),
        pytest.raises(RunError, match="is being benched into by process"),
    ):
        run(protocol)


def test_what_changes_while_a_protocol_runs_stops_it_before_the_next_run(protocol, tmp_path):
    config, done = tmp_path / "tiny.toml", []

    def edit(job, why, left, seconds):
        done.append(job.folder.name)
        config.write_text(config.read_text().replace("steps = 3", "steps = 4"))

    with pytest.raises(ConfigError, match=r"was begun with config\.steps of supervised-1-seed0 = 3, now it is 4"):
        run(protocol, on_done=edit)
    assert done == ["supervised-1-seed0"]
    assert not (tmp_path / "out" / "mean-teacher-2-seed0").exists()
    assert not (tmp_path / "out" / "report.html").exists()


def test_at_equal_time_rows_of_other_numbers_of_steps_are_compared(protocol, tmp_path, monkeypatch):
    times = {"supervised": {"train": 0.3}, "mean_teacher": {"train": 0.45}}
    monkeypatch.setattr(pace_file, "step_seconds", lambda task, place: times[task.job.spec.name])
    changed(protocol, "held_out = 1", 'held_out = 1\nequal = "time"')
    changed(protocol, "seeds = [0, 1]", "seeds = [0]")
    changed(protocol, "labelled = 2", "labelled = 1")
    (report,) = run(protocol)
    configs = {path.parts[-3]: path.read_text() for path in (tmp_path / "out").glob("*/run/config.toml")}
    assert re.search(r"^steps = 2  # --set", configs["mean-teacher-1-seed0"], re.MULTILINE)
    assert re.search(r"^steps = 3 ", configs["supervised-1-seed0"], re.MULTILINE)
    assert "Not comparable" not in report.read_text()
    monkeypatch.setattr(pace_file, "step_seconds", lambda task, place: pytest.fail("measured again"))
    assert run(protocol) == (report,)
