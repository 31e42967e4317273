"""`train --start RUN`: which nets begin from another run's, what is refused, and that it is said and kept to."""

import json
import shutil

import pytest
import torch

from semivox.cli.main import main
from semivox.data.splitting import Split
from semivox.errors import RunError
from semivox.files import file_digest
from semivox.prediction.exposure import exposure_of
from semivox.runs.folder import open_run, read_checkpoint
from semivox.training.first_weights import FILE

SPLIT = Split(("case_00", "case_01"), ("case_03",), held_out=("case_02",))


@pytest.fixture(scope="module")
def trained(train_toy, tmp_path_factory):
    """A supervised run on two labelled scans, which holds out the third."""
    run = tmp_path_factory.mktemp("start") / "supervised"
    train_toy(run, method="supervised", split=SPLIT)
    return run


def weights(run):
    return read_checkpoint(open_run(run).latest())["method"]


def below(name, tensors):
    return {key.partition(".")[2]: value for key, value in tensors.items() if key.startswith(f"{name}.")}


def alike(mine, theirs):
    return mine.keys() == theirs.keys() and all(torch.allclose(mine[key], theirs[key], atol=1e-6) for key in mine)


def still(train_toy, run, trained, **words):
    fields = {"lr": 1e-12, "weight_decay": 0.0}
    return train_toy(run, start=trained, settings={"steps": 1}, fields=fields, split=SPLIT, **words)


def test_a_student_begins_from_the_other_runs_and_so_does_its_teacher(train_toy, trained, tmp_path):
    notes = []
    still(train_toy, tmp_path / "run", trained, method="mean_teacher", on_note=notes.append)
    theirs, mine = below("student", weights(trained)), weights(tmp_path / "run")
    assert alike(below("student", mine), theirs)
    assert alike(below("teacher", mine), theirs)
    assert f"student and teacher from its student begin from {trained}" in notes
    still(train_toy, tmp_path / "anew", None, method="mean_teacher")
    assert not alike(below("student", weights(tmp_path / "anew")), theirs), "else the test could not fail"


def test_of_two_peers_the_second_begins_anew(train_toy, trained, tmp_path):
    notes = []
    still(train_toy, tmp_path / "run", trained, method="cps", on_note=notes.append)
    theirs, mine = below("student", weights(trained)), weights(tmp_path / "run")
    assert alike(below("net_1", mine), theirs)
    assert not alike(below("net_2", mine), theirs)
    assert f"net_1 from its student begins from {trained}; net_2 anew" in notes


def test_the_same_nets_go_over_one_by_one(train_toy, trained, tmp_path):
    train_toy(tmp_path / "cps", method="cps", split=SPLIT, settings={"steps": 2})
    still(train_toy, tmp_path / "run", tmp_path / "cps", method="cps")
    theirs, mine = weights(tmp_path / "cps"), weights(tmp_path / "run")
    assert all(alike(below(net, mine), below(net, theirs)) for net in ("net_1", "net_2"))


def test_run_json_says_where_the_run_came_from(train_toy, trained, tmp_path):
    train_toy(tmp_path / "run", start=trained, split=SPLIT, settings={"steps": 1})
    said = json.loads((tmp_path / "run/run.json").read_text())["start"]
    assert said["run"] == str(trained.resolve())
    assert said["weights"] == file_digest(open_run(trained).latest()), "as prediction.json calls these weights"
    assert said["kept"] == file_digest(tmp_path / "run" / FILE)
    assert (said["method"], said["labelled"], said["step"], said["steps"]) == ("supervised", 2, 7, 7)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"net": {"filters": 4}}, "net.filters = 2, found 4"),
        ({"net": {"levels": 3, "strides": [[2] * 3] * 2}}, "net.levels = 2, found 3"),
    ],
)
def test_another_net_is_refused_by_the_key_that_differs(train_toy, trained, tmp_path, settings, named):
    with pytest.raises(RunError, match=named):
        train_toy(tmp_path / "run", start=trained, split=SPLIT, settings=settings)
    assert not (tmp_path / "run").exists()


def test_another_number_of_decoders_is_refused(train_toy, trained, tmp_path):
    with pytest.raises(RunError, match=r"decoders.* is here, not in its student"):
        train_toy(tmp_path / "run", method="cct", start=trained, split=SPLIT)


def test_a_run_that_learned_from_what_is_held_out_is_refused_also_by_content(train_toy, trained, tmp_path):
    held = Split(("case_02",), ("case_03",), held_out=("case_00",))
    with pytest.raises(RunError, match=r"1 of the 1 cases that this split holds out \(case_00\)"):
        train_toy(tmp_path / "run", start=trained, split=held)
    content = open_run(trained).facts["scans"]["case_01"]
    renamed = Split(("case_02",), ("case_03",), held_out=("case_04",), hashes={"case_04": content})
    with pytest.raises(RunError, match="case_04"):
        train_toy(tmp_path / "run", start=trained, split=renamed)
    assert not (tmp_path / "run").exists()


def test_what_the_run_before_the_last_has_seen_is_not_forgotten(train_toy, trained, tmp_path):
    """A began on case_00 and case_01; B began from A on case_02 alone; C holds out case_00."""
    once = {"settings": {"steps": 1}}
    train_toy(tmp_path / "b", start=trained, split=Split(("case_02",), ("case_03",), held_out=("case_04",)), **once)
    assert exposure_of([open_run(tmp_path / "b")]).of("case_00") == "labelled"
    with pytest.raises(RunError, match="case_00"):
        train_toy(tmp_path / "c", start=tmp_path / "b", split=Split(("case_02",), ("case_03",), held_out=("case_00",)))


def test_a_run_goes_on_from_its_own_copy_and_from_no_other_start(train_toy, trained, tmp_path):
    run, begun = tmp_path / "run", tmp_path / "begun"
    shutil.copytree(trained, begun)
    words = {"method": "supervised", "split": SPLIT}
    train_toy(tmp_path / "whole", start=begun, **words)
    with pytest.raises(ZeroDivisionError):
        train_toy(run, start=begun, on_row=lambda row, total: row["total_step"] == 1 and 1 / 0, **words)
    assert open_run(run).latest() is None, "cut before the first checkpoint"
    with pytest.raises(RunError, match=f"was started from {begun}, found --start {trained}"):
        train_toy(run, start=trained, resume=True, **words)
    shutil.rmtree(begun)
    train_toy(run, resume=True, **words)
    mine, whole = weights(run), weights(tmp_path / "whole")
    assert all(torch.equal(mine[key], whole[key]) for key in whole)
    open_run(run).latest().unlink()
    (run / FILE).write_bytes(b"other weights")
    with pytest.raises(RunError, match=r"start\.pt: found .*, expected the weights that the run began from"):
        train_toy(run, resume=True, **words)


def test_a_damaged_checkpoint_runs_no_program(trained, train_toy, tmp_path):
    shutil.copytree(trained, tmp_path / "evil")
    marker = tmp_path / "ran"

    class Evil:
        def __reduce__(self):
            return open, (str(marker), "w")

    torch.save({"method": {"student.weight": Evil()}}, open_run(tmp_path / "evil").latest())
    with pytest.raises(RunError, match="cannot be read"):
        train_toy(tmp_path / "run", start=tmp_path / "evil", split=SPLIT)
    assert not marker.exists()


def test_the_verb_takes_net_and_grid_of_the_run(trained, toy_data, toy_cache, tmp_path, monkeypatch, capsys):
    words = ["train", toy_data, "--start", trained, "-o", tmp_path / "run", "--cache", toy_cache, "--device", "cpu",
             "--set", "steps=1"]  # fmt: skip
    monkeypatch.setattr("sys.argv", ["semivox", *map(str, words)])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 0, capsys.readouterr().err
    config, theirs = open_run(tmp_path / "run").config, open_run(trained).config
    assert (config.net, config.patch, config.spacing) == (theirs.net, theirs.patch, theirs.spacing)
    monkeypatch.setattr("sys.argv", ["semivox", *map(str, words[:5]), str(tmp_path / "b"), "--set", "net.filters=3"])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code == 2
    assert "net.filters = 2, found 3 here" in capsys.readouterr().err
    assert not (tmp_path / "b").exists()
