"""Volumes: scans in the closest-to-RAS+ orientation with spacing and affine, and back to each file's own grid.

Reorientation permutes and flips axes, it never resamples: copies of a scan that are stored in other orders become the
same array, bit for bit.
"""

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np

from semivox.data.formats import ENDINGS, bare_name, ending, mask_ending, read_raw, write_raw
from semivox.data.orientation import canonical
from semivox.data.pictures import PALETTE, is_lossy, is_picture
from semivox.errors import DatasetError, GeometryError
from semivox.files import listed

__all__ = [
    "ENDINGS", "Grid", "Header", "Source", "Volume", "bare_name", "content_hash", "differences_of", "direction",
    "disagreements", "ending", "has_palette", "is_lossy", "is_picture", "mask_ending", "mask_type", "not_whole",
    "read_file", "read_header", "read_image", "read_label", "write_back", "write_maps", "write_mask",
]  # fmt: skip

SPACING_TOLERANCE = 1e-3
"""Two spacings agree within this many mm."""
ORIGIN_TOLERANCE = 1e-2
"""Two origins agree within this many mm along each world axis."""
DIRECTION_TOLERANCE = 1e-3
"""Two direction matrices agree within this in each cosine."""
WHOLE_TOLERANCE = 1e-3
"""A label value within this of a whole number is that number: scale factors in float32 headers round."""


@dataclass(frozen=True, eq=False)
class Header:
    """What a file says of itself without its pixels; spatial axes in canonical (closest-to-RAS+) order.

    Attributes:
        path: the file.
        shape: voxels along x, y, z.
        spacing: mm along x, y, z, rounded to 1e-4 mm.
        affine: (4, 4) float64, canonical voxel index to RAS+ mm.
        channels: values per voxel.
        dtype: name of the stored type.
    """

    path: Path
    shape: tuple[int, ...]
    spacing: tuple[float, ...]
    affine: np.ndarray
    channels: int
    dtype: str


@dataclass(frozen=True, eq=False)
class Source:
    """Where a volume comes from, and all that writing into its grid needs.

    Attributes:
        path: the file (the first one of a scan with a file per channel).
        shape: voxels along the file's own axes.
        affine: (4, 4) float64, the file's own voxel index to RAS+ mm.
        axes: (3, 2) nibabel orientation: for each file axis, its canonical axis and 1 or -1 for kept or flipped.
        header: see `semivox.data.formats.RawFile`.
        dtype: name of the stored type.
    """

    path: Path
    shape: tuple[int, ...]
    affine: np.ndarray
    axes: np.ndarray
    header: Any
    dtype: str


@dataclass(frozen=True, eq=False)
class Volume:
    """An image (C, X, Y, Z) or a label (X, Y, Z) in canonical axes.

    Attributes:
        array: float32 (C, X, Y, Z) for images, int16 or int32 (X, Y, Z) for labels.
        affine: (4, 4) float64, canonical voxel index to RAS+ mm.
        spacing: mm along x, y, z, rounded to 1e-4 mm.
        source: the file's own grid.
    """

    array: np.ndarray
    affine: np.ndarray
    spacing: tuple[float, ...]
    source: Source

    @property
    def path(self) -> Path:
        """The file that it comes from (the first of several)."""
        return self.source.path

    @property
    def shape(self) -> tuple[int, ...]:
        """Voxels along x, y, z."""
        return self.array.shape[-3:]

    @property
    def channels(self) -> int:
        """Values per voxel."""
        return self.array.shape[0] if self.array.ndim == 4 else 1


Grid = Header | Volume
"""What has a path, a shape, a spacing, an affine and channels, and can be compared."""


def read_header(path: Path) -> Header:
    """Return a file's header; no pixel is read.

    Raises:
        DatasetError: the file cannot be read.
        GeometryError: its affine says nothing.
    """
    try:
        found = os.stat(path)
    except OSError:
        return _header(Path(path), 0, 0)  # says what is wrong
    return _header(Path(path), found.st_size, found.st_mtime_ns)


@lru_cache(maxsize=100_000)  # a start reads each header several times, and 10,000 scans take half a minute
def _header(path: Path, size: int, changed: int) -> Header:
    raw = read_raw(path, pixels=False)
    axes, affine, spacing = canonical(path, raw)
    affine.flags.writeable = False
    shape = tuple(int(raw.shape[axis]) for axis in np.argsort(axes[:, 0]))
    return Header(path, shape, spacing, affine, raw.channels, raw.dtype)


def read_file(path: Path) -> Volume:
    """Return one file as (C, X, Y, Z) in the type of its values, unchecked; what `check` looks at.

    Raises:
        DatasetError: the file cannot be read.
        GeometryError: its affine says nothing.
    """
    raw = read_raw(path)
    axes, affine, spacing = canonical(path, raw)
    array = np.moveaxis(nib.orientations.apply_orientation(raw.array, axes), -1, 0)
    return Volume(array, affine, spacing, Source(Path(path), raw.shape, raw.affine, axes, raw.header, raw.dtype))


def read_image(paths: Path | str | Sequence[Path | str]) -> Volume:
    """Return a scan as float32 (C, X, Y, Z): one file per channel, or one file with all channels.

    Raises:
        DatasetError: a file cannot be read or holds indices of a palette, or one of several files has more than one
            channel.
        GeometryError: the channels do not lie on one grid.
    """
    volumes = [read_file(path) for path in listed(paths)]
    for volume in volumes:
        if has_palette(volume):
            raise DatasetError(f"{volume.path}: found indices of a palette, expected intensities; convert it to RGB")
    first = volumes[0]
    for volume in volumes[1:]:
        for what, found, expected in disagreements(volume, first):
            raise GeometryError(
                f"{volume.path}: {what} differs from that of channel {first.path.name}: found {found}, "
                f"expected {expected}; resample the channels onto one grid"
            )
    for volume in volumes:
        if len(volumes) > 1 and len(volume.array) > 1:
            raise DatasetError(
                f"{volume.path}: found {len(volume.array)} channels in one of {len(volumes)} files, expected "
                "one channel per file, or one file with all; split it"
            )
    with np.errstate(over="ignore"):  # beyond float32 is inf, and inf is a fault that `check` names
        array = np.concatenate([volume.array.astype(np.float32) for volume in volumes])
    return Volume(np.ascontiguousarray(array), first.affine, first.spacing, first.source)


def read_label(path: Path) -> Volume:
    """Return a label (X, Y, Z) as int16, or int32 where its values need it; whole numbers in float files are fine.

    Raises:
        DatasetError: the file cannot be read, is a JPEG, has several channels, or values that are not whole numbers.
        GeometryError: its affine says nothing.
    """
    if is_lossy(path):
        raise DatasetError(f"{path}: found a JPEG, expected a label whose values are exact; export it as PNG")
    volume = read_file(path)
    if len(volume.array) != 1:
        raise DatasetError(
            f"{path}: found {len(volume.array)} channels, expected a label of one; store class indices, not one-hot"
        )
    values = volume.array[0]
    broken = not_whole(values)
    if broken.size:
        raise DatasetError(
            f"{path}: found {broken.size} voxels that are no whole number (such as {broken[0]:.6g}), "
            "expected class indices; resample labels by nearest neighbour"
        )
    kind = np.int16 if values.min(initial=0) >= -(2**15) and values.max(initial=0) < 2**15 else np.int32
    array = np.ascontiguousarray((np.rint(values) if values.dtype.kind == "f" else values).astype(kind))
    return Volume(array, volume.affine, volume.spacing, volume.source)


def has_palette(grid: Grid) -> bool:
    """Return whether a file's values are indices of a palette: right for a label, wrong for an image."""
    return (grid.dtype if isinstance(grid, Header) else grid.source.dtype) == PALETTE


def not_whole(values: np.ndarray) -> np.ndarray:
    """Return the values (N,) that are no whole number within `WHOLE_TOLERANCE` and 32 bits; NaN and inf are none."""
    if values.dtype.kind in "iub" and values.dtype.itemsize <= 2:
        return values[:0].ravel()
    numbers = values.astype(np.float64)
    with np.errstate(invalid="ignore"):
        whole = (np.abs(numbers - np.rint(numbers)) <= WHOLE_TOLERANCE) & (np.abs(numbers) < 2**31)
    return values[~whole]


def disagreements(found: Grid, expected: Grid) -> list[tuple[str, str, str]]:
    """Return (what, found, expected) for each of shape, spacing, origin and direction in which two grids differ.

    Both are in canonical axes, so a label that is stored in another order than its image agrees with it.
    Tolerances: shape exact, spacing 0.001 mm, origin 0.01 mm, direction cosines 0.001.
    """
    pairs = [("shape", np.asarray(found.shape), np.asarray(expected.shape), 0.0)]
    pairs.append(("spacing in mm", np.asarray(found.spacing), np.asarray(expected.spacing), SPACING_TOLERANCE))
    pairs.append(("origin in mm", found.affine[:3, 3], expected.affine[:3, 3], ORIGIN_TOLERANCE))
    pairs.append(("direction", direction(found), direction(expected), DIRECTION_TOLERANCE))
    # Rounding to 1e-4 mm must not decide on a difference that is the tolerance itself.
    return [(what, _shown(a), _shown(b)) for what, a, b, most in pairs if np.abs(a - b).max() > most + 1e-9]


def differences_of(found: Grid, expected: Grid) -> str:
    """Return in words how one grid differs from another; nothing where they agree."""
    told = disagreements(found, expected)
    return "; ".join(f"{name}: found {own}, expected {other}" for name, own, other in told)


def direction(grid: Grid) -> np.ndarray:
    """Return the (3, 3) cosines: column j is the world direction of canonical axis j."""
    matrix = grid.affine[:3, :3]
    return matrix / np.linalg.norm(matrix, axis=0)


def _shown(numbers: np.ndarray) -> str:
    return str(np.round(numbers, 4).tolist())


def write_mask(mask: np.ndarray, like: Volume, path: Path | str, *, values: Sequence[int] = ()) -> None:
    """Write a mask (X, Y, Z) of class values into the grid of the file that `like` came from, uint8 or wider if needed.

    Args:
        mask: the values.
        like: the scan, whose grid the mask takes.
        path: of the file.
        values: what masks of this kind may hold, so that all of them get one type.

    Raises:
        GeometryError: the mask has another shape than `like`.
        RunError: the file cannot be written; nothing half-written stays.
    """
    kind = mask_type([mask.min(initial=0), mask.max(initial=0), *values])
    write_back(mask.astype(kind, copy=False), like, Path(path))


def mask_type(values: Sequence[int]) -> np.dtype:
    """Return the type of files in which a mask of these values is written: uint8, or wider if needed."""
    kinds = (np.iinfo(kind) for kind in (np.uint8, np.int16, np.int32))
    return next(kind.dtype for kind in kinds if kind.min <= min(values) and max(values) <= kind.max)


def write_maps(maps: np.ndarray, like: Volume, path: Path) -> None:
    """Write maps (K, X, Y, Z), such as probabilities, as float32 into the grid of `like`'s file, K as the last axis.

    Raises:
        GeometryError: the maps have another shape than `like`.
        RunError: the file cannot be written; nothing half-written stays.
    """
    write_back(np.moveaxis(maps.astype(np.float32, copy=False), 0, -1), like, path)


def write_back(array: np.ndarray, like: Volume, path: Path) -> None:
    """Write canonical values (X, Y, Z[, K]) as they are, in the axis order and directions of `like`'s file.

    Raises:
        GeometryError: the values have another shape than `like`.
        RunError: the file cannot be written; nothing half-written stays.
    """
    if array.shape[:3] != like.shape:
        raise GeometryError(
            f"{path}: found values of shape {array.shape[:3]}, expected {like.shape} as in {like.source.path}; "
            "restore them to the scan's full grid first"
        )
    axes = like.source.axes
    rest = range(3, array.ndim)
    turned = np.transpose(array, (*axes[:, 0].tolist(), *rest))
    turned = np.flip(turned, tuple(axis for axis in range(3) if axes[axis, 1] < 0))
    write_raw(np.ascontiguousarray(turned), path, affine=like.source.affine, header=like.source.header)


def content_hash(array: np.ndarray) -> str:
    """Return the SHA-256 of a canonical image's shape and float32 values: the same for every copy of a scan.

    Compression, stored type and order of axes do not change it.
    """
    values = np.ascontiguousarray(array, np.float32) + np.float32(0)  # -0.0 becomes 0.0
    digest = hashlib.sha256(repr(tuple(int(n) for n in values.shape)).encode())
    digest.update(values.data)
    return digest.hexdigest()
