"""Scored on what it was trained on: a run's own scans, under their names and under others, are noticed by all verbs."""

import csv
import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from semivox import write_phantom

TINY = ["--set", "steps=2", "--set", "patch=[8,8,8]", "--set", "net.filters=2", "--set", "net.levels=2",
        "--set", "batch_labelled=1", "--set", "batch_unlabelled=1", "--device", "cpu"]  # fmt: skip


@pytest.fixture
def trained(semivox, tmp_path):
    """A run on 2 labelled, 2 unlabelled and 1 held-out phantom scan; returns the words of its scans' folder."""
    write_phantom(tmp_path / "data", labelled=2, unlabelled=2, held_out=1, shape=(12, 12, 8))
    split = ["split", "data", "--labelled", "2", "--held-out", "1", "-o", "split.json"]
    train = ["train", "data", "--split", "split.json", "--method", "mean_teacher", "-o", "run", *TINY]
    for words in (split, train):
        code, _, err = semivox(*words)
        assert code == 0, err
    split = json.loads(Path("split.json").read_text())
    for case in split["unlabelled"]:  # someone labels them later
        image = nib.load(f"data/imagesUn/{case}_0000.nii.gz")
        truth = np.zeros(image.shape, np.uint8)
        truth[4:8, 4:8, 2:6] = 1
        nib.save(nib.Nifti1Image(truth, image.affine), f"data/labelsTr/{case}.nii.gz")
    return split


def predict_and_evaluate(semivox, scans):
    code, _, notes = semivox("predict", "run", scans, "-o", "masks", "--device", "cpu")
    assert code == 0, notes
    code, out, err = semivox("evaluate", "masks", "data/labelsTr", "-o", "scores.csv")
    assert code == 0, err
    rows = csv.DictReader(Path("scores.csv").read_text().splitlines())
    return notes, out, {row["case"]: row["trained_on"] for row in rows}


def test_labelled_scans_of_training_are_in_no_mean_and_unlabelled_ones_are_marked(semivox, trained):
    notes, out, told = predict_and_evaluate(semivox, "data/imagesTr")
    labelled, pool, (held_out,) = trained["labelled"], trained["unlabelled"], trained["held_out"]
    assert f"2 of these scans were trained on ({', '.join(labelled)})" in notes
    expected = dict.fromkeys(labelled, "labelled") | {held_out: ""}
    assert {case: told[case] for case in expected} == expected
    assert f"trained on, and in no mean: {', '.join(labelled)}" in out
    summary = json.loads(Path("scores.json").read_text())
    assert summary["trained_on"]["names"] == labelled
    assert summary["mean"]["cases"] == len(told) - 2
    assert [case for case in told if told[case] == "unlabelled"] == summary["transductive"]
    code, _, err = semivox("report", "scores.csv", "-o", "report.html")
    assert code == 0, err
    page = Path("report.html").read_text()
    assert f"Trained on, and so in no mean: {', '.join(labelled)} of mean_teacher" in page
    assert not set(pool) & told.keys(), "the pool was not predicted here"


def test_unlabelled_scans_count_and_are_called_transductive(semivox, trained):
    notes, out, told = predict_and_evaluate(semivox, "data/imagesUn")
    pool = trained["unlabelled"]
    assert f"({', '.join(pool)}), without their labels" in notes
    assert {told[case] for case in pool} == {"unlabelled"}
    assert f"transductive, unlabelled in training and counted: {', '.join(pool)}" in out
    assert json.loads(Path("scores.json").read_text())["mean"]["cases"] == 2


def test_a_copy_under_another_name_is_known_by_its_content_and_a_namesake_is_not_it(semivox, trained):
    first, second = trained["labelled"]
    Path("scans").mkdir()
    scan = next(Path("data").glob(f"images*/{first}_0000.nii.gz"))
    held_out = next(Path("data").glob(f"images*/{trained['held_out'][0]}_0000.nii.gz"))
    shutil.copy(scan, "scans/copy_0000.nii.gz")
    shutil.copy(held_out, f"scans/{second}_0000.nii.gz")  # another hospital's scan of that name
    shutil.copy(f"data/labelsTr/{first}.nii.gz", "data/labelsTr/copy.nii.gz")
    shutil.copy(f"data/labelsTr/{trained['held_out'][0]}.nii.gz", f"data/labelsTr/{second}.nii.gz")
    notes, _, told = predict_and_evaluate(semivox, "scans")
    assert "1 of these scans were trained on (copy)" in notes
    assert told == {"copy": "labelled", second: ""}


def test_scores_of_nothing_but_training_are_refused_by_report(semivox, trained):
    Path("scans").mkdir()
    shutil.copy(next(Path("data").glob(f"images*/{trained['labelled'][0]}_0000.nii.gz")), "scans")
    _, out, _ = predict_and_evaluate(semivox, "scans")
    assert "no case counts: the run was trained on all of them" in out
    code, _, err = semivox("report", "scores.csv", "-o", "report.html")
    assert code == 2
    assert "holds only cases that its run was trained on" in err
