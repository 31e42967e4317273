"""Which files are masks of which labels, by odd names: by-products of predict, and names that are no UTF-8."""

import csv
import json
import os
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from semivox.errors import DatasetError
from semivox.scoring.evaluation import evaluate_masks

FOREIGN = os.fsdecode(b"caf\xe9")


@pytest.fixture(name="data")
def _data(tmp_path):
    """A data set of one class with a folder of masks beside it, both empty."""
    for folder in ("labelsTr", "masks"):
        (tmp_path / folder).mkdir()
    description = {"channel_names": {"0": "MRI"}, "labels": {"background": 0, "liver": 1}, "file_ending": ".nii.gz"}
    (tmp_path / "dataset.json").write_text(json.dumps(description))
    return tmp_path


def save(data: Path, folder: str, *names: str) -> None:
    box = np.zeros((5, 5, 5), np.uint8)
    box[1:3, 1:3, 1:3] = 1
    for name in names:
        nib.save(nib.Nifti1Image(box, np.eye(4)), data / folder / f"{name}.nii.gz")


def scored(data: Path, **options: object) -> list[str]:
    evaluate_masks(data / "masks", data / "labelsTr", data / "scores.csv", **options)
    with (data / "scores.csv").open(newline="", encoding="utf-8") as file:
        return [row["case"] for row in csv.DictReader(file)]


def test_a_case_that_is_named_like_a_by_product_is_scored_and_by_products_are_not(data):
    save(data, "labelsTr", "a", "b_probabilities", "c_uncertainty")
    save(data, "masks", "a", "a_probabilities", "a_uncertainty", "b_probabilities", "c_uncertainty")
    assert scored(data) == ["a", "b_probabilities", "c_uncertainty"]
    assert json.loads((data / "scores.json").read_text())["found"] == {"masks": 3, "labels": 3}


@pytest.mark.parametrize("options", [{}, {"cases": [FOREIGN]}, {"cases": ["a", FOREIGN]}])
def test_a_name_that_is_not_utf_8_is_refused_before_anything_is_scored(data, options):
    save(data, "labelsTr", "a", FOREIGN)
    save(data, "masks", "a", FOREIGN)
    done = []
    with pytest.raises(DatasetError, match=r"'caf\\udce9\.nii\.gz', whose name is not UTF-8") as refused:
        scored(data, on_case=lambda case, *_: done.append(case), **options)
    assert str(refused.value).isprintable(), "a terminal can show it"
    assert not done
    assert not (data / "scores.csv").exists()


def test_a_name_that_is_not_utf_8_is_no_matter_where_it_is_not_scored(data):
    save(data, "labelsTr", "a", FOREIGN)
    save(data, "masks", "a")
    assert scored(data) == ["a"]
    save(data, "masks", FOREIGN)
    assert scored(data, cases=["a"]) == ["a"]
