"""Evaluation: a folder of masks against a folder of labels -> scores.csv, one row per case and class, and scores.json.

A mask is compared in its label file's own grid; no voxel is resampled. Distances are in mm by the label's header, in
voxels, or, of pictures, in pixels, and their columns say which. Pictures also get the mIoU of all of them together.
Rules: a class that only one of mask and label has is a failure (overlaps 0, distances the image's diagonal), and so is
a listed case without a mask; a class that neither has is excluded from the means (NaN) and counted.
"""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from semivox.data.description import Description, read_description
from semivox.data.faults import sentences
from semivox.data.splitting import Split
from semivox.data.volume import Volume, differences_of, is_picture, read_label
from semivox.errors import ConfigError, DatasetError, GeometryError, RunError
from semivox.files import read_object, write_atomic, write_table
from semivox.scoring.metrics import HD95_DEFINITIONS, Scores, confusion_matrix, failed_scores, score_masks
from semivox.scoring.pairing import cases_to_score, list_masks, list_test_labels
from semivox.scoring.summary import summarise, summarise_apart, summarise_overlap

__all__ = ["Row", "Rules", "evaluate_masks", "summarise"]

Row = dict[str, Any]
UNITS = ("mm", "voxel")
SIZES = {"mm": "ml", "voxel": "voxels", "pixel": "pixels"}
"""The unit of sizes that goes with that of distances."""


@dataclass(frozen=True)
class Rules:
    """How masks are scored: unit of distances, tolerance of the surface Dice in that unit, definition of HD95."""

    unit: str
    tolerance: float
    hd95: str


def evaluate_masks(
    masks: Path | str,
    labels: Path | str,
    output: Path | str,
    *,
    cases: Split | Path | str | Sequence[str] | None = None,
    unit: str | None = None,
    tolerance: float = 2.0,
    hd95: str = "pooled",
    on_case: Callable[[str, int, int], None] | None = None,
) -> list[Row]:
    """Score masks against labels, write scores.csv and scores.json, return the rows.

    Args:
        masks: folder of CASE.nii.gz (.nii, .nrrd, .mha, .png, .tif), values as in the label files.
        labels: folder of the label files, beside dataset.json; or the data set's folder, whose labelsTs then has the
            labels of cases that the pool lacks. Labels that dataset.json calls machine-made are none to score by.
        output: the csv file; the summary gets the same name with .json.
        cases: a split or its file (what it holds out), a text file with one name per line, or names: each of them is
            scored, a missing mask being a failure. None scores the cases that are in both folders; scores.json then
            tells under "found" how many either has.
        unit: "mm" or "voxel"; None is voxels where dataset.json says that its spacing is nominal, else mm. Pictures
            have "pixel" alone.
        tolerance: of the surface Dice, in `unit`.
        hd95: "pooled" or "max", see `semivox.scoring.metrics.hd95`.
        on_case: called with (case, done, all).

    Returns:
        Dicts with the columns of scores.csv: case, label (value in the files), name (of the class), dice, jaccard,
        hd95_*, asd_*, assd_*, nsd_at_*, truth_* and predicted_* (size in ml, voxels or pixels), failure,
        both_empty, missing, trained_on ("labelled": in no mean; "unlabelled": counted, but transductive; or "").

    Raises:
        ConfigError: output, unit, tolerance or hd95 cannot be used.
        DatasetError: nothing to score, a listed case has no label, or a file or dataset.json cannot be used.
        GeometryError: a mask does not lie on its label's grid.
        RunError: the scores cannot be written.
    """
    masks, labels, output = Path(masks), Path(labels), Path(output)
    if output.suffix != ".csv":  # the summary takes its name with .json
        raise ConfigError(f"output: found '{output}', expected a file that ends in .csv, such as scores.csv")
    given, (folder, labels) = labels, _dataset_folder(labels)
    dataset = read_description(folder)  # a scorer needs no images
    if dataset.faults:
        raise DatasetError(sentences(dataset.faults))
    tests = list_test_labels(folder, len(dataset.channels)) if given == folder else {}
    own = {case: file for case, file in list_masks(labels).items() if case not in dataset.machine_made}
    label_files = tests | own
    mask_files = list_masks(masks, labelled=label_files.keys())
    names = cases_to_score(cases, mask_files, label_files, masks, labels)
    pictures = _are_pictures([label_files[case] for case in names])
    rules = _rules(unit, tolerance, hd95, dataset, pictures=pictures)
    prediction = _read_prediction(masks / "prediction.json")
    seen = prediction.get("trained_on") if prediction else None
    seen = seen if isinstance(seen, dict) else {}
    rows, confusion = [], np.zeros((len(dataset.classes), len(dataset.classes) + 1), np.int64)
    for done, case in enumerate(names):
        if on_case:
            on_case(case, done, len(names))
        pair = _read_pair(case, mask_files.get(case), label_files[case], dataset)
        rows += [row | {"trained_on": seen.get(case, "")} for row in _case_rows(case, pair, dataset, rules)]
        if pictures and seen.get(case) != "labelled":
            confusion += _confusion(pair, dataset)
    summary = {
        "unit": rules.unit,
        "tolerance": rules.tolerance,
        "hd95": rules.hd95,
        "scored": len(names),
        "found": {"masks": len(mask_files), "labels": len(label_files)},
        "masks": str(masks.resolve()),  # where a report finds what to draw
        "labels": str(labels.resolve()),
        **({"test_labels": str((folder / "labelsTs").resolve())} if tests else {}),
        **summarise_apart(rows),
        **({"miou": summarise_overlap(confusion, dataset.classes)} if pictures else {}),
        "prediction": prediction,
    }
    _write(rows, summary, output)
    return rows


def _dataset_folder(labels: Path) -> tuple[Path, Path]:
    """Return the folder with dataset.json and that of the label files."""
    if (labels / "dataset.json").is_file():
        return labels, labels / "labelsTr"
    if (labels.absolute().parent / "dataset.json").is_file():
        return labels.absolute().parent, labels
    raise DatasetError(
        f"{labels}: found no dataset.json in it or beside it, expected one that names the classes; "
        "give the labelsTr folder of a data set"
    )


def _are_pictures(labels: Sequence[Path]) -> bool:
    """Return whether labels are pictures; their scores cannot share a table with those of scans."""
    found = {is_picture(path): path for path in labels}
    if len(found) > 1:
        raise DatasetError(
            f"found pictures such as {found[True].name} and scans such as {found[False].name} among the labels, "
            "expected one kind; score them apart, with --cases"
        )
    return True in found


def _rules(unit: str | None, tolerance: float, hd95: str, dataset: Description, *, pictures: bool) -> Rules:
    known = ("pixel",) if pictures else UNITS
    unit = unit or ("pixel" if pictures else "voxel" if dataset.spacing_is_nominal else "mm")
    if unit not in known:
        raise ConfigError(f"unit: found {unit!r}, expected one of {', '.join(known)}")
    if hd95 not in HD95_DEFINITIONS:
        raise ConfigError(f"hd95: found {hd95!r}, expected one of {', '.join(HD95_DEFINITIONS)}")
    if not 0 <= tolerance < math.inf:
        raise ConfigError(f"tolerance: found {tolerance}, expected a finite number of {unit} of at least 0")
    return Rules(unit, float(tolerance), hd95)


def _read_prediction(path: Path) -> dict[str, Any] | None:
    """Return what `predict` noted of the masks; None where they come from elsewhere."""
    try:
        return read_object(path, advice="predict again or remove it", error=DatasetError)
    except FileNotFoundError:
        return None


@dataclass(frozen=True)
class Pair:
    """A label (X, Y, Z), its mask or None, and which voxels count: those that somebody labelled."""

    label: Volume
    mask: Volume | None
    counted: np.ndarray


def _read_pair(case: str, mask_file: Path | None, label_file: Path, dataset: Description) -> Pair:
    """Return a case's label and mask, which lie on one grid and hold known values."""
    label = read_label(label_file)
    mask = read_label(mask_file) if mask_file else None
    if mask is not None:
        _check_grid(case, mask, label)
    counted = np.ones(label.shape, bool) if dataset.ignore is None else label.array != dataset.ignore
    for volume in (label, mask):
        if volume is not None:
            _check_values(case, volume, counted, dataset)
    return Pair(label, mask, counted)


def _case_rows(case: str, pair: Pair, dataset: Description, rules: Rules) -> list[Row]:
    """Return one row per class of a case."""
    affine = pair.label.affine[:3, :3]
    # Not `label.spacing`: it is rounded to 1e-4 mm, and scores keep six digits.
    size = np.linalg.norm(affine, axis=0) if rules.unit == "mm" else np.ones(3)
    voxel = abs(float(np.linalg.det(affine))) / 1000 if rules.unit == "mm" else 1
    # A slice alone is a plane: the outline of what it shows runs within it, not through every voxel of it.
    axes = [axis for axis, length in enumerate(pair.label.shape) if length > 1] or [0]
    shape, size = [pair.label.shape[axis] for axis in axes], size[axes].tolist()
    rows = []
    for name, value in list(zip(dataset.classes, dataset.label_values, strict=True))[1:]:
        truth = ((pair.label.array == value) & pair.counted).reshape(shape)
        if pair.mask is None:
            scores = failed_scores(shape, size, int(truth.sum()), 0)
        else:
            predicted = ((pair.mask.array == value) & pair.counted).reshape(shape)
            scores = score_masks(predicted, truth, size, tolerance=rules.tolerance, hd95=rules.hd95)
        where = {"case": case, "label": value, "name": name}
        rows.append(where | _cells(scores, rules, voxel) | {"missing": int(pair.mask is None)})
    return rows


def _confusion(pair: Pair, dataset: Description) -> np.ndarray:
    """Return the confusion matrix of a case's counted pixels."""
    def indices(volume: Volume) -> np.ndarray:
        return np.searchsorted(dataset.label_values, volume.array[pair.counted])  # classes are in order of their values

    mask = None if pair.mask is None else indices(pair.mask)
    return confusion_matrix(mask, indices(pair.label), len(dataset.classes))


def _cells(scores: Scores, rules: Rules, voxel: float) -> Row:
    """Return the columns of one class; `voxel` is the size of one, in the unit of the size columns."""
    size = SIZES[rules.unit]
    return {
        "dice": scores.dice,
        "jaccard": scores.jaccard,
        f"hd95_{rules.unit}": scores.hd95,
        f"asd_{rules.unit}": scores.asd,
        f"assd_{rules.unit}": scores.assd,
        f"nsd_at_{rules.tolerance:g}{rules.unit}": scores.nsd,
        f"truth_{size}": scores.truth_voxels * voxel,
        f"predicted_{size}": scores.predicted_voxels * voxel,
        "failure": int(scores.failure),
        "both_empty": int(scores.both_empty),
    }


def _check_grid(case: str, mask: Volume, label: Volume) -> None:
    if differences := differences_of(mask, label):
        raise GeometryError(
            f"{case}: {mask.source.path} does not lie on the grid of {label.source.path.name}: {differences}; "
            "restore the mask to its scan's own grid, as 'semivox predict' does"
        )


def _check_values(case: str, volume: Volume, counted: np.ndarray, dataset: Description) -> None:
    unknown = volume.array[counted & ~np.isin(volume.array, dataset.label_values)]
    if unknown.size:
        raise DatasetError(
            f"{case}: {volume.source.path} has the values {np.unique(unknown)[:10].tolist()}, expected those of "
            f"dataset.json, {sorted(dataset.label_values)}; write masks with the values of the label files"
        )


def _write(rows: Sequence[Row], summary: Mapping[str, Any], output: Path) -> None:
    try:
        output.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunError(f"{output.parent}: cannot be made ({error}); name a folder that is writable") from error
    text = json.dumps(_without_nan(summary), indent=1, allow_nan=False) + "\n"
    write_atomic(output.with_suffix(".json"), lambda file: file.write(text.encode()))
    write_table(output, list(rows[0]), rows)


def _without_nan(value: Any) -> Any:
    """Return the value with null for every number that JSON does not know."""
    if isinstance(value, Mapping):
        return {key: _without_nan(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_without_nan(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
