"""DICOM is no data set, and said so with the way out, wherever it is given."""

from pathlib import Path

import pytest

from semivox.data.checking import check_dataset
from semivox.data.dataset import list_scans, read_dataset
from semivox.data.dicom import first_dicom
from semivox.errors import DatasetError
from toys import write_toy_dataset

DICOM = bytes(128) + b"DICM" + bytes(50)


def series(folder: Path, kind: str) -> Path:
    """Make a folder of a series, as scanners and archives name their files."""
    folder.mkdir(parents=True)
    names = {
        "ending": "1.dcm",
        "magic": "IM000001",
        "uid": "1.2.840.113619.2",
        "siemens": "scan.IMA",
        "index": "DICOMDIR",
    }
    (folder / names[kind]).write_bytes(b"" if kind in ("ending", "siemens", "index") else DICOM)
    return folder


@pytest.mark.parametrize("kind", ["ending", "magic", "uid", "siemens", "index"])
def test_a_folder_of_dicom_is_told_how_to_convert_wherever_it_is_given(kind, tmp_path):
    patients = tmp_path / "all of them"
    series(patients / "ann" / "t1", kind)
    with pytest.raises(DatasetError) as data:
        read_dataset(patients)
    toy = write_toy_dataset(tmp_path / "toy", cases=2, unlabelled=0, shape=(6, 5, 4))
    with pytest.raises(DatasetError) as unlabelled:
        read_dataset(toy, unlabelled=patients)
    with pytest.raises(DatasetError) as scans:
        list_scans([patients], 1)
    with pytest.raises(DatasetError) as file:
        list_scans([*(patients / "ann" / "t1").iterdir()], 1)
    for caught in (data, unlabelled, scans, file):
        text = str(caught.value)
        assert "`semivox import '" in text
        assert "-o DATA`" in text
        assert "dataset.json" not in text
        assert "\n" not in text
    assert [fault.what for fault in check_dataset(patients)] == ["DICOM files but no scan"]


def test_dicom_in_images_tr_is_named_beside_what_else_is_wrong(tmp_path):
    toy = write_toy_dataset(tmp_path / "toy", cases=1, unlabelled=0, shape=(6, 5, 4))
    (toy / "imagesTr/case_00_0000.nii.gz").unlink()
    series(toy / "imagesTr/case_00", "ending")
    assert {fault.what for fault in check_dataset(toy)} == {
        "DICOM files but no scan", "label without image: case_00.nii.gz"
    }  # fmt: skip


def test_other_files_are_no_dicom(tmp_path):
    (tmp_path / "README").write_text("DICM")
    (tmp_path / "notes.txt").write_bytes(DICOM)
    assert first_dicom(tmp_path) is None
    assert first_dicom(tmp_path / "nothing") is None
