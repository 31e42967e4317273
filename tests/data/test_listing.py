"""Lists of data sets: `"training"` of dataset.json says which labels are used."""

import json
from pathlib import Path

import pytest

from semivox.data.checking import check_dataset
from semivox.data.dataset import read_dataset
from semivox.errors import DatasetError
from toys import write_toy_dataset


def listed(folder: Path, names: list[str] | object, **more: object) -> Path:
    """Write dataset.json anew with the list of the Decathlon."""
    description = json.loads((folder / "dataset.json").read_text())
    if isinstance(names, list) and all(isinstance(name, str) for name in names):
        names = [{"image": f"./imagesTr/{name}.nii.gz", "label": f"./labelsTr/{name}.nii.gz"} for name in names]
    (folder / "dataset.json").write_text(json.dumps({**description, "training": names, **more}))
    return folder


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_toy_dataset(tmp_path / "toy", cases=4, unlabelled=1, shape=(6, 5, 4))


def test_a_label_that_is_not_listed_is_not_used_and_that_is_said_once(folder):
    dataset = read_dataset(listed(folder, ["case_00"]))
    assert (dataset.labelled, dataset.unlisted) == (("case_00",), ("case_01", "case_02"))
    faults = check_dataset(folder)
    assert [(fault.severity, fault.found) for fault in faults] == [("warning", "2: case_01, case_02")]
    assert "labels are not used" in str(faults[0])


def test_a_folder_without_a_list_or_with_an_empty_one_uses_all_labels(folder):
    assert read_dataset(folder).labelled == ("case_00", "case_01", "case_02")
    assert read_dataset(listed(folder, [])).labelled == ("case_00", "case_01", "case_02")


def test_the_list_names_the_label_file_and_an_image_without_one_is_unlabelled(folder):
    (folder / "labelsTr/case_01.nii.gz").rename(folder / "labelsTr/drawn by ann.nii.gz")
    entries = [
        {"image": "imagesTr/case_01_0000.nii.gz", "label": "labelsTr/drawn by ann.nii.gz"}, {"image": "case_02.nii.gz"},
        "case_00.nii.gz", {"image": ["case_03_0000.nii.gz"], "label": None},
    ]  # fmt: skip
    dataset = read_dataset(listed(folder, entries))
    assert dataset.labelled == ("case_01",)
    assert dataset.case("case_01").label == folder / "labelsTr/drawn by ann.nii.gz"
    assert dataset.unlisted == ("case_00", "case_02")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["case_00", "case_00", "case_01"], "listed several times: found 1: case_00, expected each once"),
        (["case_00", "case_09", "case_08"], "listed, but not in imagesTr: found 2: case_09, case_08"),
        (["case_00", "case_03"], "listed with a label that is not in labelsTr: found 1: case_03"),
        ({"a": 1}, "'training': found "),
        ("all", "'training': found 'all'"),
        ([3], "'training': found (3, None)"),
        ([{"image": None}], "'training': found (None, None)"),
        ([{"image": "a", "label": 3}], "'training': found ('a', 3)"),
        ([{"image": []}], "'training': found "),
        ([[]], "'training': found "),
    ],
)
def test_a_list_that_cannot_be_followed_is_refused_in_one_line(names, words, folder):
    with pytest.raises(DatasetError) as caught:
        read_dataset(listed(folder, names))
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len([fault for fault in check_dataset(folder) if "'training'" in fault.what]) >= 1
