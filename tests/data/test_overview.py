"""What is seen of a data set: counts by folder or split, spacing and shape with their range, and no fault stops it."""

from semivox.data.dataset import read_dataset
from semivox.data.overview import overview
from semivox.data.splitting import Split
from toy_pictures import write_toy_pictures
from toys import write_toy_dataset


def seen(folder, split=None):
    dataset = read_dataset(folder)
    return overview(dataset, split, dataset.cases.values())


def test_scans_that_are_alike_are_told_once(tmp_path):
    facts = seen(write_toy_dataset(tmp_path / "data", cases=5, unlabelled=2, channels=2, classes=3))
    assert facts == {
        "data": f"{tmp_path / 'data'} (toy)",
        "scans": "5: 3 labelled, 2 unlabelled",
        "channels": "MR_0, MR_1",
        "classes": "background, blob_1, blob_2",
        "spacing": "1 x 1 x 2 mm",
        "shape": "20 x 18 x 12",
    }


def test_lengths_that_differ_are_told_with_median_and_range_and_a_broken_header_is_left_out(tmp_path):
    data = write_toy_dataset(tmp_path / "data", cases=2, unlabelled=1)
    write_toy_dataset(tmp_path / "other", cases=4, unlabelled=1, shape=(30, 30, 6), spacing=(0.5, 0.5, 4))
    for index in (2, 3):
        name = f"case_0{index}_0000.nii.gz"
        (tmp_path / "other" / "imagesTr" / name).rename(data / "imagesTr" / name)
    (data / "imagesTr" / "case_03_0000.nii.gz").write_bytes(b"no image")
    facts = seen(data, Split(("case_00",), ("case_01", "case_03"), ("case_02",)))
    assert facts["scans"] == "4: 1 labelled, 2 unlabelled, 1 held out"
    assert facts["spacing"] == "1 x 1 x 2 mm (median), from 0.5 x 0.5 x 2 to 1 x 1 x 4"
    assert facts["shape"] == "20 x 18 x 12 (median), from 20 x 18 x 6 to 30 x 30 x 12"


def test_pictures_have_no_spacing(tmp_path):
    facts = seen(write_toy_pictures(tmp_path / "data"))
    assert "spacing" not in facts
    assert facts["shape"]
