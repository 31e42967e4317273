"""`semivox run`, as a user runs it: from a folder to ranked masks, killed and gone on with, and what is refused."""

import csv
import json
import os
import re
import shutil
import signal
import subprocess
import sys

import pytest

from semivox.cli.main import main
from semivox.workflow import course
from semivox.workflow.run import run
from toys import write_toy_dataset

QUICK = """
import sys
from semivox.workflow import course
course.LEAST = 20
from semivox.cli.main import main
sys.argv = ["semivox", *sys.argv[1:]]
main()
"""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_toy_dataset(tmp_path_factory.mktemp("run") / "data", cases=4, shape=(12, 10, 8))


@pytest.fixture(scope="module")
def done(data, tmp_path_factory):
    """The folder of a run with two members, cross-validated."""
    output = tmp_path_factory.mktemp("run") / "out"
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(course, "LEAST", 6)
        run(data, output=output, seconds=1, members=2, folds=2, cache=output.parent / "cache", device="cpu")
    return output


def made(folder):
    """Return when weights and masks were written; those of all folds together are copies of the folds'."""
    files = [path for path in folder.rglob("*") if path.suffix in (".pt", ".gz") and "out_of_fold" not in path.parts]
    return {path: path.stat().st_mtime_ns for path in files}


def words(monkeypatch, *given):
    monkeypatch.setattr("sys.argv", ["semivox", "run", *map(str, given)])
    with pytest.raises(SystemExit) as caught:
        main()
    return caught.value.code


def test_every_scan_without_a_label_has_a_mask_an_estimate_and_a_picture(done):
    assert sorted(path.name for path in (done / "masks").glob("case_*")) == ["case_02.nii.gz", "case_03.nii.gz"]
    with (done / "quality.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sorted(row["case"] for row in rows) == ["case_02", "case_03"]
    assert {row["calibration_cases"] for row in rows} == {"2"}
    assert {row["coverage"] for row in rows} == {"0.6667"}, "two cases promise no more"
    page = (done / "index.html").read_text()
    shown = json.loads(re.search(r'<script type="application/json" id="data">(.*?)</script>', page).group(1))
    assert [case["case"] for case in shown["cases"]] == [row["case"] for row in rows], "the worst first"
    assert all(case["estimates"][0]["lower"] is not None for case in shown["cases"])
    assert sorted(path.stem for path in (done / "review").iterdir()) == ["case_02", "case_03"]
    assert "2 labelled and 2 unlabelled scans" in page


def test_the_same_call_again_trains_and_predicts_nothing(done, data, monkeypatch):
    before = made(done)
    monkeypatch.setattr(course, "measured", None)
    (done / "review.json").write_text("a review that was saved beside the page")
    run(data, output=done, members=2, folds=2, cache=done.parent / "cache", device="cpu")
    assert before == made(done)
    assert (done / "review.json").exists()


def test_other_words_for_a_folder_that_was_begun_are_refused(done, data, monkeypatch, capsys):
    assert words(monkeypatch, data, "-o", done, "--members", 3) == 2
    assert "was started with members = 2, found 3" in capsys.readouterr().err


@pytest.mark.slow
def test_killed_and_started_again_it_makes_the_same_masks(data, tmp_path):
    cache = ["--cache", str(tmp_path / "cache"), "--device", "cpu", "--budget", "1s"]
    names = {}
    for name, moments in {"whole": [], "killed": ["timing", "averaged_match-0 ", "training supervised"]}.items():
        command = [sys.executable, "-c", QUICK, "run", str(data), "-o", str(tmp_path / name), *cache]
        for moment in moments:
            with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
                for line in process.stderr:
                    if line.startswith(moment):
                        os.kill(process.pid, signal.SIGKILL)
            assert process.returncode == -signal.SIGKILL, f"not seen: {moment}"
        subprocess.run(command, check=True, capture_output=True)
        names[name] = {path.name: path.read_bytes() for path in sorted((tmp_path / name / "masks").glob("*.nii.gz"))}
    assert names["whole"] == names["killed"]
    assert len(names["whole"]) == 2


def test_two_folders_beside_each_other_will_do(data, tmp_path, monkeypatch):
    monkeypatch.setattr(course, "LEAST", 6)
    out = tmp_path / "out"
    given = ["--images", data / "imagesTr", "--labels", data / "labelsTr", "-o", out, "--budget", "1s"]
    assert words(monkeypatch, *given, "--cache", tmp_path / "cache") == 0
    assert (out / "data" / "dataset.json").exists()
    assert len(list((out / "masks").glob("case_*"))) == 2


def test_a_dry_run_says_what_it_would_do_and_leaves_nothing(data, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert words(monkeypatch, data, "--dry-run", "--budget", "1h", "--members", 3) == 0
    told = capsys.readouterr().out
    assert "2 labelled and 2 unlabelled scans: 3 runs of averaged_match, and supervised for a second opinion" in told
    assert "minutes of training" in told
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda data: shutil.rmtree(data), "there is no"),
        (lambda data: (data / "dataset.json").unlink(), "dataset.json"),
        (lambda data: [path.unlink() for path in (data / "labelsTr").iterdir()], "found 0 scans with and 4 without"),
        (lambda data: [(data / "imagesTr" / f"case_0{n}_0000.nii.gz").unlink() for n in (2, 3)], "and 0 without"),
        (lambda data: (data / "imagesTr" / "case_02_0000.nii.gz").write_bytes(b"no image"), "case_02"),
    ],
    ids=["gone", "no description", "no label", "all labelled", "broken scan"],
)
def test_what_cannot_be_run_is_refused_in_a_line_and_nothing_is_left(data, tmp_path, monkeypatch, capsys, spoil, text):
    copied = shutil.copytree(data, tmp_path / "data")
    spoil(copied)
    assert words(monkeypatch, copied, "-o", tmp_path / "out") == 2
    message = capsys.readouterr().err
    assert text in message
    assert "Traceback" not in message
    assert not (tmp_path / "out").exists()


def test_a_folder_of_something_else_is_left_alone(data, tmp_path, monkeypatch, capsys):
    (tmp_path / "thesis.tex").write_text("mine")
    assert words(monkeypatch, data, "-o", tmp_path) == 2
    assert "holds thesis.tex" in capsys.readouterr().err


def test_data_come_as_one_folder_or_as_two(data, tmp_path, monkeypatch, capsys):
    assert words(monkeypatch, data, "--images", data / "imagesTr", "-o", tmp_path / "out") == 2
    assert "found DATA, --images, expected either DATA or both" in capsys.readouterr().err
    assert words(monkeypatch, "-o", tmp_path / "out") == 2
    assert "found none of them" in capsys.readouterr().err
