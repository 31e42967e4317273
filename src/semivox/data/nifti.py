"""NIfTI files: nibabel understands the header, the values are read here, to the last byte of the file.

nibabel stops reading a .nii.gz when the array is full, before the checksum that tells whether it is damaged.
"""

import logging
import math
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
from nibabel.volumeutils import apply_read_scaling

from semivox.data.sizes import refuse_promise
from semivox.data.streams import MOST_DEFLATED, filled, unpacked
from semivox.errors import DatasetError

_SILENT = logging.getLogger(__name__)
_SILENT.setLevel(logging.CRITICAL + 1)  # what nibabel mends in a header, it would print at each reading
_KINDS = (nib.Nifti1Header, nib.Nifti2Header)


def read_header(path: Path) -> Any:
    """Return a NIfTI's header, without extensions, once the file's size fits it.

    Raises:
        DatasetError: values of a type that is no plain number.
        Exception: whatever a damaged file makes its readers raise.
    """
    header = _header(path)
    if header.get_data_dtype().kind not in "biuf":
        raise DatasetError(
            f"{path}: found values of type {header.get_data_dtype()}, expected plain integers or floats; convert it"
        )
    if min(header.get_data_shape(), default=0) > 0:  # what has no voxels is refused by its shape
        packed = _is_packed(path)
        refuse_promise(_end(header), path.stat().st_size, most=MOST_DEFLATED if packed else 1, exact=not packed)
    return header


def read_values(path: Path, header: Any) -> np.ndarray:
    """Return a NIfTI's values in the shape of its header, scaled as it says; an unpacked file is memory-mapped.

    Raises:
        Exception: whatever a damaged file raises; of a packed one, each damaged byte.
    """
    if _is_packed(path):
        with path.open("rb") as file:
            stored: np.ndarray = filled(unpacked(file), _end(header))
    else:
        stored = np.memmap(path, np.uint8, mode="c")
    values = np.ndarray(header.get_data_shape(), header.get_data_dtype(), stored, header.get_data_offset(), order="F")
    slope, inter = (np.float64(default if given is None else given)
                    for given, default in zip(header.get_slope_inter(), (1, 0), strict=True))  # fmt: skip
    return apply_read_scaling(values, slope, inter)  # with nibabel's own types, so that every value is its own


def _is_packed(path: Path) -> bool:
    return path.suffix.lower() == ".gz"


def _header(path: Path) -> Any:
    longest = max(kind.sizeof_hdr for kind in _KINDS)
    with path.open("rb") as file:
        if _is_packed(path):
            block = bytearray()
            for piece in unpacked(file, piece_size=longest):
                block += piece
                if len(block) >= longest:
                    break
        else:
            block = bytearray(file.read(longest))
    for kind in _KINDS:
        if len(block) >= kind.sizeof_hdr and kind.may_contain_header(bytes(block)):
            header = kind(bytes(block[: kind.sizeof_hdr]), check=False)
            header.check_fix(_SILENT)
            return header
    raise ValueError("it does not start as a NIfTI does")


def _end(header: Any) -> int:
    """Return the bytes of the unpacked file."""
    sides = (int(side) for side in header.get_data_shape())
    return int(header.get_data_offset()) + math.prod(sides) * int(header.get_data_dtype().itemsize)
