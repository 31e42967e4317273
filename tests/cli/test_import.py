"""`semivox import`: series and segmentations of DICOM become a data set, or one clear line says why not."""

import gzip
import json
import os
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from pydicom.uid import EncapsulatedPDFStorage, RLELossless

from dicom_files import (
    OBLIQUE,
    ORIGIN,
    SECRETS,
    SPACING,
    THICKNESS,
    header,
    normal,
    write_multiframe,
    write_segmentation,
    write_series,
)
from semivox import check_dataset, import_dicom, read_dataset

SHAPE = (7, 6, 5)  # columns, rows, slices
REAL = Path(os.environ.get("SEMIVOX_DATA", "/nothing")) / "dicom"


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(0).integers(-900, 900, SHAPE).astype(np.int16)


def scan(folder: Path, case: str = "case_001") -> nib.Nifti1Image:
    return nib.load(folder / f"imagesTr/{case}_0000.nii.gz")


def test_slices_are_sorted_by_place_and_scaled_and_lie_where_their_headers_say(semivox, tmp_path, values):
    write_series(tmp_path / "tree/a", values, orientation=OBLIQUE, slope=2, intercept=-1024)
    code, out, _ = semivox("import", "tree", "-o", "data")
    assert (code, out.splitlines()[0]) == (0, "0 labelled, 1 unlabelled: data")
    image = scan(tmp_path / "data")
    assert image.get_data_dtype() == np.int16
    np.testing.assert_array_equal(np.asarray(image.dataobj), values.astype(int) * 2 - 1024)
    # by hand: the voxel of column 3, row 2, slice 4 in LPS, then in RAS
    lps = np.array(ORIGIN) + 3 * SPACING[1] * np.array(OBLIQUE[:3]) + 2 * SPACING[0] * np.array(OBLIQUE[3:])
    lps += 4 * THICKNESS * normal(OBLIQUE)
    np.testing.assert_allclose(image.affine @ [3, 2, 4, 1], [-lps[0], -lps[1], lps[2], 1], atol=1e-4)
    assert check_dataset("data") == []
    assert json.loads(Path("data/dataset.json").read_text())["channel_names"] == {"0": "CT"}


def test_itk_reads_the_same_volume(semivox, tmp_path, values):
    write_series(tmp_path / "tree", values, orientation=OBLIQUE, slope=0.5)
    assert semivox("import", "tree", "-o", "data")[0] == 0
    reader = SimpleITK.ImageSeriesReader()
    reader.SetFileNames(reader.GetGDCMSeriesFileNames("tree"))
    expected, image = reader.Execute(), scan(tmp_path / "data")
    np.testing.assert_array_equal(image.get_fdata(), SimpleITK.GetArrayFromImage(expected).T)
    for index in ((0, 0, 0), (6, 5, 4), (1, 4, 2)):
        x, y, z = expected.TransformIndexToPhysicalPoint(index)
        np.testing.assert_allclose((image.affine @ [*index, 1])[:3], [-x, -y, z], atol=1e-4)


def test_frames_of_one_file_and_packed_files_are_read_too(semivox, tmp_path, values):
    write_multiframe(tmp_path / "one", values, order=[3, 0, 4, 1, 2], slope=0.25)
    assert semivox("import", "one", "-o", "data")[0] == 0
    np.testing.assert_array_equal(scan(tmp_path / "data").get_fdata(), values * 0.25)
    np.testing.assert_allclose(scan(tmp_path / "data").affine[:3, 3], [-ORIGIN[0], -ORIGIN[1], ORIGIN[2]])
    for number, one in enumerate(write_series(tmp_path / "plain", values)):
        one.compress(RLELossless)
        Path("packed").mkdir(exist_ok=True)
        one.save_as(f"packed/{number}.dcm")
    assert semivox("import", "packed", "-o", "unpacked")[0] == 0
    np.testing.assert_array_equal(scan(tmp_path / "unpacked").get_fdata(), values)


def test_series_of_a_patient_share_a_number_that_split_keeps_together(semivox, tmp_path, values):
    for patient, place in (("p1", "a"), ("p1", "b"), ("p2", "c"), ("p3", "d")):
        write_series(tmp_path / "tree" / place, values, patient=patient)
    assert semivox("import", "tree", "-o", "data")[0] == 0
    names = list(read_dataset("data").cases)
    assert len(names) == 4
    assert sorted(len(name) for name in names) == [8, 8, 10, 10]
    assert semivox("import", "tree", "-o", "again")[0] == 0
    for name in names:
        assert (tmp_path / f"data/imagesTr/{name}_0000.nii.gz").read_bytes() == (
            tmp_path / f"again/imagesTr/{name}_0000.nii.gz"
        ).read_bytes()


@pytest.mark.parametrize("kind", ["BINARY", "LABELMAP"])
def test_segmentations_become_labels_in_the_grid_of_their_series(semivox, tmp_path, values, kind):
    sources = write_series(tmp_path / "tree/ct", values, orientation=OBLIQUE)
    write_series(tmp_path / "tree/other", values[::-1], patient="p2")
    label = np.zeros(SHAPE, np.uint8)
    label[2:5, 1:3, 2] = 1  # in one slice alone
    label[6, 5, 2:4] = 2
    write_segmentation(tmp_path / "tree/seg", sources, label, names=["liver", "tumour"], kind=kind)
    code, out, _ = semivox("import", "tree", "-o", "data")
    assert (code, out) == (0, "1 labelled, 1 unlabelled: data\n")
    (found,) = Path("data/labelsTr").iterdir()
    image = nib.load(found)
    np.testing.assert_array_equal(np.asarray(image.dataobj), label)
    np.testing.assert_array_equal(image.affine, scan(tmp_path / "data", found.name[:-7]).affine)
    described = json.loads(Path("data/dataset.json").read_text())
    assert described["labels"] == {"background": 0, "liver": 1, "tumour": 2}
    assert described["segment_codes"]["liver"]["type"] == ["10200004", "SCT", "Liver"]
    assert check_dataset("data") == []


def test_a_segmentation_of_one_slice_and_a_second_one_of_the_series_make_one_label(semivox, tmp_path, values):
    sources = write_series(tmp_path / "tree/ct", values)
    first, second = np.zeros((2, *SHAPE), np.uint8)
    first[1, 2, 3] = second[5:, 5:, :] = 1
    write_segmentation(tmp_path / "tree/seg", sources, first, names=["dot"])
    write_segmentation(tmp_path / "tree/seg", sources, second, names=["corner"])
    assert semivox("import", "tree", "-o", "data")[0] == 0
    names = json.loads(Path("data/dataset.json").read_text())["labels"]
    label = np.asarray(nib.load("data/labelsTr/case_001.nii.gz").dataobj)
    np.testing.assert_array_equal(label, first * names["dot"] + second * names["corner"])
    write_segmentation(tmp_path / "tree/seg", sources, first, names=["dot again"])
    code, _, err = semivox("import", "tree", "-o", "more")
    assert code == 2
    assert "overlap" in err
    assert not list(tmp_path.glob("*more*"))


def test_nothing_of_the_source_is_in_any_output(semivox, tmp_path, values):
    tree = tmp_path / "Doe_Jane/20230405"
    sources = write_series(tree / "ct", values)
    write_segmentation(tree, sources, (values > 0).astype(np.uint8), names=["liver"])
    assert semivox("import", str(tmp_path / "Doe_Jane"), "-o", "data")[0] == 0
    secrets = [*SECRETS.values(), "Doe", "Jane", "4711"]
    for one in sources:
        secrets += [one.SOPInstanceUID, one.SeriesInstanceUID, one.StudyInstanceUID, one.FrameOfReferenceUID]
    files = [path for path in Path("data").rglob("*") if path.is_file()]
    assert len(files) == 3
    for path in files:
        content = path.read_bytes()
        content += gzip.decompress(content) if path.suffix == ".gz" else b""
        assert [secret for secret in secrets if secret.encode() in content + str(path).encode()] == []
    assert semivox("import", str(tmp_path / "Doe_Jane"), "-o", "known", "--keep-identifiers")[0] == 0
    assert Path("known/identifiers.csv").read_text() == (
        f"case,SeriesInstanceUID\ncase_001,{sources[0].SeriesInstanceUID}\n"
    )


FAULTS = {
    "missing": ({"places": (0, 2, 4, 8, 10)}, "missing slices: found 1 missing"),
    "doubled": ({"places": (0, 2, 4, 4, 6)}, "doubled slices: found 1 of 5 slices in the place of another"),
    "uneven": ({"places": (0, 2, 3, 6, 7.3)}, "unevenly spaced slices: found 1 to 3 mm"),
    "tilted": ({"lean": 0.5}, "tilted slices: found a stack that leans by 14.0 degrees"),
    "not square": ({"orientation": (1, 0, 0, 0.3, 0.9, 0)}, "direction cosines: found"),
}


@pytest.mark.parametrize("kind", FAULTS)
def test_a_fault_of_geometry_is_one_line_and_leaves_nothing_behind(semivox, tmp_path, values, kind):
    given, told = FAULTS[kind]
    write_series(tmp_path / "tree/good", values, patient="p2")
    write_series(tmp_path / "tree/bad", values, **given)
    code, _, err = semivox("import", "tree", "-o", "data")
    assert code == 2
    assert told in err
    assert err.count("\n") == 1
    assert "tree/bad (series of " in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["tree"]


def test_slices_that_do_not_make_one_volume_are_refused(semivox, tmp_path, values):
    first, *_ = write_series(tmp_path / "turned", values)
    first.ImageOrientationPatient = list(OBLIQUE)
    first.save_as(tmp_path / "turned" / f"{first.InstanceNumber:03d}.dcm")
    wide = write_series(tmp_path / "wide", values)[2]
    wide.PixelSpacing = [1, 1]
    wide.save_as(tmp_path / "wide" / f"{wide.InstanceNumber:03d}.dcm")
    write_series(tmp_path / "cut", values)
    cut = tmp_path / "cut/001.dcm"
    cut.write_bytes(cut.read_bytes()[:-20])
    single = write_series(tmp_path / "single", values[..., :1])[0]
    single.SliceThickness = None
    single.save_as(tmp_path / "single/001.dcm")
    Path("empty").mkdir()
    for tree, told in (
        ("turned", "slices in several directions"), ("wide", "slices of several sizes"),
        ("cut", "pixels that cannot be read"), ("single", "one slice without a thickness"),
        ("empty", "found no DICOM file"),
    ):  # fmt: skip
        code, _, err = semivox("import", tree, "-o", "data")
        assert (code, told in err, err.count("semivox: ")) == (2, True, 1), (tree, err)
        assert not list(tmp_path.glob("*data*"))


def test_positions_rounded_to_hundredths_are_even(semivox, tmp_path, values):
    write_series(tmp_path / "tree", values, places=[round(0.625 * index, 2) for index in range(5)])
    assert semivox("import", "tree", "-o", "data")[0] == 0
    assert scan(tmp_path / "data").header.get_zooms()[2] == pytest.approx(0.625, abs=1e-6)


def test_what_is_no_scan_is_passed_over_and_said(semivox, tmp_path, values):
    write_series(tmp_path / "tree", values)
    for one in write_series(tmp_path / "tree/scout", values[..., :2], orientation=(0, 1, 0, 0, 0, -1)):
        one.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
        one.save_as(tmp_path / "tree/scout" / f"{one.InstanceNumber:03d}.dcm")
    header(EncapsulatedPDFStorage, modality="DOC").save_as(tmp_path / "tree/letter.dcm", enforce_file_format=True)
    Path("tree/notes.txt").write_text("liver")
    code, out, _ = semivox("import", "tree", "-o", "data")
    assert code == 0
    assert "passed over: 1 DOC objects without images, 2 localisers" in out


def test_several_modalities_and_segmentations_of_nothing_are_refused(semivox, tmp_path, values):
    sources = write_series(tmp_path / "tree/ct", values)
    write_series(tmp_path / "both/mr", values, modality="MR")
    write_series(tmp_path / "both/ct", values)
    code, _, err = semivox("import", "both", "-o", "data")
    assert code == 2
    assert "1 of MR" in err
    write_series(tmp_path / "stray/ct", values)
    write_segmentation(tmp_path / "stray", sources, (values > 0).astype(np.uint8), names=["liver"])
    code, _, err = semivox("import", "stray", "-o", "data")
    assert code == 2
    assert "a segmentation of 0 series of this folder" in err


def test_a_folder_that_holds_something_is_left_alone(semivox, tmp_path, values):
    write_series(tmp_path / "tree", values)
    Path("data").mkdir()
    Path("data/mine").write_text("kept")
    code, _, err = semivox("import", "tree", "-o", "data")
    assert code == 2
    assert "not empty" in err
    assert [path.name for path in Path("data").iterdir()] == ["mine"]


def test_without_the_packages_the_extra_is_named(semivox, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "highdicom", None)
    code, _, err = semivox("import", str(tmp_path), "-o", "data")
    assert code == 2
    assert "pip install 'semivox[dicom]'" in err


def test_a_class_that_only_some_segmentations_have_is_said(semivox, tmp_path, values):
    for patient, name in (("p1", "liver"), ("p2", "spleen")):
        sources = write_series(tmp_path / "tree" / patient, values, patient=patient)
        write_segmentation(tmp_path / "tree", sources, (values > 0).astype(np.uint8), names=[name])
    code, out, _ = semivox("import", "tree", "-o", "data")
    assert code == 0
    assert out.count(": taken as absent from the scan") == 2


@pytest.mark.data
@pytest.mark.skipif(not REAL.is_dir(), reason="SEMIVOX_DATA names no folder that holds 'dicom'")
def test_three_real_studies_are_read_as_itk_reads_them(tmp_path):
    made = import_dicom(REAL, output=tmp_path / "data", keep_identifiers=True)
    assert len(made.cases) == 4
    reader = SimpleITK.ImageSeriesReader()
    folders = {uid: place for place in REAL.rglob("*") if place.is_dir() for uid in reader.GetGDCMSeriesIDs(str(place))}
    for line in (tmp_path / "data/identifiers.csv").read_text().splitlines()[1:]:
        case, uid = line.split(",")
        reader.SetFileNames(reader.GetGDCMSeriesFileNames(str(folders[uid]), uid))
        expected, image = reader.Execute(), scan(tmp_path / "data", case)
        np.testing.assert_array_equal(image.get_fdata(), SimpleITK.GetArrayFromImage(expected).T)
        for index in ((0, 0, 0), tuple(size - 1 for size in expected.GetSize())):
            x, y, z = expected.TransformIndexToPhysicalPoint(index)
            np.testing.assert_allclose((image.affine @ [*index, 1])[:3], [-x, -y, z], atol=1e-2)
