"""Checking: every fault is found and named, all at once, and no file takes the check down."""

import json
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from semivox.data import checking
from semivox.data.checking import Fault, check_dataset, check_pool
from semivox.data.dataset import read_dataset
from semivox.data.splitting import Split, make_split
from toys import write_toy_dataset

SHAPE = (6, 5, 4)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four cases without fault, the last one unlabelled."""
    return write_toy_dataset(tmp_path / "toy", cases=4, unlabelled=1, shape=SHAPE)


def image(folder: Path, case: int = 0, channel: int = 0) -> Path:
    return folder / f"imagesTr/case_{case:02d}_{channel:04d}.nii.gz"


def label(folder: Path, case: int = 0) -> Path:
    return folder / f"labelsTr/case_{case:02d}.nii.gz"


def change(path: Path, *, values: object = None, affine: object = None) -> None:
    """Rewrite a file with other values (an array, or a function of the old ones) or another affine."""
    old = nib.load(path)
    array = np.asarray(old.dataobj)
    array = values(array) if callable(values) else array if values is None else np.asarray(values)
    nib.save(nib.Nifti1Image(array, old.affine if affine is None else affine(old.affine.copy())), path)


def only_fault(folder: Path, **arguments: object) -> Fault:
    """Return the one fault there is; it must say everything that a fault has to say."""
    faults = check_dataset(folder, **arguments)
    assert len(faults) == 1, [str(fault) for fault in faults]
    fault = faults[0]
    assert all([fault.case, fault.what, fault.found, fault.expected, fault.fix])
    assert "\n" not in str(fault)
    return fault


def moved(affine: np.ndarray) -> np.ndarray:
    affine[0, 3] += 0.5
    return affine


def coarser(affine: np.ndarray) -> np.ndarray:
    affine[:3, 2] *= 1.5
    return affine


def turned(affine: np.ndarray) -> np.ndarray:
    spin = np.eye(4)
    spin[:2, :2] = [[np.cos(0.1), -np.sin(0.1)], [np.sin(0.1), np.cos(0.1)]]
    return np.hstack([(spin @ affine)[:, :3], affine[:, 3:]])


def half(array: np.ndarray) -> np.ndarray:
    return array + np.float32(0.5)


def with_value(value: float):
    def changed(array: np.ndarray) -> np.ndarray:
        array = array.astype(np.int16 if float(value).is_integer() else np.float32)
        array[0, 0, 0] = value
        return array

    return changed


def test_a_folder_without_fault_has_none(folder):
    assert check_dataset(folder, split=make_split(read_dataset(folder), labelled=1, held_out=1), labelled=3) == []


@pytest.mark.parametrize("path", [image, label])
def test_a_truncated_file_is_found(path, folder):
    path(folder).write_bytes(path(folder).read_bytes()[:60])
    fault = only_fault(folder)
    assert (fault.severity, fault.case) == ("error", "case_00")
    assert fault.what == f"{path(folder).name} cannot be read"
    assert "unreadable or truncated" in fault.found


def test_a_file_that_is_no_image_is_found(folder):
    image(folder, 3).write_bytes(b"no image")
    assert only_fault(folder).case == "case_03"


@pytest.mark.parametrize(
    ("changes", "what"),
    [
        ({"values": np.zeros((6, 5, 3), np.uint8) + np.arange(3, dtype=np.uint8) % 2}, "shape"),
        ({"affine": coarser}, "spacing in mm"),
        ({"affine": moved}, "origin in mm"),
        ({"affine": turned}, "direction"),
    ],
)
def test_a_label_on_another_grid_than_its_image_is_found(changes, what, folder):
    change(label(folder, 1), **changes)
    fault = only_fault(folder)
    assert (fault.severity, fault.case, fault.what) == (
        "error", "case_01", f"{what} of the label differs from the image's",
    )  # fmt: skip
    assert fault.found != fault.expected


def test_a_label_that_is_stored_in_another_order_is_no_fault(folder):
    old = nib.load(label(folder))
    nib.save(old.as_reoriented([[2, -1], [0, 1], [1, -1]]), label(folder))
    assert check_dataset(folder) == []


def test_labels_outside_the_description_are_found(folder):
    change(label(folder), values=with_value(7))
    fault = only_fault(folder)
    assert (fault.severity, fault.found, fault.expected) == ("error", "[7]", "[0, 1]")


def test_the_ignore_value_is_no_label_outside_the_description(folder):
    description = json.loads((folder / "dataset.json").read_text())
    description["labels"]["ignore"] = 7
    (folder / "dataset.json").write_text(json.dumps(description))
    change(label(folder), values=with_value(7))
    assert check_dataset(folder) == []
    change(label(folder), values=lambda array: with_value(7)(array * 0))
    assert only_fault(folder).what == "label case_00.nii.gz is empty"


@pytest.mark.parametrize("value", [0.5, np.nan])
def test_labels_that_are_no_whole_numbers_are_found(value, folder):
    change(label(folder), values=with_value(value))
    fault = only_fault(folder)
    assert fault.what == "label case_00.nii.gz is not of whole numbers"
    assert fault.found == f"1 voxels such as {value}"


def test_whole_numbers_in_float_labels_are_no_fault(folder):
    change(label(folder), values=lambda array: array.astype(np.float32))
    assert check_dataset(folder) == []


def test_one_hot_labels_are_found(folder):
    change(label(folder), values=lambda array: np.stack([array, 1 - array], -1))
    assert "has channels: found 2, expected 1" in str(only_fault(folder))


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_found(value, folder):
    change(image(folder, 3), values=with_value(value))
    fault = only_fault(folder)
    assert (fault.severity, fault.case, fault.found) == ("error", "case_03", "1 NaN or inf")


@pytest.mark.parametrize("gone", [0, 1])
def test_a_missing_channel_is_found(gone, tmp_path):
    folder = write_toy_dataset(tmp_path, cases=2, unlabelled=0, channels=2, shape=SHAPE)
    image(folder, 1, gone).unlink()
    fault = only_fault(folder)
    assert (fault.case, fault.what, fault.found) == ("case_01", "missing channel", image(folder, 1, 1 - gone).name)
    assert "case_01_0000, case_01_0001" in fault.expected


def test_a_file_with_too_few_channels_is_found(tmp_path):
    folder = write_toy_dataset(tmp_path, cases=2, unlabelled=0, channels=2, shape=SHAPE)
    image(folder, 1, 0).rename(folder / "imagesTr/case_01.nii.gz")
    image(folder, 1, 1).unlink()
    assert "channels in case_01.nii.gz: found 1, expected 2" in str(only_fault(folder))


def test_a_channel_that_the_description_does_not_name_is_found(folder):
    nib.save(nib.Nifti1Image(np.arange(120, dtype=np.uint8).reshape(SHAPE), np.eye(4)), image(folder, 2, 1))
    assert only_fault(folder).what == "its name is that of one more channel of 'case_02'"


def test_two_files_for_one_case_are_found(folder):
    nib.save(nib.load(image(folder, 3)), folder / "imagesTr/case_03.nii")
    fault = only_fault(folder)
    assert (fault.what, fault.found) == ("too many files", "case_03.nii, case_03_0000.nii.gz")


def test_channels_on_different_grids_are_found(tmp_path):
    folder = write_toy_dataset(tmp_path, cases=1, unlabelled=0, channels=2, shape=SHAPE)
    change(image(folder, 0, 1), affine=moved)
    assert only_fault(folder).what == "origin in mm of case_00_0001.nii.gz differs from that of case_00_0000.nii.gz"


def copy_of_the_first(folder: Path, case: int) -> None:
    """Hide the copy behind another type, compression and order of axes."""
    old = nib.load(image(folder))
    change(image(folder), values=lambda array: np.rint(array))
    flipped = nib.Nifti1Image(np.rint(np.asarray(old.dataobj)).astype(np.int16), old.affine)
    nib.save(flipped.as_reoriented([[1, -1], [0, 1], [2, -1]]), image(folder, case))


def test_a_duplicate_scan_on_one_side_is_a_warning(folder):
    copy_of_the_first(folder, 3)
    fault = only_fault(folder, split=Split(("case_00",), ("case_03",), ("case_02",)))
    assert (fault.severity, fault.case, fault.found) == ("warning", "case_03", "the same voxels as 'case_00'")
    assert only_fault(folder).severity == "warning"


def test_a_duplicate_scan_across_the_sides_of_a_split_is_an_error(folder):
    copy_of_the_first(folder, 3)
    fault = only_fault(folder, split=Split(("case_01",), ("case_03",), ("case_00",)))
    assert (fault.severity, fault.case, fault.what) == ("error", "case_03", "duplicate scan")


def test_a_copy_of_a_test_scan_in_the_pool_is_an_error(folder):
    (folder / "imagesTs").mkdir()
    (folder / "imagesTs/other_0000.nii.gz").write_bytes(image(folder, 1).read_bytes())
    fault = only_fault(folder)
    assert (fault.severity, fault.case, fault.found) == ("error", "imagesTs/other", "the same voxels as 'case_01'")


def test_a_copy_in_the_further_folder_is_found(folder, tmp_path):
    (tmp_path / "more").mkdir()
    (tmp_path / "more/scan.nii.gz").write_bytes(image(folder, 2).read_bytes())
    fault = only_fault(folder, split=Split(("case_00",), ("scan",), ("case_02",)), unlabelled=tmp_path / "more")
    assert (fault.severity, fault.case) == ("error", "scan")


def test_an_empty_label_is_a_warning(folder):
    change(label(folder), values=np.zeros(SHAPE, np.uint8))
    fault = only_fault(folder)
    assert (fault.severity, fault.what) == ("warning", "label case_00.nii.gz is empty")


def test_an_affine_far_from_orthogonal_is_a_warning(folder):
    def skewed(affine: np.ndarray) -> np.ndarray:
        affine[0, 1] += 0.05
        return affine

    change(image(folder, 3), affine=skewed)
    fault = only_fault(folder)
    assert (fault.severity, fault.found) == ("warning", "a cosine of 0.050")


def test_a_folder_without_images_is_found(folder):
    for path in [*(folder / "imagesTr").iterdir(), *(folder / "labelsTr").iterdir()]:
        path.unlink()
    fault = only_fault(folder)
    assert (fault.severity, fault.what, fault.case) == ("error", "zero images", str(folder / "imagesTr"))


def test_fewer_labelled_cases_than_asked_are_found(folder):
    fault = only_fault(folder, labelled=4)
    assert (fault.severity, fault.found, fault.expected) == ("error", "3", "at least 4")


def test_a_label_without_image_is_found(folder):
    label(folder).rename(folder / "labelsTr/somebody.nii.gz")
    fault = only_fault(folder)
    assert (fault.severity, fault.case, fault.what) == (
        "error", "somebody", "label without image: somebody.nii.gz",
    )  # fmt: skip


def test_a_split_that_does_not_fit_is_found(folder):
    assert only_fault(folder, split=Split(("case_00", "case_03"))).case == "case_03"


def test_a_missing_description_does_not_hide_the_faults_of_scans(folder):
    (folder / "dataset.json").unlink()
    image(folder, 1).write_bytes(b"no image")
    assert {fault.case for fault in check_dataset(folder)} == {str(folder / "dataset.json"), "case_01"}


def test_everything_is_found_at_once_errors_first(folder):
    change(label(folder, 0), values=np.zeros(SHAPE, np.uint8))
    change(label(folder, 1), values=with_value(9), affine=moved)
    label(folder, 2).write_bytes(b"no image")
    change(image(folder, 3), values=with_value(np.nan))
    faults = check_dataset(folder, labelled=5)
    assert [fault.severity for fault in faults] == ["error"] * 5 + ["warning"]
    assert sorted(fault.case for fault in faults) == ["case_00", "case_01", "case_01", "case_02", "case_03", "toy"]


def test_whatever_goes_wrong_with_one_case_the_others_are_checked(folder, monkeypatch):
    change(label(folder, 2), values=with_value(9))

    def broken(array: np.ndarray) -> str:
        raise ZeroDivisionError("a defect of our own")

    monkeypatch.setattr(checking, "content_hash", broken)
    faults = check_dataset(folder)
    assert [fault.found for fault in faults] == ["a defect of our own"] * 4


def test_training_checks_its_pool_and_opens_nothing_else(folder):
    split = Split(("case_00",), ("case_01", "case_03"), ("case_02",))
    for path in (image(folder, 2), label(folder, 2), label(folder, 1)):
        path.write_bytes(b"no image")
    dataset = read_dataset(folder)
    assert check_pool(dataset, split) == []
    change(label(folder, 0), affine=moved)
    change(image(folder, 1), values=lambda array: np.stack([array, array], -1))
    image(folder, 3).write_bytes(b"no image")
    faults = check_pool(dataset, split)
    assert [(fault.case, fault.what) for fault in faults] == [
        ("case_00", "origin in mm of the label differs from the image's"),
        ("case_01", "channels in case_01_0000.nii.gz"),
        ("case_03", "case_03_0000.nii.gz cannot be read"),
    ]


def test_progress_is_told_of_every_case(folder):
    told = []
    check_dataset(folder, progress=lambda *call: told.append(call))
    assert told == [(f"case_{index:02d}", index, 4) for index in range(4)]
