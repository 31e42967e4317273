"""The command line: one chain through every verb, and one line for every mistake."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import thresholding
from semivox.cli import console
from semivox.cli import main as cli
from toys import write_toy_dataset

TINY = ["--set", "steps=2", "--set", "patch=[16,16,8]", "--set", "net.filters=2", "--set", "net.levels=2",
        "--set", "batch_labelled=1", "--set", "batch_unlabelled=1", "--device", "cpu"]  # fmt: skip


def test_one_chain_goes_from_a_folder_of_scans_to_a_report(semivox, tmp_path):
    data = str(write_toy_dataset(tmp_path / "data", cases=6, unlabelled=2))
    assert semivox("check", data)[:2] == (0, "0 errors, 0 warnings\n")
    code, out, _ = semivox("split", data, "--labelled", "2", "--held-out", "1", "-o", "split.json")
    assert (code, out) == (0, "2 labelled, 3 unlabelled, 1 held out: split.json\n")
    code, out, _ = semivox("plan", data, "--split", "split.json", "--memory", "2GB", "--device", "cpu")
    assert code == 0
    assert "dims = 3" in out
    code, out, err = semivox("prepare", data, "--split", "split.json", *TINY[:-2])
    assert code == 0
    assert out.startswith(f"{tmp_path / 'cache'}: ")
    assert "prepared 5/5" in err
    train = ["train", data, "--split", "split.json", *TINY]
    for method in ("supervised", "mean_teacher"):
        code, out, err = semivox(*train, "--method", method, "-o", f"runs/{method}")
        assert (code, out) == (0, f"runs/{method}\n")
        assert "step 2/2" in err
        code, out, _ = semivox("predict", f"runs/{method}", data, "--held-out", "-o", f"{method}/masks")
        assert (code, out) == (0, f"1 masks: {method}/masks\n")
        code, out, _ = semivox(
            "evaluate", f"{method}/masks", f"{data}/labelsTr", "-o", f"{method}/scores.csv", "--cases", "split.json"
        )
        assert code == 0
        assert "blob_1: dice" in out
        assert json.loads(Path(method, "scores.json").read_text())["prediction"]["method"] == method
    code, out, _ = semivox("report", "supervised/scores.csv", "mean_teacher/scores.csv", "-o", "report.html")
    assert (code, out) == (0, "report.html\n")
    assert "mean_teacher" in Path("report.html").read_text()
    # a run that is there is neither overwritten nor trained twice
    code, _, err = semivox(*train, "--method", "supervised", "-o", "runs/supervised")
    assert code == 2
    assert "--resume" in err
    assert semivox(*train, "--resume", "-o", "runs/supervised")[:2] == (0, "runs/supervised\n")


def test_check_exits_with_2_where_training_would_be_wrong(semivox, tmp_path):
    data = write_toy_dataset(tmp_path / "data", cases=3, unlabelled=1)
    (data / "imagesTr" / "case_00_0000.nii.gz").write_bytes(b"no image")
    code, out, err = semivox("check", str(data))
    assert code == 2
    assert "2 labelled, 1 unlabelled" in err
    assert "case_00" in out
    assert "1 errors" in out


def test_ctrl_c_in_a_training_exits_with_130_behind_a_checkpoint(semivox, tmp_path, monkeypatch):
    data = str(write_toy_dataset(tmp_path / "data", cases=3, unlabelled=1))
    show = console.Console.row
    monkeypatch.setattr(
        console.Console, "row", lambda *a, **k: (show(*a, **k), os.kill(os.getpid(), signal.SIGINT))
    )
    words = ["train", data, "-o", "run", *TINY, "--set", "steps=3", "--resume"]
    code, _, err = semivox(*words)
    assert code == 130
    assert "--resume" in err
    assert Path("run/checkpoints/step_00000001.pt").exists()
    code, _, err = semivox("predict", "run", f"{data}/imagesTr", "-o", "masks")
    assert code == 0
    assert err.count("run is not at its end: its weights are those of 1 of 3 steps\n") == 1
    monkeypatch.setattr(console.Console, "row", show)
    assert semivox(*words)[0] == 0
    assert Path("run/checkpoints/step_00000003.pt").exists()


def test_a_spent_budget_exits_with_3(semivox, tmp_path):
    data = str(write_toy_dataset(tmp_path / "data", cases=3, unlabelled=1))
    code, out, err = semivox("train", data, "-o", "run", *TINY, "--budget", "0.001s")
    assert (code, out) == (3, "run\n")
    assert err.splitlines()[-1] == "semivox: the time is up: the same command with --resume goes on with run"
    assert semivox("train", data, "-o", "run", *TINY, "--resume")[0] == 0


def test_ctrl_c_elsewhere_exits_with_130_too(semivox, tmp_path, monkeypatch):
    def interrupted(*given, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("semivox.data.checking.check_dataset", interrupted)
    code, _, err = semivox("check", str(tmp_path))
    assert code == 130
    assert err.count("\n") == 1


def test_lists_of_cases_come_from_files(semivox, tmp_path):
    data = str(write_toy_dataset(tmp_path / "data", cases=4, unlabelled=1))
    Path("mine.txt").write_text("case_01\n")
    Path("held.txt").write_text("case_00\ncase_02\n")
    code, _, _ = semivox("split", data, "--labelled-list", "mine.txt", "--held-out-list", "held.txt", "-o", "s.json")
    assert code == 0
    lists = json.loads(Path("s.json").read_text())
    assert (lists["labelled"], lists["held_out"], lists["unlabelled"]) == (
        ["case_01"], ["case_00", "case_02"], ["case_03"],
    )  # fmt: skip


def test_demo_and_bench_hand_their_words_on(semivox, monkeypatch):
    Path("protocol.toml").write_text("")
    home = "semivox.benchmarking"
    monkeypatch.setattr(
        f"{home}.demonstration.demo", lambda output, *, seed, device, **told: f"{output} {seed} {device}"
    )
    monkeypatch.setattr(f"{home}.bench.bench", lambda file, *, output, **told: (file, output))
    assert semivox("demo", "-o", "there", "--seed", "3", "--device", "cpu")[:2] == (0, "there 3 cpu\n")
    assert semivox("bench", "protocol.toml", "-o", "there")[:2] == (0, "protocol.toml\nthere\n")


MISTAKES = {
    "verb": (["trian", "data"], "did you mean 'train'?"),
    "option": (["split", "data", "--labeled", "2", "-o", "s.json"], "--labelled"),
    "method": (["train", "data", "-o", "run", "--method", "mean_techer"], "did you mean 'mean_teacher'?"),
    "method of a plan": (["plan", "data", "--method", "mean_techer"], "did you mean 'mean_teacher'?"),
    "method's card": (["methods", "supervized"], "did you mean 'supervised'?"),
    "key": (["train", "data", "-o", "run", "--set", "stepz=3"], "did you mean 'steps'?"),
    "nested key": (["train", "data", "-o", "run", "--set", "net.filter=3"], "did you mean 'net.filters'?"),
    "method's key": (
        ["train", "data", "-o", "run", "--method", "mean_teacher", "--set", "method.wieght=3"],
        "did you mean 'method.weight'?",
    ),
    "config": (["train", "data", "-o", "run", "--config", "la2018-smal"], "did you mean 'la2018-small'?"),
    "folder": (["check", "dataa"], "did you mean 'data'?"),
    "split file": (["train", "data", "-o", "run", "--split", "splt.json"], "did you mean 'split.json'?"),
    "scan": (["predict", "data/imagesTr/case_00_000.nii.gz", "-o", "masks"], "did you mean 'case_00_0000.nii.gz'?"),
    "run": (["predict", "data", "data", "-o", "masks"], "no run folder"),
    "value": (["train", "data", "-o", "run", "--set", "steps=many"], "'steps'"),
    "list without names": (
        ["split", "data", "--labelled-list", "empty.txt", "-o", "s.json"], "empty.txt: found no name in it",
    ),
    "list and number": (
        ["split", "data", "--held-out", "0", "--held-out-list", "empty.txt", "-o", "s.json"], "found both --held-out 0",
    ),
    "number": (["split", "data", "--labelled", "two", "-o", "s.json"], "'--labelled'"),
    "nothing for a number": (
        ["train", "data", "-o", "run", "--set", "predict.step_size=None"], "'predict.step_size' (--set): found None",
    ),
    "budget": (["train", "data", "-o", "run", "--budget", "2 hours"], "such as 2h"),
    "memory": (["plan", "data", "--memory", "much"], "such as 10GB"),
    "budget of a plan": (["plan", "data", "--budget", "soon"], "--budget takes a number with s, m, h or d, such as 2h"),
    "device": (["train", "data", "-o", "run", "--device", "gpu"], "'auto', 'cpu', 'cuda'"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_gives_one_line_that_names_the_nearest_and_exit_code_2(mistake, semivox, tmp_path):
    write_toy_dataset(tmp_path / "data", cases=3, unlabelled=1, shape=(10, 9, 8))
    Path("split.json").write_text("{}")
    Path("empty.txt").write_text("\n")
    words, hint = MISTAKES[mistake]
    code, out, err = semivox(*words)
    assert (code, out) == (2, "")
    assert err.startswith("semivox: ")
    assert err.count("\n") == 1
    assert hint in err
    assert not Path("run").exists()


def test_debug_shows_where_an_error_came_from(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "argv", ["semivox", "--debug", "check", str(tmp_path / "nothing")])
    with pytest.raises(ValueError, match="there is no"):
        cli.main()


def test_the_installed_command_finds_a_method_in_the_working_folder(tmp_path):
    (tmp_path / "mine.py").write_text(
        '"""Mine: a method of one\'s own."""\n\nfrom semivox.methods.base import Method, MethodConfig\n\n\n'
        "class Config(MethodConfig):\n    extra: int = 3\n    \"\"\"a field.\"\"\"\n\n\nclass Mine(Method):\n"
        "    def forward(self, batch, progress): ...\n\n    def predict(self, image): ...\n"
    )
    done = subprocess.run(
        [Path(sys.executable).with_name("semivox"), "methods", "mine"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    assert "Mine: a method" in done.stdout
    assert "extra = 3" in done.stdout


def test_help_is_there_for_every_verb(semivox):
    verbs = ("demo", "check", "split", "plan", "prepare", "train", "predict", "evaluate", "report", "bench", "curve",
             "methods")  # fmt: skip
    code, out, _ = semivox()
    assert code == 0
    for verb in verbs:
        assert f"  {verb} " in out
        assert semivox(verb, "--help")[0] == 0
    assert "--debug" in out


TERMINATED = """
import signal, sys
from semivox.cli.main import main
from semivox.training import start
start.draft_run = lambda *given: signal.raise_signal(signal.SIGTERM)
sys.argv = ["semivox", "train", ".", "-o", "run"]
main()
"""


def test_what_a_queue_sends_before_the_first_step_is_told_as_ctrl_c_is(tmp_path):
    command = [sys.executable, "-c", TERMINATED]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 130
    assert done.stderr.strip() == "semivox: stopped; the same command goes on where it was (train: with --resume)"


def test_a_scan_that_fails_ends_in_a_list_and_exit_code_1_with_progress_in_plain_lines(semivox, tmp_path):
    data = write_toy_dataset(tmp_path / "data", cases=3, unlabelled=1)
    run = str(thresholding.write_run(tmp_path / "run", channels=("MR_0",), classes=("background", "blob_1")))
    scan = data / "imagesTr" / "case_01_0000.nii.gz"
    scan.write_bytes(scan.read_bytes()[:2000])
    words = ["predict", run, str(data / "imagesTr"), "-o", "masks"]
    code, out, err = semivox(*words)
    assert (code, out) == (1, "")
    assert err.splitlines()[0] == "predicted 0/3  case_00"
    assert "predicted 3/3" in err.splitlines()
    assert err.splitlines()[-2].startswith("semivox: 1 of 3 scans could not be predicted, 2 masks are there")
    assert err.splitlines()[-1].startswith("  case_01: ")
    assert Path("masks/failed.csv").read_text().splitlines()[1].startswith(f"case_01,{scan},")
    write_toy_dataset(data, cases=3, unlabelled=1)
    assert semivox(*words)[:2] == (0, "3 masks: masks\n")
    assert not Path("masks/failed.csv").exists()
