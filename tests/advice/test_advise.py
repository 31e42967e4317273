"""`semivox advise`, as a user runs it: its files, killed and gone on with, what is refused."""

import json
import os
import signal
import subprocess
import sys

import pytest

from semivox.advice.advise import advise, outlined
from semivox.cli.main import main
from semivox.data.dataset import read_dataset
from semivox.data.splitting import make_split, write_split
from semivox.workflow.told import Told
from toys import write_toy_dataset

SMALL = """
patch = [8, 8, 8]
batch_labelled = 1
batch_unlabelled = 1
steps = 6
log_every = 1
[net]
filters = 2
levels = 2
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with a data set of six labelled scans and a config."""
    folder = tmp_path_factory.mktemp("advise")
    write_toy_dataset(folder / "data", cases=9, unlabelled=3, shape=(10, 9, 8))
    (folder / "small.toml").write_text(SMALL)
    return folder


@pytest.fixture(scope="module")
def done(place):
    words = {"config": place / "small.toml", "cache": place / "cache", "device": "cpu"}
    advise(place / "data", output=place / "out", folds=2, draws=3, **words)
    return place / "out"


def words(monkeypatch, *given):
    monkeypatch.setattr("sys.argv", ["semivox", "advise", *map(str, given)])
    with pytest.raises(SystemExit) as caught:
        main()
    return caught.value.code


def numbers(folder):
    return json.loads((folder / "advice.json").read_text())


def test_six_cases_are_compared_over_three_draws_and_two_numbers_of_labels(done):
    found = numbers(done)
    assert found["difference"]["cases"] == 6
    assert (found["difference"]["seeds"], found["difference"]["over"]) == (3, "cases and draws")
    assert found["difference"]["confounders"] == []
    assert (found["labels"]["fewer"], found["labels"]["labelled"]) == (1, 3)
    page = (done / "advice.md").read_text()
    assert all(sentence in page for sentence in found["sentences"])
    assert len(found["scans"]) == 9


def test_no_part_is_scored_by_a_run_that_saw_it(done):
    for run in (done / "runs").glob("*/fold_*"):
        split = json.loads((run / "split.json").read_text())
        masks = {path.name.partition(".")[0] for path in (run / "masks").glob("*.nii.gz")}
        assert masks
        assert not masks & {*split["labelled"], *split["unlabelled"]}, run
    fewer = json.loads((done / "runs/supervised-fewer-0/fold_0/split.json").read_text())
    assert len(fewer["labelled"]) == 1


def test_the_same_call_again_trains_nothing_and_says_the_same(done, place, monkeypatch):
    before = {path: path.stat().st_mtime_ns for path in done.rglob("*.pt")}
    said = (done / "advice.json").read_bytes()
    monkeypatch.setattr("semivox.advice.advise.measured", None)
    advise(place / "data", output=done, folds=2, draws=3, cache=place / "cache", device="cpu")
    assert before == {path: path.stat().st_mtime_ns for path in done.rglob("*.pt")}
    assert said == (done / "advice.json").read_bytes()


def test_the_verb_prints_the_sentences(done, place, monkeypatch, capsys):
    given = [place / "data", "-o", done, "--draws", 3, "--folds", 2, "--cache", place / "cache", "--device", "cpu"]
    assert words(monkeypatch, *given) == 0
    out = capsys.readouterr().out.splitlines()
    assert out == [*numbers(done)["sentences"], str(done / "advice.md")]
    assert words(monkeypatch, *given[:5], "--folds", 3) == 2
    assert "was started with folds = 2, found 3" in capsys.readouterr().err


def test_a_dry_run_says_what_it_costs_and_leaves_nothing(place, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert words(monkeypatch, place / "data", "--dry-run", "--budget", "1h", "--device", "cpu") == 0
    out = capsys.readouterr().out
    assert "6 labelled cases, 3 unlabelled scans" in out
    assert "45 trainings" in out
    assert "minutes of training; a training takes" in out
    assert not list(tmp_path.iterdir())
    split = make_split(read_dataset(place / "data"), labelled=4)
    assert "with 4 labels no verdict can come out" in outlined(place / "data", split=split, device="cpu")


def test_a_budget_chooses_the_steps(place, tmp_path, monkeypatch):
    monkeypatch.setattr("semivox.workflow.course.LEAST", 2)
    notes = []
    found = advise(place / "data", output=tmp_path / "out", config=place / "small.toml", folds=2, draws=1, seconds=0.01,
                   cache=place / "cache", device="cpu", told=Told(note=notes.append))  # fmt: skip
    assert found.trial.steps == 2
    assert any("are needed for 2 steps, the least, of 6 trainings" in note for note in notes)
    assert "seen once: 3 draws are needed" in found.finding.sentence


def test_too_few_labels_and_foreign_folders_are_refused(place, tmp_path, monkeypatch, capsys):
    write_toy_dataset(tmp_path / "data", cases=3, unlabelled=0, shape=(10, 9, 8))
    assert words(monkeypatch, tmp_path / "data", "-o", tmp_path / "out") == 2
    assert "found 3 labelled cases or patients and 0 unlabelled scans" in capsys.readouterr().err
    write_split(make_split(read_dataset(place / "data"), labelled=1), tmp_path / "split.json")
    assert words(monkeypatch, place / "data", "--split", tmp_path / "split.json", "-o", tmp_path / "out") == 2
    assert "found 1 labelled cases or patients" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
    (tmp_path / "full").mkdir()
    (tmp_path / "full/letter.txt").write_text("dear")
    assert words(monkeypatch, place / "data", "-o", tmp_path / "full") == 2
    assert "holds letter.txt" in capsys.readouterr().err


@pytest.mark.slow
def test_killed_and_started_again_it_says_the_same(done, place, tmp_path):
    command = [sys.executable, "-m", "semivox.cli.main", "advise", place / "data", "-o", tmp_path / "out", "--config",
               place / "small.toml", "--folds", "2", "--draws", "3", "--cache", tmp_path / "cache",
               "--device", "cpu"]  # fmt: skip
    for moment in ("timing", "cross-validating averaged_match-0", "cross-validating supervised-fewer-1", "comparing"):
        with subprocess.Popen([*map(str, command)], stderr=subprocess.PIPE, text=True) as process:
            for line in process.stderr:
                if line.startswith(moment):
                    os.kill(process.pid, signal.SIGKILL)
        assert process.returncode == -signal.SIGKILL, f"not seen: {moment}"
    subprocess.run([*map(str, command)], check=True, capture_output=True)
    mine, theirs = numbers(tmp_path / "out"), numbers(done)
    for one in (mine, theirs):
        one["trial"].pop("minutes")
    assert mine == theirs
