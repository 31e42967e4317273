"""DICOM files of scans that nobody had, with all that must not leave the hospital in their headers."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import CTImageStorage, EnhancedMRImageStorage, ExplicitVRLittleEndian, generate_uid

SECRETS = {
    "PatientName": "Doe^Jane", "PatientID": "HOSP-4711", "PatientBirthDate": "19611231", "StudyDate": "20230405",
    "SeriesDate": "20230406", "AccessionNumber": "ACC-0815", "InstitutionName": "St Elsewhere",
    "ReferringPhysicianName": "House^Gregory", "StudyDescription": "Jane's liver", "StudyID": "ST-99",
}  # fmt: skip
AXIAL = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
OBLIQUE = (1.0, 0.0, 0.0, 0.0, 0.8, -0.6)
ORIGIN, SPACING, THICKNESS = (-30.0, 12.5, 40.0), (0.5, 0.75), 2.0  # mm; between rows, between columns; of slices


def header(sop_class: str, *, patient: str = "HOSP-4711", series: str = "", modality: str = "CT") -> Dataset:
    """Return the header of a new object, without geometry."""
    made = Dataset()
    for name, value in SECRETS.items():
        setattr(made, name, value)
    made.PatientID = patient
    made.PatientSex, made.StudyTime, made.Manufacturer = "F", "101112", "Scanners"
    made.Modality, made.SOPClassUID, made.SOPInstanceUID = modality, sop_class, generate_uid()
    made.StudyInstanceUID = generate_uid(entropy_srcs=[patient])
    made.SeriesInstanceUID = series or generate_uid()
    made.FrameOfReferenceUID = generate_uid(entropy_srcs=[patient, "frame"])
    made.SeriesNumber, made.InstanceNumber, made.PositionReferenceIndicator = 1, 1, ""
    made.preamble, made.file_meta = bytes(128), FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    return made


def put_pixels(made: Dataset, values: np.ndarray) -> None:
    """Store int16 values ([frames,] rows, columns)."""
    made.Rows, made.Columns = values.shape[-2:]
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    made.BitsAllocated, made.BitsStored, made.HighBit, made.PixelRepresentation = 16, 16, 15, 1
    made.PixelData = np.ascontiguousarray(values, "<i2").tobytes()


def normal(orientation: Sequence[float]) -> np.ndarray:
    return np.cross(orientation[:3], orientation[3:])


def write_series(
    folder: Path,
    values: np.ndarray,
    *,
    orientation: Sequence[float] = AXIAL,
    places: Sequence[float] | None = None,
    lean: float = 0.0,
    slope: float = 1.0,
    intercept: float = 0.0,
    patient: str = "HOSP-4711",
    modality: str = "CT",
) -> list[Dataset]:
    """Write stored values (columns, rows, slices) as a file a slice, whose names and numbers tell nothing of places.

    Args:
        folder: of the files.
        values: int16.
        orientation: of rows and columns.
        places: mm along the normal of each slice; else 0, 2, 4 ...
        lean: mm along the columns by which each next slice is moved.
        slope: of stored values.
        intercept: of stored values.
        patient: PatientID.
        modality: of the series.
    """
    folder.mkdir(parents=True, exist_ok=True)
    series, made = generate_uid(), []
    count = values.shape[2]
    numbers = np.random.default_rng(3).permutation(count) + 1
    for index in range(count):
        one = header(CTImageStorage, patient=patient, series=series, modality=modality)
        one.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
        one.InstanceNumber = int(numbers[index])
        place = THICKNESS * index if places is None else places[index]
        position = np.array(ORIGIN) + place * normal(orientation) + index * lean * np.array(orientation[3:])
        one.ImagePositionPatient = [float(number) for number in position.round(6)]
        one.ImageOrientationPatient, one.PixelSpacing = list(orientation), list(SPACING)
        one.SliceThickness, one.RescaleSlope, one.RescaleIntercept = THICKNESS, slope, intercept
        put_pixels(one, values[..., index].T)
        one.save_as(folder / f"{numbers[index]:03d}.dcm", enforce_file_format=True)
        made.append(one)
    return made


def write_multiframe(folder: Path, values: np.ndarray, *, order: Sequence[int], slope: float = 1.0) -> Dataset:
    """Write stored values (columns, rows, slices) as one file with a frame a slice, in any order."""
    folder.mkdir(parents=True, exist_ok=True)
    one = header(EnhancedMRImageStorage, modality="MR")
    one.ImageType = ["ORIGINAL", "PRIMARY", "VOLUME", "NONE"]
    shared, orientation, measures, rescale = Dataset(), Dataset(), Dataset(), Dataset()
    orientation.ImageOrientationPatient = list(AXIAL)
    measures.PixelSpacing, measures.SliceThickness, measures.SpacingBetweenSlices = list(SPACING), 1.5, THICKNESS
    rescale.RescaleSlope, rescale.RescaleIntercept, rescale.RescaleType = slope, 0, "US"
    shared.PlaneOrientationSequence, shared.PixelMeasuresSequence = [orientation], [measures]
    shared.PixelValueTransformationSequence = [rescale]
    one.SharedFunctionalGroupsSequence = [shared]
    one.PerFrameFunctionalGroupsSequence = []
    for index in order:
        groups, plane = Dataset(), Dataset()
        plane.ImagePositionPatient = [ORIGIN[0], ORIGIN[1], ORIGIN[2] + THICKNESS * index]
        groups.PlanePositionSequence = [plane]
        one.PerFrameFunctionalGroupsSequence.append(groups)
    one.NumberOfFrames = len(order)
    put_pixels(one, values[..., list(order)].T)
    one.save_as(folder / "all.dcm", enforce_file_format=True)
    return one


def write_segmentation(
    folder: Path, sources: Sequence[Dataset], label: np.ndarray, *, names: Sequence[str], kind: str = "BINARY"
) -> Path:
    """Write a label (columns, rows, slices) of a series as a segmentation; slices without a segment have no frame."""
    from highdicom.seg import Segmentation, SegmentDescription
    from pydicom.sr.codedict import codes

    segments = [
        SegmentDescription(number, name, codes.SCT.Organ, codes.SCT.Liver, "MANUAL")
        for number, name in enumerate(names, 1)
    ]
    made = Segmentation(
        sources, np.ascontiguousarray(label.T), kind, segments, generate_uid(), 9, generate_uid(), 1, "Maker", "Model",
        "1", "1",
    )  # fmt: skip
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"seg_{generate_uid()[-8:]}.dcm"
    made.save_as(path)
    return path
