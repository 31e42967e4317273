"""Frames: what the files of a tree say of each DICOM image in them, without its pixels."""

import warnings
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from semivox.data.cases import scan_files
from semivox.data.description import FILE
from semivox.data.dicom import first_dicom, is_dicom, walk
from semivox.data.faults import Fault
from semivox.errors import MissingExtraError, one_line
from semivox.files import refuse_few_handles

SEGMENTATIONS = ("1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7")
"""SOP classes of segmentations: a bit for each segment, or a label map."""


@dataclass(frozen=True, eq=False)
class Frame:
    """One image of a file.

    Attributes:
        path: the file.
        index: of the frame in the file, from 0.
        shape: (rows, columns).
        position: (3,) mm in LPS+, of the centre of the first pixel.
        orientation: (6,) direction cosines of a row and of a column in LPS+.
        spacing: mm between (rows, columns).
        thickness: mm between slices as the header says it, or None.
        slope: of stored values.
        intercept: of stored values.
    """

    path: Path
    index: int
    shape: tuple[int, int]
    position: np.ndarray
    orientation: np.ndarray
    spacing: tuple[float, float]
    thickness: float | None
    slope: float
    intercept: float


@dataclass
class Found:
    """What a tree holds.

    Attributes:
        frames: by SeriesInstanceUID.
        patients: PatientID, or where it is empty StudyInstanceUID, by SeriesInstanceUID.
        modalities: by SeriesInstanceUID.
        segmentations: files with labels.
        passed_over: how many files of each kind are no scans.
        faults: files that cannot be used.
    """

    frames: dict[str, list[Frame]] = field(default_factory=dict)
    patients: dict[str, str] = field(default_factory=dict)
    modalities: dict[str, str] = field(default_factory=dict)
    segmentations: list[Path] = field(default_factory=list)
    passed_over: Counter[str] = field(default_factory=Counter)
    faults: list[Fault] = field(default_factory=list)


def is_tree(path: Path) -> bool:
    """Return whether a path is a folder of DICOM series, or a file of one, and neither a data set nor scans."""
    if (path / FILE).exists() or scan_files(path) or scan_files(path / "imagesTr"):
        return False
    return first_dicom(path) is not None


def require_dicom() -> None:
    """Refuse to go on without the packages that read DICOM.

    Raises:
        MissingExtraError: they are not installed.
    """
    try:
        import highdicom  # noqa: F401
        import pydicom  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(f"DICOM needs a package more ({error}): pip install 'semivox[dicom]'") from error


def read_header(path: Path, *, pixels: bool = False) -> Any:
    """Return a file as pydicom's data set, without its pixels unless asked; what pydicom warns of is passed over."""
    import pydicom

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # values that break a rule of DICOM's in headers of no concern here
        return pydicom.dcmread(path, stop_before_pixels=not pixels)


def find_frames(tree: Path) -> Found:
    """Return every frame of every scan in a folder and its subfolders, and the segmentations beside them."""
    found = Found()
    for path in [tree] if tree.is_file() else walk(tree):
        if not is_dicom(path) or path.name.upper() == "DICOMDIR":
            continue
        try:
            header = read_header(path)
            _sort_in(found, path, header)
        except Exception as error:  # pydicom reads by guessing: any error may come of a damaged file
            refuse_few_handles(error)
            found.faults.append(_unreadable(path, error))
    return found


def _sort_in(found: Found, path: Path, header: Any) -> None:
    if header.get("SOPClassUID") in SEGMENTATIONS:
        found.segmentations.append(path)
        return
    kind = _no_scan(header)
    if kind:
        found.passed_over[kind] += 1
        return
    uid = str(header.SeriesInstanceUID)
    found.frames.setdefault(uid, []).extend(_frames(path, header))
    found.patients[uid] = str(header.get("PatientID") or header.get("StudyInstanceUID"))
    found.modalities[uid] = str(header.get("Modality", "OT"))


def _no_scan(header: Any) -> str:
    """Return in a word what keeps a file from being part of a volume, or nothing."""
    if "Rows" not in header:
        return f"{header.get('Modality', 'other')} objects without images"
    if "LOCALIZER" in (header.get("ImageType") or ()):
        return "localisers"
    if int(header.get("SamplesPerPixel", 1)) != 1:
        return "colour images"
    if "ImagePositionPatient" not in header and "PerFrameFunctionalGroupsSequence" not in header:
        return "images without a position in space"
    return ""


def _frames(path: Path, header: Any) -> Iterator[Frame]:
    if "PerFrameFunctionalGroupsSequence" not in header:
        yield _frame(path, 0, header, [header])
        return
    shared = _items(header.get("SharedFunctionalGroupsSequence", ()))
    for index, groups in enumerate(header.PerFrameFunctionalGroupsSequence):
        yield _frame(path, index, header, [*_items([groups]), *shared])


def _items(groups: Iterable[Any]) -> list[Any]:
    """Return the one item that each functional group holds."""
    return [element.value[0] for group in groups for element in group if element.VR == "SQ" and element.value]


def _frame(path: Path, index: int, header: Any, places: list[Any]) -> Frame:
    """Return a frame from the first of the places that has each value."""

    def value(name: str, default: Any = None) -> Any:
        given = (place[name].value for place in places if name in place)
        found = next((each for each in given if each is not None), default)
        if found is None:
            raise ValueError(f"no {name}")
        return found

    if any("ModalityLUTSequence" in place for place in places):
        raise ValueError("values by a lookup table, where a slope and an intercept are expected")
    thickness = float(value("SpacingBetweenSlices", 0) or value("SliceThickness", 0))
    return Frame(
        path,
        index,
        (int(header.Rows), int(header.Columns)),
        np.array(value("ImagePositionPatient"), np.float64),
        np.array(value("ImageOrientationPatient"), np.float64),
        tuple(float(number) for number in value("PixelSpacing")),  # type: ignore[arg-type]
        abs(thickness) or None,
        float(value("RescaleSlope", 1)),
        float(value("RescaleIntercept", 0)),
    )


def _unreadable(path: Path, error: Exception) -> Fault:
    fix = "copy it again from its source"
    return Fault("error", str(path), "cannot be read", one_line(error), "a whole DICOM file", fix)
