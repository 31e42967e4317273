"""Segments: DICOM segmentations and masks read as labels in the grid of the series that they were drawn on."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from semivox.data.formats import read_raw
from semivox.errors import DatasetError, GeometryError
from semivox.exchange.frames import read_header
from semivox.exchange.series import Series
from semivox.files import refuse_few_handles

ON_GRID = 0.05
"""A segmentation lies on its series' grid where no corner is farther than this share of a voxel from a voxel."""
_LPS_OF_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True)
class Segments:
    """What a segmentation says of itself.

    Attributes:
        path: the file.
        series: SeriesInstanceUID of the series that it was drawn on.
        names: label of each segment, by its number.
        codes: (category, type) of each label, each as (value, scheme, meaning).
    """

    path: Path
    series: str
    names: Mapping[int, str]
    codes: Mapping[str, tuple[tuple[str, ...], tuple[str, ...]]]


def read_segments(paths: Sequence[Path], series: Sequence[Series]) -> list[Segments]:
    """Return what segmentations say of themselves; no pixel is read.

    Raises:
        DatasetError: one cannot be used.
    """
    known = {one.uid for one in series}
    return [_described(path, known) for path in paths]


def _described(path: Path, known: set[str]) -> Segments:
    header = read_header(path)
    if header.get("SegmentationType") == "FRACTIONAL":
        raise DatasetError(
            f"{path}: found a fractional segmentation, expected one whose voxels belong to a segment or not; export it "
            "as binary"
        )
    uids = {str(item.SeriesInstanceUID) for item in header.get("ReferencedSeriesSequence", ())} & known
    if len(uids) != 1:
        raise DatasetError(
            f"{path}: found a segmentation of {len(uids)} series of this folder, expected one; put it beside the "
            "series that it was drawn on, or take it away"
        )
    names, codes = {}, {}
    for segment in header.SegmentSequence:
        number = int(segment.get("SegmentNumber", 0))
        if number:  # a label map may describe its background, which is 0
            name = names[number] = " ".join(str(segment.SegmentLabel).split())
            codes[name] = (
                _code(segment.SegmentedPropertyCategoryCodeSequence[0]),
                _code(segment.SegmentedPropertyTypeCodeSequence[0]),
            )
    return Segments(path, uids.pop(), names, codes)


def _code(item: Any) -> tuple[str, ...]:
    return str(item.CodeValue), str(item.CodingSchemeDesignator), str(item.CodeMeaning)


def label_of(chosen: Sequence[Segments], series: Series, values: Mapping[str, int]) -> np.ndarray:
    """Return the label (columns, rows, slices), uint8, that segmentations of a series make together.

    Args:
        chosen: of this series.
        series: whose grid the label takes.
        values: of each name in the label.

    Raises:
        DatasetError: a file cannot be read, or segments overlap.
        GeometryError: a segmentation does not lie on the series' grid.
    """
    label = np.zeros(series.shape, np.uint8)
    for segments in chosen:
        places, numbers = _foreground(segments, series)
        value_of = np.zeros(max(segments.names) + 1, np.uint8)
        for number, name in segments.names.items():
            value_of[number] = values[name]
        if label[places].any():
            raise DatasetError(
                f"{segments.path}: found segments that overlap those of another segmentation of its series, expected "
                "one class for each voxel; keep one of the files"
            )
        label[places] = value_of[numbers]
    return label


def _foreground(segments: Segments, series: Series) -> tuple[tuple[np.ndarray, ...], np.ndarray]:
    """Return the indices in the series' grid, and the segment numbers, of all voxels of a segmentation."""
    from highdicom.seg import Segmentation

    try:
        volume = Segmentation.from_dataset(read_header(segments.path, pixels=True), copy=False).get_volume(
            combine_segments=True, dtype=np.uint16
        )
    except Exception as error:  # each fault of a file has an error of its own
        refuse_few_handles(error)
        raise DatasetError(
            f"{segments.path}: found a segmentation that cannot be read ({' '.join(str(error).split())}), expected "
            "even slices and segments that do not overlap; export it anew"
        ) from error
    whole = _whole_steps(volume.affine, volume.array.shape, series)
    if whole is None:
        raise _off_grid(segments.path, series, "another grid")
    found = np.argwhere(volume.array)  # (N, 3)
    places = found @ whole[:3, :3].T + whole[:3, 3]
    if (places < 0).any() or (places >= series.shape).any():
        raise _off_grid(segments.path, series, "voxels outside the series")
    return tuple(places.T), volume.array[tuple(found.T)]


def in_series(path: Path, series: Series) -> np.ndarray:
    """Return the values (columns, rows, slices) of a scan or mask of a series, whatever order its file's axes have.

    Raises:
        DatasetError: the file cannot be read, or has several channels.
        GeometryError: it is not the series' grid, voxel by voxel.
    """
    raw = read_raw(path)
    assert raw.array is not None  # it was read with its pixels
    if raw.channels != 1:
        raise DatasetError(f"{path}: found {raw.channels} channels, expected one, as a DICOM series has; take it away")
    whole = _whole_steps(_LPS_OF_RAS @ raw.affine, raw.shape, series)
    if whole is None:
        raise _off_grid(path, series, "another grid")
    axes = np.abs(whole[:3, :3]).argmax(1)
    first, last = whole[:3, 3], whole[:3, :3] @ (np.array(raw.shape) - 1) + whole[:3, 3]
    turned = raw.array[..., 0].transpose(axes)
    if turned.shape != series.shape or np.minimum(first, last).any():
        raise _off_grid(path, series, f"{' x '.join(map(str, raw.shape))} voxels in another place")
    return np.flip(turned, tuple(axis for axis in range(3) if last[axis] < first[axis]))


def _whole_steps(affine: np.ndarray, shape: Sequence[int], series: Series) -> np.ndarray | None:
    """Return what leads from voxels of a grid to those of a series, (4, 4) whole numbers; None where some lie between.

    Args:
        affine: (4, 4) from the grid's voxels to LPS+ mm.
        shape: of the grid.
        series: whose voxels are wanted, of the same size in another order of axes.
    """
    moved = np.linalg.inv(series.affine) @ affine
    whole = np.rint(moved)
    corners = np.array([[*np.array(corner) * (np.array(shape) - 1), 1] for corner in np.ndindex(2, 2, 2)])
    turn = np.abs(whole[:3, :3])
    if np.abs((moved - whole) @ corners.T).max() > ON_GRID or not (turn.sum(0) == 1).all() or turn.max() > 1:
        return None
    return whole.astype(int)


def _off_grid(path: Path, series: Series, found: str) -> GeometryError:
    return GeometryError(
        f"{path}: found {found}, expected the voxels of its series, {series.where}; resample it to them"
    )
