"""Data sets of nnU-Net from labels and accepted masks: what goes in, what stays out, and how it is written."""

import csv
import json
import shutil
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from numpy.testing import assert_allclose, assert_array_equal

import thresholding
from reviewing_folders import write_review
from scans import affine_of, save
from semivox import export_dataset, make_split, predict, read_dataset, write_split
from semivox.errors import DatasetError, GeometryError
from toys import write_toy_dataset

NAMES = [f"case_{number:02d}" for number in range(8)]


@pytest.fixture
def place(tmp_path) -> Path:
    """A data set of eight cases: 00 and 01 labelled, 03 and 04 held out, the rest unlabelled; a run, masks of all."""
    data = write_toy_dataset(tmp_path / "data", cases=8, unlabelled=3, shape=(9, 8, 6))
    run = thresholding.write_run(
        tmp_path / "run", channels=("MR_0",), classes=("background", "blob_1"), fields={"threshold": 120.0}
    )
    write_split(make_split(read_dataset(data), labelled=2, held_out=NAMES[3:5]), run / "split.json")
    predict(run, data / "imagesTr", output=tmp_path / "masks", device="cpu")
    return tmp_path


def export(place: Path, **others: Any) -> Any:
    return export_dataset(place / "run", place / "data", place / "masks", output=place / "Dataset501_toy", **others)


def values(path: Path) -> np.ndarray:
    return np.asarray(nib.load(path).dataobj)


def test_labels_of_the_run_and_masks_of_the_others_go_in_and_held_out_scans_never(place):
    exported = export(place)
    assert exported.labels == ("case_00", "case_01")
    assert exported.masks == ("case_02", "case_05", "case_06", "case_07")
    assert exported.left_out == {"case_03": "held out", "case_04": "held out"}
    out, taken = exported.folder, sorted([*exported.labels, *exported.masks])
    assert sorted(path.name for path in (out / "imagesTr").iterdir()) == [f"{case}_0000.nii.gz" for case in taken]
    assert sorted(path.name for path in (out / "labelsTr").iterdir()) == [f"{case}.nii.gz" for case in taken]
    for case in taken:
        source = "data/labelsTr" if case in exported.labels else "masks"  # 02 has a label, which the run never read
        assert_array_equal(values(out / f"labelsTr/{case}.nii.gz"), values(place / source / f"{case}.nii.gz"))
        image = f"imagesTr/{case}_0000.nii.gz"
        assert_array_equal(values(out / image), values(place / "data" / image))
        assert_allclose(nib.load(out / image).affine, nib.load(place / "data" / image).affine)
    assert (values(out / "labelsTr/case_02.nii.gz") != values(place / "data/labelsTr/case_02.nii.gz")).any()
    assert json.loads((out / "dataset.json").read_text()) == {
        "name": "toy", "description": "2 labels and 4 masks, see cases.csv", "channel_names": {"0": "MR_0"},
        "labels": {"background": 0, "blob_1": 1}, "numTraining": 6, "file_ending": ".nii.gz",
    }  # fmt: skip
    with (out / "cases.csv").open() as file:
        rows = {row["case"]: row["rests_on"] or row["left_out"] for row in csv.DictReader(file)}
    assert list(rows.values()) == ["label", "label", "mask", "held out", "held out", "mask", "mask", "mask"]
    assert list(rows) == NAMES
    assert read_dataset(out).labelled == tuple(taken)


def test_with_a_review_only_accepted_masks_go_in(place):
    said = {"case_02": "accept", "case_03": "accept", "case_05": "correct", "case_06": "reject"}
    exported = export(place, review=write_review(place / "review.json", place / "masks", said))
    assert exported.masks == ("case_02",)
    assert exported.left_out == {
        "case_03": "held out", "case_04": "held out", "case_05": "to be corrected", "case_06": "rejected",
        "case_07": "not reviewed",
    }  # fmt: skip


def test_a_review_of_other_masks_is_refused(place):
    review = write_review(place / "review.json", place / "masks", {"case_05": "accept"})
    shutil.copy(place / "masks/case_06.nii.gz", place / "masks/case_05.nii.gz")
    with pytest.raises(DatasetError, match="found another mask of 'case_05' than"):
        export(place, review=review)
    assert not list(place.glob("*Dataset501*"))


def test_a_copy_of_a_held_out_scan_stays_out(place):
    shutil.copy(place / "data/imagesTr/case_03_0000.nii.gz", place / "data/imagesTr/case_06_0000.nii.gz")
    exported = export(place)
    assert exported.left_out["case_06"] == "a copy of a held-out scan"
    assert not list(exported.folder.rglob("case_06*"))


def test_a_scan_of_a_held_out_patient_stays_out(place):
    split = json.loads((place / "run/split.json").read_text())
    for case in ("case_03", "case_05"):  # two scans of one patient
        for path in place.rglob(f"{case}*"):
            path.rename(path.with_name(path.name.replace(case, f"twice_{case[-1]}")))
    split = {**split, "patients": r"^case_\d+|^twice", "held_out": ["case_04", "twice_3"], "hashes": {}}
    split["unlabelled"].remove("case_05")
    (place / "run/split.json").write_text(json.dumps(split))
    assert export(place).left_out == {
        "case_04": "held out", "twice_3": "held out", "twice_5": "of a held-out patient",
    }  # fmt: skip


def test_classes_are_numbered_and_what_is_to_be_ignored_comes_last(tmp_path):
    data = write_toy_dataset(tmp_path / "data", cases=4, unlabelled=1, shape=(9, 8, 6))
    for path in (data / "labelsTr").iterdir():
        label = values(path) * 7
        label[0, 0, 0] = 3
        save(label, path, affine_of((1, 1, 2)), code="LPS")
    for path in (data / "imagesTr").iterdir():
        save(values(path) * 1.5, path, affine_of((1, 1, 2)), code="LPS")
    description = json.loads((data / "dataset.json").read_text())
    description["labels"] = {"background": 0, "blob_1": 7, "ignore": 3}
    (data / "dataset.json").write_text(json.dumps(description))
    run = thresholding.write_run(
        tmp_path / "run", channels=("MR_0",), classes=("background", "blob_1"), label_values=(0, 7)
    )
    write_split(make_split(read_dataset(data), labelled=2, held_out=1), run / "split.json")
    predict(run, data / "imagesTr", output=tmp_path / "masks", device="cpu")
    out = export(tmp_path).folder
    assert json.loads((out / "dataset.json").read_text())["labels"] == {"background": 0, "blob_1": 1, "ignore": 2}
    before, after = values(data / "labelsTr/case_00.nii.gz"), values(out / "labelsTr/case_00.nii.gz")
    assert_array_equal(after, np.select([before == 7, before == 3], [1, 2], 0))
    assert_array_equal(values(out / "labelsTr/case_03.nii.gz"), values(tmp_path / "masks/case_03.nii.gz") // 7)
    images = [nib.load(folder / "imagesTr/case_00_0000.nii.gz") for folder in (data, out)]
    assert nib.aff2axcodes(images[1].affine) == tuple("LPS")
    assert_allclose(np.asarray(images[1].dataobj), np.asarray(images[0].dataobj))


def test_any_format_becomes_a_file_for_each_channel_without_what_headers_say(tmp_path):
    data = write_toy_dataset(tmp_path / "data", cases=4, unlabelled=1, shape=(9, 8, 6), channels=2)
    first = [data / f"imagesTr/case_03_{channel:04d}.nii.gz" for channel in range(2)]
    stack = np.stack([np.rint(values(path)) for path in first], axis=-1).astype(np.int16)
    nib.save(nib.Nifti1Image(stack, nib.load(first[0]).affine), data / "imagesTr/case_03.nii.gz")
    for path in first:
        path.unlink()
    for path in (data / "imagesTr").glob("case_02*"):
        SimpleITK.WriteImage(SimpleITK.ReadImage(str(path)), str(path).replace(".nii.gz", ".nrrd"))
        path.unlink()
    for path in (data / "imagesTr").glob("case_00*"):
        image = nib.load(path)
        image.header["descrip"] = b"Jane Doe"
        nib.save(nib.Nifti1Image(image.get_fdata(), image.affine, image.header), path)
    run = thresholding.write_run(tmp_path / "run", channels=("MR_0", "MR_1"), classes=("background", "blob_1"))
    write_split(make_split(read_dataset(data), labelled=1, held_out=["case_01"]), run / "split.json")
    predict(run, data / "imagesTr", output=tmp_path / "masks", device="cpu")
    exported = export(tmp_path)
    assert (exported.labels, exported.masks) == (("case_00",), ("case_02", "case_03"))
    for channel in range(2):
        written = nib.load(exported.folder / f"imagesTr/case_03_{channel:04d}.nii.gz")
        assert written.get_data_dtype() == np.int16
        assert_array_equal(np.asarray(written.dataobj), stack[..., channel])
    assert nib.load(exported.folder / "imagesTr/case_02_0001.nii.gz").shape == (9, 8, 6)
    assert nib.load(exported.folder / "imagesTr/case_00_0000.nii.gz").header["descrip"] == b""


def test_a_mask_of_another_grid_or_of_other_values_is_refused(place):
    affine = nib.load(place / "masks/case_05.nii.gz").affine
    nib.save(nib.Nifti1Image(np.full((9, 8, 6), 4, np.uint8), affine), place / "masks/case_05.nii.gz")
    with pytest.raises(DatasetError, match=r"case_05.nii.gz: found the values \[4\], expected some of \[0, 1\]"):
        export(place)
    nib.save(nib.Nifti1Image(np.zeros((9, 8, 5), np.uint8), affine), place / "masks/case_05.nii.gz")
    with pytest.raises(GeometryError, match=r"case_05.nii.gz: shape differs"):
        export(place)
    assert not list(place.glob("*Dataset501*"))
