"""Evaluation of tiny mask folders: grids, units, empty and missing masks, ignored voxels, what lands in the files."""

import csv
import json
import math
import subprocess
import sys
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from semivox.data.splitting import Split
from semivox.errors import ConfigError, DatasetError, GeometryError
from semivox.scoring.evaluation import evaluate_masks, summarise
from semivox.scoring.metrics import score_masks

SHAPE = (8, 9, 7)
SPACING = (1.3333333, 0.7, 3.0)
DESCRIPTION = {
    "channel_names": {"0": "MRI"},
    "labels": {"background": 0, "liver": 2, "tumour": 5},
    "file_ending": ".nii.gz",
}
DIAGONAL = math.sqrt(sum((n * s) ** 2 for n, s in zip(SHAPE, SPACING, strict=True)))


def save(array: np.ndarray, path: Path, affine: np.ndarray | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    affine = np.diag([*SPACING, 1.0]) if affine is None else affine
    nib.save(nib.Nifti1Image(array.astype(np.uint8), affine), path)


def boxes(*, liver: int = 0, tumour: int = 0) -> np.ndarray:
    """Return a label of two boxes with sides of that many voxels."""
    array = np.zeros(SHAPE, int)
    array[:liver, :liver, :liver] = 2
    array[6 : 6 + tumour, 6 : 6 + tumour, 3 : 3 + tumour] = 5
    return array


class Folders:
    """A data set and a folder of masks."""

    def __init__(self, root: Path) -> None:
        self.data, self.masks, self.output = root / "data", root / "masks", root / "out" / "scores.csv"
        self.labels = self.data / "labelsTr"
        self.masks.mkdir()
        self.describe()

    def describe(self, **changes: object) -> None:
        self.labels.mkdir(parents=True, exist_ok=True)
        (self.data / "dataset.json").write_text(json.dumps(DESCRIPTION | changes))

    def add(self, case: str, truth: np.ndarray, mask: np.ndarray | None) -> None:
        save(truth, self.labels / f"{case}.nii.gz")
        if mask is not None:
            save(mask, self.masks / f"{case}.nii.gz")

    def evaluate(self, **options: object) -> list[dict]:
        return evaluate_masks(self.masks, self.labels, self.output, **options)

    def summary(self) -> dict:
        return json.loads(self.output.with_suffix(".json").read_text())


@pytest.fixture(name="folders")
def _folders(tmp_path: Path) -> Folders:
    return Folders(tmp_path)


def test_every_case_and_class_is_a_row_with_the_numbers_of_the_metrics(folders: Folders) -> None:
    truth, mask = boxes(liver=5, tumour=2), boxes(liver=4, tumour=1)
    folders.add("b", truth, mask)
    folders.add("a", truth, truth)

    rows = folders.evaluate(tolerance=1.5)

    assert [(row["case"], row["label"], row["name"]) for row in rows] == [
        ("a", 2, "liver"), ("a", 5, "tumour"), ("b", 2, "liver"), ("b", 5, "tumour"),
    ]  # fmt: skip
    expected = score_masks(mask == 2, truth == 2, SPACING, tolerance=1.5)
    columns = {
        "dice": expected.dice,
        "jaccard": expected.jaccard,
        "hd95_mm": expected.hd95,
        "asd_mm": expected.asd,
        "assd_mm": expected.assd,
        "nsd_at_1.5mm": expected.nsd,
        "truth_ml": 125 * math.prod(SPACING) / 1000,
        "predicted_ml": 64 * math.prod(SPACING) / 1000,
    }
    assert {key: rows[2][key] for key in columns} == pytest.approx(columns, rel=1e-6)
    assert rows[0]["dice"] == 1
    assert (rows[0]["failure"], rows[0]["both_empty"], rows[0]["missing"]) == (0, 0, 0)


def test_the_csv_holds_the_returned_rows_and_nothing_half_written_stays(folders: Folders) -> None:
    folders.add("a", boxes(liver=3), boxes(liver=2))

    rows = folders.evaluate()

    with folders.output.open(newline="") as file:
        read = list(csv.DictReader(file))
    assert [{key: str(value) for key, value in row.items()} for row in rows] == read
    assert read[1]["dice"] == "nan"
    assert sorted(path.name for path in folders.output.parent.iterdir()) == ["scores.csv", "scores.json"]


def test_one_empty_side_is_a_failure_and_two_are_excluded_and_counted(folders: Folders) -> None:
    folders.add("found nothing", boxes(liver=3), boxes())
    folders.add("found too much", boxes(liver=3), boxes(liver=3, tumour=1))

    rows = {(row["case"], row["name"]): row for row in folders.evaluate()}

    failed = rows["found nothing", "liver"]
    assert (failed["dice"], failed["jaccard"], failed["nsd_at_2mm"], failed["failure"]) == (0, 0, 0, 1)
    assert [failed[key] for key in ("hd95_mm", "asd_mm", "assd_mm")] == pytest.approx([DIAGONAL] * 3, rel=1e-6)
    assert rows["found too much", "tumour"]["failure"] == 1
    excluded = rows["found nothing", "tumour"]
    assert (excluded["both_empty"], excluded["failure"]) == (1, 0)
    assert math.isnan(excluded["dice"])
    assert math.isnan(excluded["hd95_mm"])
    summary = folders.summary()
    assert summary["classes"]["liver"]["dice"] == {"mean": 0.5, "sd": pytest.approx(0.5**0.5), "count": 2}
    assert summary["classes"]["tumour"]["dice"] == {"mean": 0.0, "sd": None, "count": 1}
    assert [summary["classes"][name]["failures"] for name in ("liver", "tumour")] == [1, 1]
    assert [summary["classes"][name]["both_empty"] for name in ("liver", "tumour")] == [0, 1]


def test_means_over_classes_weigh_each_case_once(folders: Folders) -> None:
    rows = [
        {"case": "a", "name": "liver", "dice": 0.8, "hd95_mm": 1.0},
        {"case": "a", "name": "tumour", "dice": 0.4, "hd95_mm": 5.0},
        {"case": "b", "name": "liver", "dice": 1.0, "hd95_mm": 0.0},
        {"case": "b", "name": "tumour", "dice": math.nan, "hd95_mm": math.nan},
    ]
    rows = [row | {"failure": 0, "both_empty": int(math.isnan(row["dice"])), "missing": 0} for row in rows]

    mean = summarise(rows)["mean"]

    assert mean["dice"] == {"mean": pytest.approx(0.8), "sd": pytest.approx(0.08**0.5), "count": 2}
    assert mean["hd95_mm"]["mean"] == 1.5
    assert (mean["cases"], mean["both_empty"]) == (2, 1)


@pytest.mark.parametrize("form", ["split", "split file", "text file", "names"])
def test_each_listed_case_is_scored_and_a_missing_mask_is_a_failure_of_every_class(
    folders: Folders, tmp_path: Path, form: str
) -> None:
    folders.add("a", boxes(liver=3), boxes(liver=3))
    folders.add("b", boxes(liver=3), None)
    folders.add("trained on", boxes(liver=3), boxes(liver=3))
    split = Split(("trained on",), held_out=("b", "a"))
    (tmp_path / "split.json").write_text(
        json.dumps({"labelled": ["trained on"], "unlabelled": [], "held_out": ["b", "a"]})
    )
    (tmp_path / "cases.txt").write_text("b\na\n")
    forms = {
        "split": split,
        "split file": tmp_path / "split.json",
        "text file": tmp_path / "cases.txt",
        "names": ["b", "a"],
    }

    rows = folders.evaluate(cases=forms[form])

    assert sorted(row["case"] for row in rows) == ["a", "a", "b", "b"]
    missing = [row for row in rows if row["case"] == "b"]
    assert [(row["dice"], row["failure"], row["missing"]) for row in missing] == [(0, 1, 1), (0, 1, 1)]
    assert [row["hd95_mm"] for row in missing] == pytest.approx([DIAGONAL] * 2, rel=1e-6)
    mean = folders.summary()["mean"]
    assert (mean["failures"], mean["missing"], mean["dice"]["mean"]) == (2, 1, 0.5)


def test_without_a_list_the_shared_cases_are_scored_and_both_folders_counted(folders: Folders) -> None:
    folders.add("a", boxes(liver=3), boxes(liver=3))
    folders.add("b", boxes(liver=3), None)
    save(boxes(), folders.masks / "c.nii.gz")
    save(boxes(), folders.masks / "d.nii.gz")
    save(boxes(), folders.masks / "a_uncertainty.nii.gz")

    rows = folders.evaluate()

    assert {row["case"] for row in rows} == {"a"}
    assert (folders.summary()["found"], folders.summary()["scored"]) == ({"masks": 3, "labels": 2}, 1)


def test_nominal_spacing_gives_voxels_unless_mm_are_asked_for(folders: Folders) -> None:
    folders.describe(spacing_is_nominal=True)
    folders.add("a", boxes(liver=4), boxes(liver=3))

    row = folders.evaluate()[0]

    expected = score_masks(boxes(liver=3), boxes(liver=4), (1, 1, 1))
    assert (row["hd95_voxel"], row["asd_voxel"], row["nsd_at_2voxel"]) == (expected.hd95, expected.asd, expected.nsd)
    assert (row["truth_voxels"], row["predicted_voxels"]) == (64, 27)
    assert "hd95_mm" not in row
    assert folders.summary()["unit"] == "voxel"
    assert "hd95_mm" in folders.evaluate(unit="mm")[0]


def test_ignored_voxels_are_in_neither_mask(folders: Folders) -> None:
    folders.describe(labels={"background": 0, "liver": 2, "ignore": 9})
    truth, mask = boxes(liver=4), boxes(liver=5)
    truth[4] = truth[:, 4] = truth[:, :, 4] = 9
    folders.add("a", truth, mask)

    assert folders.evaluate()[0]["dice"] == 1


def test_masks_stored_in_another_axis_order_are_compared_voxel_by_voxel(folders: Folders) -> None:
    truth = boxes(liver=4, tumour=1)
    folders.add("a", truth, None)
    flipped = np.diag([-SPACING[0], SPACING[1], SPACING[2], 1.0])
    flipped[0, 3] = SPACING[0] * (SHAPE[0] - 1)
    save(truth[::-1], folders.masks / "a.nii.gz", flipped)

    assert [row["dice"] for row in folders.evaluate()] == [1, 1]


@pytest.mark.parametrize(
    ("mask", "shift", "message"),
    [(np.zeros((8, 9, 6)), 0.0, r"a: .*shape: found \[8, 9, 6\], expected \[8, 9, 7\]"), (boxes(), 1.0, "a: .*origin")],
)
def test_a_mask_on_another_grid_is_refused(folders: Folders, mask: np.ndarray, shift: float, message: str) -> None:
    folders.add("a", boxes(liver=3), None)
    affine = np.diag([*SPACING, 1.0])
    affine[1, 3] = shift
    save(mask, folders.masks / "a.nii.gz", affine)

    with pytest.raises(GeometryError, match=message):
        folders.evaluate()
    assert not folders.output.exists()


def test_values_that_dataset_json_does_not_name_are_refused(folders: Folders) -> None:
    folders.add("a", boxes(liver=3), boxes(liver=3) // 2)  # class indices in place of the files' values

    with pytest.raises(DatasetError, match=r"a: .*masks.* has the values \[1\], expected .*\[0, 2, 5\]"):
        folders.evaluate()


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"unit": "cm"}, ConfigError, "unit: found 'cm', expected one of mm, voxel"),
        ({"hd95": "mean"}, ConfigError, "hd95: found 'mean', expected one of pooled, max"),
        ({"tolerance": -1}, ConfigError, "tolerance: found -1"),
        ({"cases": ["a", "z"]}, DatasetError, r"no label of z \(1 of 2"),
        ({"cases": []}, DatasetError, "found an empty list"),
        ({"cases": Path("absent.txt")}, DatasetError, "absent.txt: found no list of cases"),
    ],
)
def test_options_that_cannot_be_followed_are_refused(
    folders: Folders, options: dict, kind: type[Exception], message: str
) -> None:
    folders.add("a", boxes(liver=3), boxes(liver=3))

    with pytest.raises(kind, match=message):
        folders.evaluate(**options)


def test_folders_that_cannot_be_scored_are_refused(folders: Folders, tmp_path: Path) -> None:
    folders.add("a", boxes(), None)
    save(boxes(), folders.masks / "b.nii.gz")
    with pytest.raises(DatasetError, match=r"b\.nii\.gz.*a\.nii\.gz"):
        folders.evaluate()
    with pytest.raises(DatasetError, match="no such folder"):
        evaluate_masks(tmp_path / "absent", folders.labels, folders.output)
    with pytest.raises(DatasetError, match=r"found no dataset\.json"):
        evaluate_masks(folders.masks, folders.masks, folders.output)
    with pytest.raises(ConfigError, match=r"ends in \.csv"):
        evaluate_masks(folders.masks, folders.labels, tmp_path / "scores.json")
    save(boxes(), folders.masks / "b.nii")
    with pytest.raises(DatasetError, match="one file per case"):
        folders.evaluate()


def test_the_summary_says_how_it_was_scored_and_copies_what_predict_wrote(folders: Folders) -> None:
    folders.add("a", boxes(liver=3), boxes(liver=2))
    (folders.masks / "prediction.json").write_text(json.dumps({"method": "simcvd", "seed": 3}))

    rows = evaluate_masks(folders.masks, folders.data, folders.output, tolerance=1, hd95="max")

    summary = folders.summary()
    assert summary["prediction"] == {"method": "simcvd", "seed": 3}
    assert (summary["unit"], summary["tolerance"], summary["hd95"]) == ("mm", 1, "max")
    assert (summary["masks"], summary["labels"]) == (str(folders.masks.resolve()), str(folders.labels.resolve()))
    expected = score_masks(boxes(liver=2), boxes(liver=3), SPACING, hd95="max")
    assert rows[0]["hd95_mm"] == pytest.approx(expected.hd95, rel=1e-6)
    (folders.masks / "prediction.json").write_text('[["method", "simcvd"]]')
    with pytest.raises(DatasetError, match=r"prediction\.json is damaged .*expected a JSON object"):
        folders.evaluate()


def test_scoring_loads_no_torch() -> None:
    code = "import sys, semivox.scoring.evaluation; print({'torch', 'monai', 'matplotlib'} & set(sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "set()\n"
