"""Trust: a run folder is data; the method in it that semivox does not ship runs only by a user's word."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from semivox.errors import RunError, SemivoxError
from semivox.methods import load_own, own_method
from semivox.prediction.files import Predictor, predict
from semivox.runs.folder import open_run
from semivox.runs.trust import METHOD_FILE
from toy_training import TINY

SOURCE = (Path(__file__).parents[2] / "examples" / "own_method.py").read_text()
DIFFERENT = "print('RAN', file=__import__('sys').stderr)\n"


@pytest.fixture(scope="module")
def trained(train_toy, tmp_path_factory) -> Path:
    """A folder with the method's file and the run that stopped behind its first step."""
    folder = tmp_path_factory.mktemp("trained")
    file = folder / "own_method.py"
    file.write_text(SOURCE + DIFFERENT)
    assert not train_toy(folder / "run", method=str(file), seconds=1e-9).finished
    return folder


@pytest.fixture
def run(trained, tmp_path, monkeypatch) -> Path:
    """The run elsewhere, its file gone, in a process that has not run the method yet and works beside a trap."""
    forget(monkeypatch)
    (tmp_path / "own_method.py").write_text(SOURCE + "raise AssertionError('what lay beside the run was imported')\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    return shutil.copytree(trained / "run", tmp_path / "moved")


def forget(monkeypatch) -> None:
    for name in [name for name in sys.modules if name.startswith("semivox_own")]:
        monkeypatch.delitem(sys.modules, name)


def test_the_run_keeps_the_file_and_its_digest(trained):
    config = open_run(trained / "run").config
    assert (trained / "run" / METHOD_FILE).read_bytes() == (trained / "own_method.py").read_bytes()
    assert (config.method_name, config.method_digest) == (
        "own_method", own_method(str(trained / "own_method.py")).digest,
    )  # fmt: skip
    assert open_run(trained / "run").facts["method"] == "own_method"


def test_without_trust_nothing_of_it_runs_and_the_message_says_what_would(run, train_toy, toy_data, tmp_path, capfd):
    digest = open_run(run).config.method_digest
    told = rf"would run the program {run / METHOD_FILE} \(SHA-256 {digest}\).*give --trust"
    with pytest.raises(RunError, match=told):
        predict([run], [toy_data / "imagesTr"], output=tmp_path / "masks", device="cpu")
    with pytest.raises(RunError, match=told):
        Predictor(run, device="cpu")
    with pytest.raises(RunError, match=told):
        train_toy(run, method=None, resume=True)
    assert "RAN" not in capfd.readouterr().err
    assert not (tmp_path / "masks").exists()


def test_with_trust_the_copy_predicts_and_goes_on_elsewhere(run, train_toy, toy_data, tmp_path, monkeypatch):
    scan = toy_data / "imagesTr" / "case_04_0000.nii.gz"
    assert predict([run], [scan], output=tmp_path / "masks", device="cpu", trust=True)
    forget(monkeypatch)
    assert train_toy(run, method=None, resume=True, trust=True).finished


def test_the_same_file_given_again_is_the_users_word_and_another_content_is_refused(run, train_toy, trained):
    other = run.parent / "other.py"
    other.write_text(SOURCE)
    with pytest.raises(RunError, match=r"was started with method\.sha256 = '\w{64}', found '\w{64}'"):
        train_toy(run, method=str(other), resume=True, trust=True)
    with pytest.raises(RunError, match="was started with method = 'own_method', found 'supervised'"):
        train_toy(run, method="supervised", resume=True, trust=True)
    assert train_toy(run, method=str(trained / "own_method.py"), resume=True).finished


@pytest.mark.parametrize("trust", [False, True])
def test_a_copy_that_is_another_is_refused_with_trust_too(run, trust):
    copy = run / METHOD_FILE
    copy.write_text(copy.read_text() + "raise AssertionError('it ran')\n")
    with pytest.raises(RunError, match=r"is not the file that .* was trained with: found SHA-256 .*put that file back"):
        Predictor(run, device="cpu", trust=trust)
    copy.unlink()
    with pytest.raises(RunError, match="is no regular file: put the file with the SHA-256"):
        Predictor(run, device="cpu", trust=trust)
    copy.symlink_to(run.parent / "own_method.py")
    with pytest.raises(RunError, match="is no regular file"):
        Predictor(run, device="cpu", trust=trust)


def test_a_run_of_before_without_a_copy_says_what_to_do_and_that_helps(run, trained):
    """Such a run named its module alone, and whatever lay beside it under this name was imported."""
    config = (run / "config.toml").read_text().splitlines()
    line = next(line for line in config if line.startswith("method.sha256"))
    (run / "config.toml").write_text("\n".join(set(config) - {line}))
    (run / METHOD_FILE).rename(run.parent / "kept.py")
    with pytest.raises(RunError, match=r"keeps no copy of it: copy its file to .*add the line method\.sha256 = .*to "):
        Predictor(run, device="cpu", trust=True)
    shutil.copy(trained / "own_method.py", run / METHOD_FILE)
    with (run / "config.toml").open("a") as file:
        file.write(f"\n{line}\n")
    assert Predictor(run, device="cpu", trust=True).run.config.method_name == "own_method"


def test_a_method_that_a_config_names_is_data_and_is_not_run(train_toy, tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "trap.py").write_text("raise AssertionError('a config has run a program')\n")
    named = tmp_path / "config.toml"
    for text, told in [
        ('method.name = "trap"', "ships no method 'trap'.*named by --method FILE"), ("[methods.trap]\nlr = 1.0", None),
    ]:  # fmt: skip
        named.write_text(text)
        words = {"method": None, "config": str(named), "settings": {"steps": 1}}
        if told is None:
            assert train_toy(tmp_path / "run", **words).finished
        else:
            with pytest.raises(SemivoxError, match=told):
                train_toy(tmp_path / "run", **words)


def test_two_runs_of_two_files_of_one_name_are_averaged_without_being_mixed_up(train_toy, toy_data, tmp_path):
    runs = []
    for weight in ("1.0", "3.0"):
        file = tmp_path / weight / "own_method.py"
        file.parent.mkdir()
        file.write_text(SOURCE.replace("Field(0.1, ge=0)", weight))
        runs.append(train_toy(tmp_path / weight / "run", method=file, settings={"steps": 1}).run)
    predictor = Predictor(runs, device="cpu")
    assert [member.method.config.weight for member in predictor.members] == [1.0, 3.0]


def test_the_command_line_runs_a_file_by_its_path_and_its_copy_only_with_trust(toy_data, toy_cache, tmp_path):
    """In processes of their own; the working folder of the second holds a trap of the method's name."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "own_method.py").write_text(SOURCE + "# by the command line\n")
    small = {**TINY, "steps": 1, "net": {"filters": 2, "levels": 2}, "method": {}}
    config = tmp_path / "tiny.toml"
    config.write_text("\n".join(f"{key} = {json.dumps(value)}" for key, value in small.items() if value != {}
                                and not isinstance(value, dict)) + "\n[net]\nfilters = 2\nlevels = 2\n")  # fmt: skip
    words = ["train", toy_data, "--method", "mine/own_method.py", "--config", config, "-o", "run", "--device", "cpu"]
    assert semivox(tmp_path, *words, "--cache", toy_cache) == (0, "")
    (tmp_path / "mine" / "own_method.py").unlink()
    trap = tmp_path / "elsewhere"
    trap.mkdir()
    (trap / "own_method.py").write_text("raise AssertionError('a trap')\n")
    (tmp_path / "run").rename(trap / "run")
    scan = toy_data / "imagesTr" / "case_04_0000.nii.gz"
    code, err = semivox(trap, "predict", "run", scan, "-o", "masks", "--device", "cpu")
    assert code == 2
    assert err.count("\n") == 1
    assert "would run the program run/method.py (SHA-256" in err
    assert semivox(trap, "predict", "run", scan, "-o", "masks", "--device", "cpu", "--trust")[0] == 0
    assert (trap / "masks" / "case_04.nii.gz").exists()


def semivox(folder, *words):
    """Run a command line as it is installed: (exit code, errors), without what tells of progress."""
    command = [Path(sys.executable).with_name("semivox"), *map(str, words)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    return done.returncode, "" if done.returncode == 0 else done.stderr


def test_a_loaded_file_needs_no_word_since_this_process_runs_it_already(run, trained):
    load_own(own_method(str(trained / "own_method.py")))
    assert Predictor(run, device="cpu").step == 1
