"""File formats: NIfTI by nibabel, NRRD and MHA by SimpleITK, pictures; arrays in the file's own axes, affines to RAS+.

A picture's axes are its rows, its columns and one slice, with spacing 1 and no orientation: a net sees it upright.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import SimpleITK

from semivox.data import nifti, payload, pictures
from semivox.data.pictures import is_picture
from semivox.data.sizes import refuse_size
from semivox.errors import DatasetError
from semivox.files import refuse_few_handles, whole_file

ENDINGS = (".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd", *pictures.ENDINGS)
"""The file endings that are read, in lower case; of pictures, .png alone is written, of .nhdr and .mhd neither."""

_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0, 1.0])


@dataclass(frozen=True, eq=False)
class RawFile:
    """A scan as its file has it.

    Attributes:
        shape: voxels along the file's own three axes.
        channels: values per voxel.
        affine: (4, 4) float64 from the file's voxel index to RAS+ mm.
        dtype: the stored type's name, or `pictures.PALETTE`.
        header: what writing back needs: the NIfTI header, or ITK's (spacing, origin, direction); None for a picture.
        array: (X, Y, Z, C) in the file's own axes; None where only the header was read.
    """

    shape: tuple[int, ...]
    channels: int
    affine: np.ndarray
    dtype: str
    header: Any
    array: np.ndarray | None = None


_Look = tuple[RawFile, int, Callable[[], np.ndarray]]
"""What a file's header says, the bytes of one stored value, and what reads all of them, in any shape."""


def ending(path: Path) -> str:
    """Return the file's ending out of `ENDINGS`, or an empty string."""
    name = Path(path).name.lower()
    return next((known for known in ENDINGS if name.endswith(known)), "")


def bare_name(path: Path) -> str:
    """Return the file's name without its folder and ending: ``a/b_0000.nii.gz`` -> ``b_0000``."""
    name = Path(path).name
    known = ending(path)
    return name[: len(name) - len(known)] if known else name


def mask_ending(path: Path) -> str:
    """Return the ending of a scan's mask: the scan's own, .png for any picture, .mha for .mhd and .nrrd for .nhdr."""
    return ".png" if is_picture(path) else payload.ENDINGS.get(ending(path), ending(path))


def read_raw(path: Path, *, pixels: bool = True) -> RawFile:
    """Return a file's geometry and, with `pixels`, its values, once its size and the memory fit what it promises.

    Raises:
        DatasetError: the file is absent, of another format, truncated, damaged or otherwise unreadable, its values lie
            in a file elsewhere, it has no voxels, or more than the free memory holds.
    """
    path = Path(path)
    if not ending(path):
        raise DatasetError(f"{path}: found a file of unknown format, expected one of {', '.join(ENDINGS)}; convert it")
    if not path.is_file():
        raise DatasetError(f"{path}: found no such file, expected a scan; check the name")
    look = _look_at_nifti if ".nii" in ending(path) else _look_at_picture if is_picture(path) else _look_at_itk
    try:
        raw, value_size, values = look(path)
        refuse_size(path, raw.shape, raw.channels, value_size)
        return replace(raw, array=values().reshape(*raw.shape, raw.channels)) if pixels else raw
    except (MemoryError, DatasetError):
        raise
    except Exception as error:  # every reader has its own zoo: EOFError, zlib.error, ImageFileError, RuntimeError ...
        refuse_few_handles(error)
        reason = " ".join(str(error).rpartition("ITK ERROR: ")[-1].split()) or type(error).__name__
        raise DatasetError(
            f"{path}: found an unreadable or truncated file ({reason}), expected a whole {ending(path)} file; "
            "copy it again from its source"
        ) from error


def files_of(path: Path) -> tuple[Path, ...]:
    """Return the files that a scan's file stands for: itself, and the data file that a NRRD or MetaImage names.

    Raises:
        DatasetError: the data file is missing or lies elsewhere, or the header cannot be read.
    """
    if ending(path) not in payload.ENDINGS:
        return (path,)
    try:
        data = payload.find_payload(path).file
    except (OSError, ValueError) as error:
        if isinstance(error, DatasetError):
            raise
        raise DatasetError(f"{path}: found an unreadable header ({error}); copy it again from its source") from error
    return (path,) if data == path else (path, data)


def _look_at_nifti(path: Path) -> _Look:
    header = nifti.read_header(path)
    shape, channels = _spatial(path, header.get_data_shape())
    dtype, affine = header.get_data_dtype(), np.asarray(header.get_best_affine(), np.float64)
    return RawFile(shape, channels, affine, str(dtype), header), dtype.itemsize, lambda: nifti.read_values(path, header)


def _spatial(path: Path, shape: tuple[int, ...]) -> tuple[tuple[int, ...], int]:
    """Return a NIfTI's three sides and its channels: the fourth axis, or the fifth where ITK wrote a vector image."""
    sides = (*shape, 1, 1, 1)[: max(len(shape), 3)]
    if len([n for n in sides[3:] if n > 1]) > 1:
        raise DatasetError(
            f"{path}: found an array of shape {shape}, expected three axes and at most one of channels; "
            "store one time point, or one file per channel"
        )
    return tuple(int(n) for n in sides[:3]), math.prod(int(n) for n in sides[3:])


def _look_at_picture(path: Path) -> _Look:
    kind = pictures.read_kind(path)
    raw = RawFile((kind.rows, kind.columns, 1), kind.channels, np.eye(4), kind.dtype, None)
    return raw, max(kind.bits // 8, 1), lambda: pictures.read_pixels(path, kind)


def _look_at_itk(path: Path) -> _Look:
    found = payload.find_payload(path)  # before ITK, which would follow the header to any file
    reader = SimpleITK.ImageFileReader()
    reader.SetFileName(str(path))
    reader.ReadImageInformation()
    size, dimension, components = reader.GetSize(), reader.GetDimension(), reader.GetNumberOfComponents()
    shape = tuple((*size, 1)[:3])
    geometry = _three_axes(reader.GetSpacing(), reader.GetOrigin(), reader.GetDirection())
    value_size = SimpleITK.Image([1] * dimension, reader.GetPixelID(), components).GetSizeOfPixelComponent()
    bytes_of_values = math.prod(size) * components * value_size
    payload.refuse_misfit(found, bytes_of_values, value_size)

    def values() -> np.ndarray:
        payload.verify_payload(found, bytes_of_values)
        return _itk_values(reader.Execute(), dimension)

    dtype = SimpleITK.GetPixelIDValueAsString(reader.GetPixelID())
    channels = components * (size[3] if dimension == 4 else 1)
    return RawFile(shape, channels, _itk_affine(*geometry), dtype, geometry), value_size, values


def _itk_values(image: SimpleITK.Image, dimension: int) -> np.ndarray:
    values = SimpleITK.GetArrayFromImage(image)  # ([T,] [Z,] Y, X [, C])
    return np.moveaxis(values, range(dimension), range(dimension)[::-1])


def _three_axes(spacing: tuple, origin: tuple, direction: tuple) -> tuple[tuple, tuple, tuple]:
    """Return ITK's geometry in three axes: a picture gets a third one of 1 mm, a fourth axis is dropped."""
    given = len(spacing)
    kept = min(given, 3)
    matrix = np.eye(3)
    matrix[:kept, :kept] = np.reshape(direction, (given, given))[:kept, :kept]
    return (*spacing, 1.0)[:3], (*origin, 0.0)[:3], tuple(float(value) for value in matrix.ravel())


def _itk_affine(spacing: tuple, origin: tuple, direction: tuple) -> np.ndarray:
    affine = np.eye(4)
    affine[:3, :3] = np.reshape(direction, (3, 3)) * np.asarray(spacing)
    affine[:3, 3] = origin
    return _LPS_TO_RAS @ affine


def _itk_geometry(affine: np.ndarray) -> tuple[tuple, tuple, tuple]:
    matrix = _LPS_TO_RAS @ affine
    spacing = np.linalg.norm(matrix[:3, :3], axis=0)
    return tuple(spacing.tolist()), tuple(matrix[:3, 3].tolist()), tuple((matrix[:3, :3] / spacing).ravel().tolist())


def write_raw(array: np.ndarray, path: Path, *, affine: np.ndarray, header: Any) -> None:
    """Write (X, Y, Z) or (X, Y, Z, C) values in the file's own axes; whole or not at all.

    Args:
        array: the values; their dtype is the file's.
        path: its ending decides the format.
        affine: from the file's voxel index to RAS+ mm.
        header: a `RawFile`'s; used where it is of the format that is written.

    Raises:
        DatasetError: the ending names no format that can be written.
        RunError: the file cannot be written.
    """
    path = Path(path)
    if not ending(path):
        raise DatasetError(f"{path}: found an unknown ending, expected one of {', '.join(ENDINGS)}; rename the output")
    if ending(path) != payload.ENDINGS.get(ending(path), ending(path)):
        raise DatasetError(
            f"{path}: found an output whose values would lie in a file beside it, expected {mask_ending(path)}, "
            "which is one file; rename the output"
        )
    with whole_file(path) as temporary:
        _write(array, temporary, affine, header)


def _write(array: np.ndarray, path: Path, affine: np.ndarray, header: Any) -> None:
    if ".nii" in ending(path):
        nib.save(nib.Nifti1Image(array, affine, _nifti_header(header, array.dtype)), path)
        return
    if is_picture(path):
        pictures.write_indices(array[..., 0] if array.shape[2:] == (1,) else array, path)
        return
    # A vector image has the channels last in both libraries; only the three spatial axes turn round.
    image = SimpleITK.GetImageFromArray(np.ascontiguousarray(np.moveaxis(array, (0, 1, 2), (2, 1, 0))), array.ndim == 4)
    spacing, origin, direction = header if isinstance(header, tuple) else _itk_geometry(affine)
    image.SetSpacing(spacing)
    image.SetOrigin(origin)
    image.SetDirection(direction)
    SimpleITK.WriteImage(image, str(path), useCompression=True)


def _nifti_header(header: Any, dtype: np.dtype) -> nib.Nifti1Header | None:
    """Return the header with the source's geometry, but none of its scaling, window, intent or private extensions."""
    if not isinstance(header, nib.Nifti1Header):
        return None
    clean = nib.Nifti1Header.from_header(header, check=False)
    clean.set_data_dtype(dtype)
    clean.set_slope_inter(1, 0)
    clean.set_intent("none")
    clean["cal_max"] = clean["cal_min"] = 0
    clean["aux_file"] = clean["db_name"] = clean["descrip"] = b""
    clean.extensions.clear()
    return clean
