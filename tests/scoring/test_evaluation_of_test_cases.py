"""Evaluation of cases of imagesTs, whose labels lie in labelsTs: the data set's folder has them, as does the report."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from semivox.data.splitting import Split
from semivox.errors import DatasetError
from semivox.reporting.gallery import gallery
from semivox.scoring.evaluation import evaluate_masks
from semivox.scoring.likeness import group_scores
from semivox.scoring.scores import read_scores

CUBE = np.zeros((8, 8, 4), np.uint8)
CUBE[2:5, 2:5, 1:3] = 1


def save(path: Path, array: np.ndarray = CUBE) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    nib.save(nib.Nifti1Image(array, np.eye(4)), path)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A data set with a case of the pool, a test case, and one that both label folders name."""
    folder = tmp_path / "data"
    for name in ("labelsTr/pool", "labelsTs/test", "labelsTr/both", "imagesTs/test_0000"):
        save(folder / f"{name}.nii.gz")
    save(folder / "labelsTs" / "both.nii.gz", np.zeros_like(CUBE))
    told = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "organ": 1}, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(told))
    for name in ("pool", "test", "both"):
        save(tmp_path / "masks" / f"{name}.nii.gz")
    return folder


def test_a_split_that_holds_out_test_cases_is_evaluated_through_the_data_sets_folder(data, tmp_path):
    held_out = Split(labelled=("a",), unlabelled=(), held_out=("pool", "test", "both"))
    rows = evaluate_masks(tmp_path / "masks", data, tmp_path / "scores.csv", cases=held_out)
    assert [(row["case"], row["dice"]) for row in rows] == [("pool", 1), ("test", 1), ("both", 1)], (
        "labelsTr goes first"
    )
    assert json.loads((tmp_path / "scores.json").read_text())["found"] == {"masks": 3, "labels": 3}
    with pytest.raises(DatasetError, match="found no label of test"):
        evaluate_masks(tmp_path / "masks", data / "labelsTr", tmp_path / "scores.csv", cases=held_out)


def test_the_report_finds_the_labels_of_test_cases(data, tmp_path):
    evaluate_masks(tmp_path / "masks", data, tmp_path / "scores.csv", cases=["test"])
    pictures = list(gallery(group_scores([read_scores(tmp_path / "scores.csv")])[0], "dice", data / "imagesTs"))
    assert [picture.missing for picture in pictures] == [""] * len(pictures)
    assert pictures


def test_a_label_of_a_test_case_is_none_of_an_unlabelled_scan_of_that_name(data, tmp_path):
    save(data / "imagesTr" / "test_0000.nii.gz")
    with pytest.raises(DatasetError, match="found no label of test"):
        evaluate_masks(tmp_path / "masks", data, tmp_path / "scores.csv", cases=["test"])
