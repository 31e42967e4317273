"""Evaluation of pictures: distances in pixels, one mIoU over all of them, ignored pixels left out."""

import json
import math
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
from PIL import Image

from semivox.errors import ConfigError, DatasetError
from semivox.scoring.evaluation import evaluate_masks
from semivox.scoring.metrics import score_masks
from semivox.scoring.summary import describe_evaluation

LABELS = {"sky": 0, "tree": 4, "car": 7, "boat": 9, "ignore": 255}
DIAGONAL = math.hypot(6, 9)


class Folders:
    """Index PNGs of six rows and nine columns, and masks of them."""

    def __init__(self, root: Path) -> None:
        self.data, self.masks, self.output = root / "data", root / "masks", root / "scores.csv"
        (self.data / "labelsTr").mkdir(parents=True)
        self.masks.mkdir()
        description = {"channel_names": {"0": "red", "1": "green", "2": "blue"}, "labels": LABELS}
        (self.data / "dataset.json").write_text(json.dumps(description))

    def add(self, case: str, truth: np.ndarray, mask: np.ndarray | None, *, ending: str = ".png") -> None:
        Image.fromarray(truth.astype(np.uint8)).convert("P").save(self.data / f"labelsTr/{case}{ending}")
        if mask is not None:
            Image.fromarray(mask.astype(np.uint8)).save(self.masks / f"{case}.png")

    def evaluate(self, **options: object) -> tuple[list[dict], dict]:
        rows = evaluate_masks(self.masks, self.data, self.output, **options)
        return rows, json.loads(self.output.with_suffix(".json").read_text())


@pytest.fixture(name="folders")
def _folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path)


def picture(*boxes: tuple[int, int, int, int, int]) -> np.ndarray:
    """Return a label of sky with boxes of (value, first row, last row, first column, last column)."""
    array = np.zeros((6, 9), int)
    for value, top, bottom, left, right in boxes:
        array[top:bottom, left:right] = value
    return array


def test_distances_are_in_pixels_of_the_outline_and_sizes_in_pixels(folders):
    truth, mask = picture((4, 0, 5, 0, 5)), picture((4, 0, 5, 1, 6))
    folders.add("a", truth, mask, ending=".tif")
    rows, summary = folders.evaluate()
    expected = score_masks(mask == 4, truth == 4, (1, 1))
    assert (rows[0]["hd95_pixel"], rows[0]["assd_pixel"]) == (expected.hd95, expected.assd)
    through_every_pixel = score_masks((mask == 4)[..., None], (truth == 4)[..., None], (1, 1, 1))
    assert rows[0]["assd_pixel"] > through_every_pixel.assd
    assert (rows[0]["truth_pixels"], rows[0]["predicted_pixels"], rows[0]["nsd_at_2pixel"]) == (25, 25, 1)
    assert summary["unit"] == "pixel"


def test_the_diagonal_of_a_missing_mask_is_that_of_a_plane(folders):
    folders.add("a", picture((4, 0, 2, 0, 2)), None)
    rows, _ = folders.evaluate(cases=["a"])
    assert rows[0]["hd95_pixel"] == pytest.approx(DIAGONAL)


def test_the_miou_is_of_one_confusion_matrix_and_not_a_mean_over_pictures(folders):
    large, small = picture((4, 0, 6, 0, 5)), picture((4, 0, 1, 0, 1))
    folders.add("a", large, large)
    folders.add("b", small, picture())
    rows, summary = folders.evaluate()
    overlap = summary["miou"]
    assert overlap["classes"]["tree"] == pytest.approx(30 / 31)
    assert overlap["classes"]["sky"] == pytest.approx((24 + 53) / (24 + 53 + 1))
    assert overlap["mean"] == pytest.approx((30 / 31 + 77 / 78) / 2)
    assert np.nanmean([row["jaccard"] for row in rows if row["name"] == "tree"]) == 0.5
    assert overlap["confusion"] == [[77, 0, 0, 0, 0], [1, 30, 0, 0, 0], [0] * 5, [0] * 5]


def test_classes_that_neither_side_has_are_left_out_and_a_class_only_predicted_counts_as_nothing(folders):
    folders.add("a", picture(), picture((9, 0, 1, 0, 1)))
    _, summary = folders.evaluate()
    assert summary["miou"]["absent"] == ["tree", "car"]
    assert summary["miou"]["classes"] == {"sky": pytest.approx(53 / 54), "tree": None, "car": None, "boat": 0.0}
    assert summary["miou"]["mean"] == pytest.approx(53 / 108)


def test_ignored_pixels_count_nowhere_whatever_the_mask_says_there(folders):
    truth = picture((4, 0, 6, 0, 4), (255, 0, 6, 4, 9))
    for case, beyond in (("a", 7), ("b", 0), ("c", 255)):
        folders.add(case, truth, np.where(truth == 255, beyond, truth))
    _, summary = folders.evaluate()
    assert summary["miou"]["pixels"] == 3 * 24
    assert (summary["miou"]["mean"], summary["miou"]["absent"]) == (1, ["sky", "car", "boat"])


def test_a_missing_mask_finds_no_pixel_of_any_class_and_no_false_one(folders):
    folders.add("a", picture((4, 0, 3, 0, 9)), None)
    folders.add("b", picture((4, 0, 3, 0, 9)), picture((4, 0, 3, 0, 9)))
    _, summary = folders.evaluate(cases=["a", "b"])
    assert summary["miou"]["classes"]["tree"] == summary["miou"]["classes"]["sky"] == 0.5
    assert [line[-1] for line in summary["miou"]["confusion"]] == [27, 27, 0, 0]


def test_what_is_printed_says_the_miou_and_what_it_left_out(folders):
    folders.add("a", picture((4, 0, 6, 0, 5)), picture((4, 0, 6, 0, 5)))
    rows, _ = folders.evaluate()
    lines = describe_evaluation(folders.output, rows).splitlines()
    assert lines[0] == "found 1 masks and 1 labels"
    assert lines[-1] == "mIoU over all pictures 1.0000 of 4 classes, 2 absent from both and left out: " \
        "sky 1.0000  tree 1.0000"


def test_pictures_have_no_other_unit_and_no_company_of_scans(folders):
    folders.add("a", picture((4, 0, 2, 0, 2)), picture((4, 0, 2, 0, 2)))
    for unit in ("mm", "voxel"):
        with pytest.raises(ConfigError, match=f"unit: found '{unit}', expected one of pixel"):
            folders.evaluate(unit=unit)
    nib.save(nib.Nifti1Image(picture()[..., None].astype(np.uint8), np.eye(4)), folders.data / "labelsTr/b.nii.gz")
    with pytest.raises(DatasetError, match=r"pictures such as a\.png and scans such as b\.nii\.gz"):
        folders.evaluate(cases=["a", "b"])


def test_scans_have_no_miou_and_no_pixels(folders):
    for folder in (folders.data / "labelsTr", folders.masks):
        nib.save(nib.Nifti1Image(picture((4, 0, 2, 0, 2))[..., None].astype(np.uint8), np.eye(4)), folder / "b.nii.gz")
    rows, summary = folders.evaluate()
    assert "miou" not in summary
    assert "hd95_mm" in rows[0]
    with pytest.raises(ConfigError, match="unit: found 'pixel', expected one of mm, voxel"):
        folders.evaluate(unit="pixel")
