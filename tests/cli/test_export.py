"""``semivox export`` as a person gives it: what it says, and what it refuses in one line, with nothing left behind."""

import json
from pathlib import Path

import pytest

import thresholding
from reviewing_folders import write_review
from semivox import make_split, predict, read_dataset, write_split
from toys import write_toy_dataset

DESCRIBED = {"channels": ("MR_0",), "classes": ("background", "blob_1")}


@pytest.fixture
def place(tmp_path) -> Path:
    """A data set, a run with a method of one's own, and masks of the unlabelled scans."""
    data = write_toy_dataset(tmp_path / "data", cases=5, shape=(9, 8, 6))
    run = thresholding.write_run(tmp_path / "run", **DESCRIBED)
    write_split(make_split(read_dataset(data), labelled=2, held_out=1), run / "split.json")
    predict(run, [data / f"imagesTr/case_0{number}_0000.nii.gz" for number in (3, 4)], output=tmp_path / "masks")
    return tmp_path


def test_a_net_is_written_and_its_folder_is_said(semivox, place):
    assert semivox("export", "run", "-o", "net", "--format", "torch", "--trust") == (0, "net\n", "")
    assert (place / "net/predict.py").exists()


def test_a_data_set_is_written_and_what_was_left_out_is_said(semivox, place):
    write_review(place / "review.json", place / "masks", {"case_03": "accept", "case_04": "reject"})
    words = ("export", "--format", "nnunet", "run", "data", "masks", "--review", "review.json", "-o", "set")
    code, out, err = semivox(*words)
    assert code == 0
    assert out == (
        "2 labels and 1 masks: set\n1 left out (case_02): held out; 1 left out (case_04): rejected\n"
    )
    assert "note: nnU-Net finds data sets by names such as Dataset501_NAME: rename set" in err
    assert (place / "set/labelsTr/case_03.nii.gz").exists()


WRONG = {
    "no such folder": (["rnu"], "did you mean 'run'?"),
    "wrong folder": (["data"], "data is no run folder: 'run.json' is missing"),
    "empty folder": (["empty"], "empty is no run folder"),
    "unfinished run": (["unfinished"], "unfinished is not at its end: found the weights of 3 of 7 steps"),
    "run without a checkpoint": (["begun"], "begun has no checkpoint yet"),
    "several runs": (["run", "unfinished"], "found 2 runs (run, unfinished), expected one"),
    "folds": (["folds"], "found 2 runs (folds/fold_0, folds/fold_1), expected one"),
    "pictures": (["pictures"], "pictures was trained on pictures, expected scans"),
    "method of one's own": (["run"], "give --trust"),
    "unknown format": (["run", "--format", "tensorrt"], "'tensorrt' is not one of 'onnx', 'torch', 'monai', 'nnunet'"),
    "review of a net": (["run", "--review", "empty"], "belong to --format nnunet, found --format onnx"),
    "one word": (["--format", "nnunet", "run"], "--format nnunet takes RUN DATA MASKS, found 1: run"),
    "unfinished run of masks": (["--format", "nnunet", "unfinished", "data", "masks"], "is not at its end"),
    "folder without a data set": (["--format", "nnunet", "run", "empty", "masks"], "dataset.json"),
    "empty folder of masks": (["--format", "nnunet", "run", "data", "empty"], "empty: found no mask in it"),
    "held-out masks alone": (["--format", "nnunet", "sealed", "data", "sealed_masks"], "found no case that may go in"),
    "another data set": (["--format", "nnunet", "other", "data", "masks"], "other was trained on classes"),
    "no such review": (["--format", "nnunet", "run", "data", "masks", "--review", "revue"], "there is no 'revue'"),
}


@pytest.mark.parametrize(("words", "message"), WRONG.values(), ids=WRONG)
def test_what_cannot_be_exported_is_told_in_one_line(words, message, semivox, place, monkeypatch):
    write_wrong(place)
    monkeypatch.setattr("semivox.runs.trust.loaded_own", lambda digest: None)  # as in a process of its own
    before = sorted(place.rglob("*"))
    code, out, err = semivox("export", *words, "-o", "there/out")
    assert (code, out, err.count("\n")) == (2, "", 1), err
    assert message in err
    assert sorted(place.rglob("*")) == before


def write_wrong(place: Path) -> None:
    """Write what the table names."""
    (place / "empty").mkdir()
    thresholding.write_run(place / "unfinished", step=3, **DESCRIBED)
    begun = thresholding.write_run(place / "begun", **DESCRIBED)
    next(begun.glob("checkpoints/*")).unlink()
    for fold in range(2):
        thresholding.write_run(place / f"folds/fold_{fold}", **DESCRIBED)
    (place / "folds/folds.json").write_text('{"folds": 2, "parts": [["case_00"], ["case_01"]]}')
    pictures = thresholding.write_run(place / "pictures", **DESCRIBED)
    facts = json.loads((pictures / "run.json").read_text())
    (pictures / "run.json").write_text(json.dumps(facts | {"pictures": True}))
    thresholding.write_run(place / "other", channels=("MR_0",))
    sealed = thresholding.write_run(place / "sealed", **DESCRIBED)
    (sealed / "split.json").write_text('{"labelled": ["gone"], "held_out": ["case_00"]}')
    (place / "sealed_masks").mkdir()
    (place / "sealed_masks/case_00.nii.gz").write_bytes((place / "masks/case_03.nii.gz").read_bytes())


def test_nothing_is_replaced(semivox, place):
    (place / "out").mkdir()
    (place / "out/mine.txt").write_text("kept")
    for words in (["run"], ["--format", "nnunet", "run", "data", "masks"]):
        code, _, err = semivox("export", *words, "-o", "out")
        assert code == 2
        assert "out is not empty, and nothing in it is replaced: name another folder with -o" in err
    assert [path.name for path in (place / "out").iterdir()] == ["mine.txt"]
