"""Series: the frames of a DICOM series as one volume, sorted by their place in space, and each fault of their geometry.

Neither names of files nor InstanceNumber say where a slice lies: its position along the normal of its plane does.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from semivox.data.faults import Fault, sentences
from semivox.data.sizes import refuse_size
from semivox.errors import DatasetError, one_line
from semivox.exchange.frames import Found, Frame, find_frames, read_header, require_dicom
from semivox.files import refuse_few_handles

DIRECTION_TOLERANCE = 1e-3
"""Slices lie in one direction where no cosine differs by more."""
SAME_PLACE = 1e-2
"""Slices that are no farther apart than this many mm lie in one place."""
UNEVEN = 0.02
"""Slices are even where each is no farther from its place than this share of the distance between slices."""
TILT = 0.01
"""Slices stand straight on each other where the line through them has a smaller share across their normal."""
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class Series:
    """A volume.

    Attributes:
        uid: SeriesInstanceUID.
        patient: PatientID, or where that is empty StudyInstanceUID.
        modality: such as "CT".
        frames: one a slice, in order along the normal.
        affine: (4, 4) float64 from (column, row, slice) to LPS+ mm.
    """

    uid: str
    patient: str
    modality: str
    frames: tuple[Frame, ...]
    affine: np.ndarray

    @property
    def shape(self) -> tuple[int, int, int]:
        """Columns, rows and slices."""
        rows, columns = self.frames[0].shape
        return columns, rows, len(self.frames)

    @property
    def affine_ras(self) -> np.ndarray:
        """The affine to RAS+ mm, as NIfTI has it."""
        return _LPS_TO_RAS @ self.affine

    @property
    def where(self) -> str:
        """Where its files lie, in words."""
        return _where(self.frames)

    def voxels(self) -> np.ndarray:
        """Return the values (columns, rows, slices) with slope and intercept: int16 or int32 where whole, else float32.

        Raises:
            DatasetError: pixels cannot be read, or the free memory does not hold them.
        """
        whole = all(float(number).is_integer() for frame in self.frames for number in (frame.slope, frame.intercept))
        kind = np.int32 if whole else np.float32
        refuse_size(self.frames[0].path, self.shape, 1, np.dtype(kind).itemsize)
        values = np.empty(self.shape, kind)
        places = defaultdict(list)
        for place, frame in enumerate(self.frames):
            places[frame.path].append((place, frame))
        for path, chosen in places.items():
            stored = _stored(path)
            for place, frame in chosen:
                values[..., place] = (stored[frame.index] * frame.slope + frame.intercept).T
        small = np.iinfo(np.int16)
        fits = whole and values.min() >= small.min and values.max() <= small.max
        return values.astype(np.int16) if fits else values


def _stored(path: Path) -> np.ndarray:
    """Return the stored values (frames, rows, columns) of a file."""
    try:
        pixels = read_header(path, pixels=True).pixel_array
    except Exception as error:  # each decoder has its own errors
        refuse_few_handles(error)
        raise DatasetError(
            f"{path}: found pixels that cannot be read ({one_line(error)}), expected a whole image in a known "
            "compression; copy it again from its source"
        ) from error
    return pixels.reshape(-1, *pixels.shape[-2:])


def read_series(tree: Path) -> tuple[list[Series], Found]:
    """Return the volumes of a folder and its subfolders, in order of patient and SeriesInstanceUID; no pixel is read.

    Raises:
        MissingExtraError: the packages for DICOM are not installed.
        DatasetError: there is no volume, or one cannot be used; the message lists everything that is wrong.
    """
    require_dicom()
    found = find_frames(tree)
    faults, volumes = found.faults, []
    for uid, frames in found.frames.items():
        made = _volume(uid, frames, found)
        if isinstance(made, Fault):
            faults.append(made)
        else:
            volumes.append(made)
    if faults:
        raise DatasetError(sentences(faults))
    if not volumes:
        told = ", ".join(f"{count} {kind}" for kind, count in found.passed_over.items()) or "no DICOM file"
        raise DatasetError(f"{tree}: found {told}, expected DICOM files of series of slices; check the path")
    return _ordered(volumes), found


def _ordered(volumes: Sequence[Series]) -> list[Series]:
    first: dict[str, str] = {}
    for series in volumes:
        first[series.patient] = min(first.get(series.patient, series.uid), series.uid)
    return sorted(volumes, key=lambda series: (first[series.patient], series.uid))


def _volume(uid: str, frames: list[Frame], found: Found) -> Series | Fault:
    fault = _mixed(frames)
    if fault:
        return fault
    row, column = frames[0].orientation[:3], frames[0].orientation[3:]
    normal = np.cross(row, column)
    frames = sorted(frames, key=lambda frame: float(frame.position @ normal))
    fault = _misplaced(frames, normal)
    if fault:
        return fault
    first = frames[0]
    affine = np.eye(4)
    affine[:3, 0] = row * first.spacing[1]
    affine[:3, 1] = column * first.spacing[0]
    affine[:3, 2] = _step(frames, normal)
    affine[:3, 3] = first.position
    return Series(uid, found.patients[uid], found.modalities[uid], tuple(frames), affine)


def _step(frames: Sequence[Frame], normal: np.ndarray) -> np.ndarray:
    """Return the way (3,) in mm from one slice to the next."""
    if len(frames) == 1:
        return normal * (frames[0].thickness or 1)
    return (frames[-1].position - frames[0].position) / (len(frames) - 1)


def _mixed(frames: Sequence[Frame]) -> Fault | None:
    """Return what is wrong where frames differ in what all slices of a volume share."""
    first = frames[0]
    cosines = first.orientation.reshape(2, 3)
    if np.abs(cosines @ cosines.T - np.eye(2)).max() > DIRECTION_TOLERANCE:
        return _fault(frames, "direction cosines", str(first.orientation.tolist()),
                      "two directions of length 1 at right angles", "export the series anew")  # fmt: skip
    for frame in frames:
        if np.abs(frame.orientation - first.orientation).max() > DIRECTION_TOLERANCE:
            return _fault(frames, "slices in several directions", f"{first.path.name} and {frame.path.name}",
                          "slices that are parallel", "put each stack into a folder and series of its own")  # fmt: skip
        if frame.shape != first.shape or not np.allclose(frame.spacing, first.spacing, rtol=1e-3):
            return _fault(
                frames, "slices of several sizes",
                f"{_size(first)} in {first.path.name}, {_size(frame)} in {frame.path.name}",
                "rows, columns and pixels of one size", "put each stack into a folder and series of its own",
            )  # fmt: skip
    if len(frames) == 1 and first.thickness is None:
        return _fault(frames, "one slice without a thickness", "one slice", "SliceThickness, or several slices",
                      "export the whole series")  # fmt: skip
    return None


def _misplaced(frames: Sequence[Frame], normal: np.ndarray) -> Fault | None:
    """Return what is wrong with where sorted slices lie."""
    places = np.array([frame.position @ normal for frame in frames])
    gaps = np.diff(places)
    if not gaps.size:
        return None
    if gaps.min() <= SAME_PLACE:
        at = int(gaps.argmin())
        return _fault(
            frames, "doubled slices", f"{(gaps <= SAME_PLACE).sum()} of {len(frames)} slices in the place of "
            f"another, such as {_name(frames[at])} and {_name(frames[at + 1])}", "one slice in each place",
            "remove copies, or give each time point or echo a series of its own",
        )  # fmt: skip
    step = frames[-1].position - frames[0].position
    across = np.linalg.norm(step - (step @ normal) * normal) / np.linalg.norm(step)
    if across > TILT:
        return _fault(
            frames, "tilted slices", f"a stack that leans by {np.degrees(np.arcsin(across)):.1f} degrees",
            "slices that stand straight on each other", "resample it to a straight grid (a tilted gantry), such as "
            "with dcm2niix",
        )  # fmt: skip
    return _uneven(frames, places, gaps)


def _uneven(frames: Sequence[Frame], places: np.ndarray, gaps: np.ndarray) -> Fault | None:
    even = np.linspace(places[0], places[-1], len(places))
    allowed = UNEVEN * gaps.mean() + SAME_PLACE  # headers round positions
    straight = np.linspace(frames[0].position, frames[-1].position, len(frames))
    off = np.linalg.norm([frame.position for frame in frames] - straight, axis=1)
    if max(off.max(), np.abs(places - even).max()) <= allowed:
        return None
    steps = gaps / gaps.min()
    holes = np.rint(steps) - 1
    if np.abs(steps - np.rint(steps)).max() <= 5 * UNEVEN and holes.max() >= 1:
        at = int(holes.argmax())
        return _fault(
            frames, "missing slices", f"{int(holes.sum())} missing, such as between {_name(frames[at])} and "
            f"{_name(frames[at + 1])}", f"a slice each {gaps.min():.4g} mm", "export the whole series",
        )  # fmt: skip
    return _fault(
        frames, "unevenly spaced slices", f"{gaps.min():.4g} to {gaps.max():.4g} mm between slices",
        "one distance between slices, in one line", "resample it to an even grid, or export an even reconstruction",
    )  # fmt: skip


def _fault(frames: Sequence[Frame], what: str, found: str, expected: str, fix: str) -> Fault:
    return Fault("error", _where(frames), what, found, expected, fix)


def _where(frames: Sequence[Frame]) -> str:
    first = min(frame.path for frame in frames)
    count = len({frame.path for frame in frames})
    return str(first) if count == 1 else f"{first.parent} (series of {count} files, the first {first.name})"


def _name(frame: Frame) -> str:
    return f"{frame.path.name}, frame {frame.index + 1}" if frame.index else frame.path.name


def _size(frame: Frame) -> str:
    rows, columns = frame.shape
    return f"{rows} x {columns} of {frame.spacing[0]:.4g} x {frame.spacing[1]:.4g} mm"
