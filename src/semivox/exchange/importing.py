"""Importing: DICOM series of a folder as a data set that semivox reads, without the names of those they show."""

import json
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from semivox.data.description import CODES, FILE
from semivox.data.formats import write_raw
from semivox.errors import ConfigError, DatasetError
from semivox.exchange.frames import Found
from semivox.exchange.segments import Segments, label_of, read_segments
from semivox.exchange.series import Series, read_series
from semivox.files import whole_folder, write_atomic, write_table

IDENTIFIERS = "identifiers.csv"
"""The table of cases and the series that they come from."""
_CHANNELS = {"MR": "MRI", "PT": "PET"}
_MOST_CLASSES = 254


@dataclass(frozen=True)
class Imported:
    """A data set that was made.

    Attributes:
        folder: where it is.
        cases: their names.
        labelled: names of those with a label.
        notes: what was passed over, or taken for granted.
        series: what each case was read from.
    """

    folder: Path
    cases: tuple[str, ...]
    labelled: tuple[str, ...]
    notes: tuple[str, ...]
    series: Mapping[str, Series] = field(repr=False)


def import_dicom(
    tree: Path | str,
    *,
    output: Path | str,
    keep_identifiers: bool = False,
    on_case: Callable[[str, int, int], Any] = lambda case, done, total: None,
) -> Imported:
    """Make a data set of the DICOM series in a folder and its subfolders, with labels where there are segmentations.

    A case is a series; its name is the patient's number in a fixed order, ``case_001``, and, where the patient has
    several, the series' own: ``case_001_1``. Neither names nor files carry anything else of who was scanned, and when.

    Args:
        tree: the folder.
        output: a new folder.
        keep_identifiers: write identifiers.csv, too, with the SeriesInstanceUID of each case.
        on_case: called with case, index and total as each one begins.

    Raises:
        MissingExtraError: the packages for DICOM are not installed.
        DatasetError: a series or segmentation cannot be used; nothing is written.
        GeometryError: a segmentation does not lie on its series' grid.
        RunError: `output` holds something, or cannot be written.
    """
    tree, output = Path(tree), Path(output)
    series, found = read_series(tree)
    segments = read_segments(found.segmentations, series)
    names = _case_names(series)
    description, values = _description(_one_modality(series), segments)
    labelled = []
    with whole_folder(output) as folder:
        for index, (case, one) in enumerate(names.items()):
            on_case(case, index, len(names))
            write_raw(one.voxels(), folder / "imagesTr" / f"{case}_0000.nii.gz", affine=one.affine_ras, header=None)
            chosen = [each for each in segments if each.series == one.uid]
            if chosen:
                label = label_of(chosen, one, values)
                write_raw(label, folder / "labelsTr" / f"{case}.nii.gz", affine=one.affine_ras, header=None)
                labelled.append(case)
        text = json.dumps(description, indent=1, ensure_ascii=False) + "\n"
        write_atomic(folder / FILE, lambda file: file.write(text.encode()))
        if keep_identifiers:
            rows = [{"case": case, "SeriesInstanceUID": one.uid} for case, one in names.items()]
            write_table(folder / IDENTIFIERS, list(rows[0]), rows)
    notes = (*_passed_over(found), *_taken_for_granted(names, segments))
    return Imported(output, tuple(names), tuple(labelled), notes, names)


def named_series(tree: Path) -> dict[str, Series]:
    """Return the series of a folder and its subfolders by the name of the case that they make; no pixel is read.

    Raises:
        MissingExtraError: the packages for DICOM are not installed.
        DatasetError: there is no series, one is no even volume, or they are of several modalities.
    """
    series, _ = read_series(tree)
    _one_modality(series)
    return _case_names(series)


def refuse_inside(output: Path, tree: Path) -> None:
    """Refuse a folder for results inside the tree that is read: what lies there would be read with it the next time.

    Raises:
        ConfigError: it is.
    """
    if output.resolve().is_relative_to(tree.resolve()):
        raise ConfigError(f"{output} lies in {tree}, whose DICOM files are read: name a folder outside of it with -o")


def _case_names(series: Sequence[Series]) -> dict[str, Series]:
    """Return the series by the name of their case; a patient's share a number, by which a split keeps them together."""
    patients = list(dict.fromkeys(one.patient for one in series))
    several = Counter(one.patient for one in series)
    seen: Counter[str] = Counter()
    names = {}
    for one in series:
        seen[one.patient] += 1
        name = f"case_{patients.index(one.patient) + 1:03d}"
        names[f"{name}_{seen[one.patient]}" if several[one.patient] > 1 else name] = one
    return names


def _one_modality(series: Sequence[Series]) -> str:
    """Return the modality of all series.

    Raises:
        DatasetError: they are of several.
    """
    modalities = Counter(one.modality for one in series)
    if len(modalities) > 1:
        told = ", ".join(f"{count} of {name}" for name, count in modalities.most_common())
        raise DatasetError(f"found series {told}, expected one modality; give each of them in a folder of its own")
    return next(iter(modalities))


def _description(modality: str, segments: Sequence[Segments]) -> tuple[dict[str, Any], dict[str, int]]:
    """Return what dataset.json says, and the value of each class.

    Raises:
        DatasetError: there are more classes than a label holds.
    """
    codes = {name: code for each in segments for name, code in each.codes.items()}
    if len(codes) > _MOST_CLASSES:
        raise DatasetError(f"found {len(codes)} names of segments, expected at most {_MOST_CLASSES}; join some")
    values = {name: value for value, name in enumerate(codes, 1)}
    description: dict[str, Any] = {
        "channel_names": {"0": _CHANNELS.get(modality, modality)},
        "labels": {"background": 0, **(values or {"target": 1})},
        "file_ending": ".nii.gz",
    }
    if codes:
        description[CODES] = {name: {"category": code[0], "type": code[1]} for name, code in codes.items()}
    return description, values


def _passed_over(found: Found) -> list[str]:
    told = ", ".join(f"{count} {kind}" for kind, count in sorted(found.passed_over.items()))
    return [f"passed over: {told}"] if told else []


def _taken_for_granted(names: dict[str, Series], segments: Sequence[Segments]) -> list[str]:
    """Return what labels do not say by themselves: which classes they lack, and how classes are called without any."""
    if not segments:
        return ["no segmentation: every case is unlabelled; name the classes in dataset.json before labels come in"]
    classes = {name for each in segments for name in each.names.values()}
    notes = []
    for case, one in names.items():
        own = {name for each in segments if each.series == one.uid for name in each.names.values()}
        if own and own != classes:
            notes.append(f"{case}: no segment {', '.join(sorted(classes - own))}: taken as absent from the scan")
    return notes
