"""A folder of scans and a folder of labels become a data folder."""

import json
import shutil

import nibabel as nib
import numpy as np
import pytest

from semivox.data.checking import check_dataset
from semivox.data.dataset import read_dataset
from semivox.data.gathering import gather
from semivox.errors import DatasetError
from toys import write_toy_dataset


@pytest.fixture
def loose(tmp_path):
    """Four scans in one folder, two labels of three classes in another."""
    made = write_toy_dataset(tmp_path / "made", cases=4, classes=3, shape=(10, 9, 8))
    shutil.move(made / "imagesTr", tmp_path / "scans")
    shutil.move(made / "labelsTr", tmp_path / "labels")
    return tmp_path


def test_scans_and_labels_are_paired_by_name_and_classes_are_read(loose):
    folder = gather(loose / "scans", loose / "labels", loose / "data")
    dataset = read_dataset(folder)
    assert dataset.labelled == ("case_00", "case_01")
    assert sorted(dataset.cases) == ["case_00", "case_01", "case_02", "case_03"]
    assert dataset.classes == ("background", "class_1", "class_2")
    assert not [fault for fault in check_dataset(folder) if fault.severity == "error"]
    assert gather("gone", "gone", folder) == folder, "what is made stays"


def test_names_with_channel_numbers_are_channels_of_one_scan(tmp_path):
    made = write_toy_dataset(tmp_path / "made", cases=3, channels=2, shape=(10, 9, 8))
    dataset = read_dataset(gather(made / "imagesTr", made / "labelsTr", tmp_path / "data"))
    assert len(dataset.channels) == 2
    assert [len(case.images) for case in dataset.cases.values()] == [2, 2, 2]


def test_a_label_may_carry_the_number_of_a_channel_as_its_scan_does(loose):
    (loose / "labels" / "case_00.nii.gz").rename(loose / "labels" / "case_00_0000.nii.gz")
    assert read_dataset(gather(loose / "scans", loose / "labels", loose / "data")).labelled == ("case_00", "case_01")


def test_links_of_a_process_that_was_killed_are_made_anew(loose):
    gather(loose / "scans", loose / "labels", loose / "data")
    (loose / "data" / "dataset.json").unlink()
    gather(loose / "scans", loose / "labels", loose / "data")
    assert json.loads((loose / "data" / "dataset.json").read_text())["numTraining"] == 2


def test_a_label_without_a_scan_is_named_with_the_nearest(loose):
    nib.save(nib.Nifti1Image(np.zeros((4, 4, 4), np.uint8), np.eye(4)), loose / "labels" / "case_0.nii.gz")
    with pytest.raises(DatasetError, match=r"no scan 'case_0' in .*did you mean 'case_0"):
        gather(loose / "scans", loose / "labels", loose / "data")
    assert not (loose / "data").exists()


def test_folders_without_scans_or_labels_are_refused(loose):
    (loose / "empty").mkdir()
    with pytest.raises(DatasetError, match=r"found 4 scans .* and 0 labels"):
        gather(loose / "scans", loose / "empty", loose / "data")
    with pytest.raises(DatasetError, match="nothing"):
        gather(loose / "gone", loose / "labels", loose / "data")
