"""Encoding: the label of a series as a DICOM segmentation (SEG) that refers to the frames it was made of."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

from semivox.data.palette import class_colour
from semivox.errors import DatasetError, RunError, one_line
from semivox.exchange.frames import read_header
from semivox.exchange.series import Series
from semivox.files import file_digest, refuse_few_handles, whole_file
from semivox.runs.folder import open_run
from semivox.runs.folds import each_run

ENDING = ".seg.dcm"
"""How the file of a case's segmentation ends."""
DEFAULT_CODE = ("85756007", "SCT", "Tissue")
"""Category and type of a segment whose class has no codes."""
_MAY_BE_EMPTY = (
    "PatientID", "PatientName", "PatientBirthDate", "PatientSex", "StudyID", "StudyDate", "StudyTime",
    "AccessionNumber", "ReferringPhysicianName",
)  # fmt: skip
"""Of patient and study; all that highdicom copies must be there, if without a value, and scanners leave some out."""
_SERIES_NUMBER = 1000
"""Viewers list a study's series by number: behind those of a scanner."""


@dataclass(frozen=True)
class Maker:
    """What made masks, as a segmentation says it.

    Attributes:
        method: of the run.
        channels: that the runs take.
        weights: SHA-256 of each run's weights.
        classes: names by the values that masks hold, without the background.
        codes: "category" and "type" of classes, by name, each as (value, scheme, meaning).
    """

    method: str
    channels: tuple[str, ...]
    weights: tuple[str, ...]
    classes: Mapping[int, str]
    codes: Mapping[str, Mapping[str, Sequence[str]]]


def maker_of(runs: Sequence[Path]) -> Maker:
    """Return what runs are, by their folders.

    Raises:
        RunError: one is no run, or has no checkpoint.
    """
    opened = [open_run(path) for path in each_run(runs)]
    facts, newest = opened[0].facts, [run.latest() for run in opened]
    if None in newest or not newest:
        raise RunError(f"{', '.join(map(str, runs))}: found no checkpoint, expected trained runs; name others")
    values = facts["recipe"]["label_values"]
    return Maker(
        method=facts["method"],
        channels=tuple(facts["channels"]),
        weights=tuple(file_digest(checkpoint) for checkpoint in newest if checkpoint),
        classes=dict(zip(values[1:], facts["classes"][1:], strict=True)),
        codes=facts.get("segment_codes") or {},
    )


def refuse_unfit(series: Series) -> None:
    """Refuse a series that a segmentation cannot refer to; only headers are read.

    Raises:
        DatasetError: it has no frame of reference, or is in several files of many frames.
    """
    headers = _headers(series)
    if not headers[0].get("FrameOfReferenceUID"):
        raise DatasetError(
            f"{series.where}: found no FrameOfReferenceUID, expected one, without which a segmentation has no place in "
            "space; `semivox import` reads the series all the same"
        )
    if len(headers) > 1 and any(int(header.get("NumberOfFrames", 1)) > 1 for header in headers):
        raise DatasetError(
            f"{series.where}: found {len(headers)} files of many frames, expected one, to which a segmentation can "
            "refer; `semivox import` reads the series all the same"
        )


def write_segmentation(label: np.ndarray, series: Series, path: Path, *, maker: Maker, automatic: bool) -> None:
    """Write a label as a binary DICOM segmentation of its series: whole or not at all.

    Every class is a segment, an empty one too; frames of which nothing is in a segment are left out, unless the whole
    label is empty: then all are there, since an image without a frame is none.

    Args:
        label: (columns, rows, slices), with the values of `maker.classes` and 0.
        series: whose grid it is.
        path: of the file.
        maker: of the label.
        automatic: nobody changed it since.

    Raises:
        DatasetError: the series' headers cannot be copied, or there are other values.
        RunError: the file cannot be written.
    """
    strangers = np.setdiff1d(label, [0, *maker.classes])
    if strangers.size:
        raise DatasetError(
            f"{path.name.removesuffix(ENDING)}: found the values {strangers.tolist()[:10]} in its mask, expected 0 and "
            f"{', '.join(f'{value} ({name})' for value, name in maker.classes.items())}; correct it"
        )
    numbered = np.zeros(label.shape, np.uint8)
    for number, value in enumerate(maker.classes, 1):
        numbered[label == value] = number
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of values in the source's headers, and of empty labels
            made = _segmentation(numbered, series, maker, automatic=automatic)
            with whole_file(path) as temporary:
                made.save_as(temporary)
    except (ValueError, TypeError, AttributeError, KeyError) as error:  # of highdicom and pydicom: odd headers
        if isinstance(error, DatasetError):
            raise
        raise DatasetError(
            f"{series.where}: found headers of which no segmentation can be made ({one_line(error)}), expected those "
            "of a CT, MR or PET image; the mask as NIfTI is there"
        ) from error


def _segmentation(numbered: np.ndarray, series: Series, maker: Maker, *, automatic: bool) -> Any:
    from highdicom.seg import Segmentation
    from pydicom.uid import generate_uid

    headers = _headers(series)
    _complete(headers, series)
    frames = np.ascontiguousarray(numbered.T)  # (slices, rows, columns)
    if len(headers) < len(series.frames):
        in_file = np.argsort([frame.index for frame in series.frames])  # highdicom takes them in the file's order
        frames = frames[in_file]
    made = Segmentation(
        source_images=headers,
        pixel_array=frames,
        segmentation_type="BINARY",
        segment_descriptions=_segments(maker, automatic=automatic),
        series_instance_uid=generate_uid(),
        series_number=_SERIES_NUMBER,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="semivox",
        manufacturer_model_name=maker.method,
        software_versions=version("semivox"),
        device_serial_number=maker.weights[0][:16],
        content_label="SEMIVOX",
        series_description=f"semivox {maker.method}",
    )
    measures = made.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0]
    measures.SpacingBetweenSlices = round(_distance(series), 9)  # with it, slices that are left out can be told
    made.SpecificCharacterSet = "ISO_IR 192"  # UTF-8, in which pydicom writes the source's names and those of classes
    return made


def _segments(maker: Maker, *, automatic: bool) -> list[Any]:
    from highdicom import AlgorithmIdentificationSequence
    from highdicom.color import CIELabColor
    from highdicom.seg import SegmentDescription
    from pydicom.sr.codedict import Code, codes

    algorithm = AlgorithmIdentificationSequence(
        name="semivox",
        family=codes.DCM.ArtificialIntelligence,
        version=version("semivox"),
        parameters={"method": maker.method, "weights": ", ".join(maker.weights)},
    )
    segments = []
    for number, name in enumerate(maker.classes.values()):
        known = maker.codes.get(name, {})
        segments.append(
            SegmentDescription(
                segment_number=number + 1,
                segment_label=name,
                segmented_property_category=Code(*known.get("category", DEFAULT_CODE)),
                segmented_property_type=Code(*known.get("type", DEFAULT_CODE)),
                algorithm_type="AUTOMATIC" if automatic else "SEMIAUTOMATIC",
                algorithm_identification=algorithm,
                display_color=CIELabColor.from_rgb(*class_colour(number)),
            )
        )
    return segments


def _headers(series: Series) -> list[Any]:
    """Return the headers of a series' files, in the order of its slices."""
    paths = dict.fromkeys(frame.path for frame in series.frames)
    try:
        return [read_header(path) for path in paths]
    except Exception as error:  # pydicom reads by guessing: any error may come of a damaged file
        refuse_few_handles(error)
        raise DatasetError(f"{series.where}: found headers that cannot be read ({one_line(error)})") from error


def _complete(headers: Sequence[Any], series: Series) -> None:
    """Put into headers, which stay in memory, what highdicom asks for and `read_series` knows."""
    first = headers[0]
    for name in _MAY_BE_EMPTY:
        if name not in first:
            setattr(first, name, "")
    if "PerFrameFunctionalGroupsSequence" in first:
        shared, own = first.SharedFunctionalGroupsSequence[0], first.PerFrameFunctionalGroupsSequence[0]
        for name in ("PlaneOrientationSequence", "PixelMeasuresSequence"):
            if name not in shared and name in own:  # frames of a series differ in neither, see `read_series`
                setattr(shared, name, own[name].value)
        return
    for header in headers:
        header.ImageOrientationPatient = first.ImageOrientationPatient  # they may differ by what was rounded
        if not header.get("SliceThickness"):
            header.SliceThickness = round(_distance(series), 9)


def _distance(series: Series) -> float:
    """Return how many mm lie between slices."""
    return float(np.linalg.norm(series.affine[:3, 2]))
