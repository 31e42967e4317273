"""DICOM, which only `semivox import` reads: recognised elsewhere, so that a person is told so."""

import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from shlex import quote

_ENDINGS = (".dcm", ".dicom", ".ima")
_LOOKED_AT = 1000  # files of a folder; a folder of a million other files is not opened file by file
_SIZE = 128  # bytes before the magic word


def first_dicom(path: Path) -> Path | None:
    """Return the first DICOM file that a path is or that a folder or its subfolders hold, or None."""
    files = [path] if path.is_file() else islice(walk(path), _LOOKED_AT)
    return next((file for file in files if is_dicom(file)), None)


def conversion(path: Path) -> str:
    """Return what to do with a file or folder of DICOM."""
    folder = path if path.is_dir() else path.parent
    return (
        f"make a data set of the series in it with `semivox import {quote(str(folder))} -o DATA`, and give that folder "
        "(its imagesTr, where scans are expected)"
    )


def walk(folder: Path) -> Iterator[Path]:
    """Yield every file in a folder and its subfolders, in order of their names."""
    for place, folders, names in os.walk(folder):
        folders.sort()
        yield from (Path(place, name) for name in sorted(names))


def is_dicom(file: Path) -> bool:
    """Return whether a file is DICOM by its ending or its first bytes."""
    if file.suffix.lower() in _ENDINGS or file.name.upper() == "DICOMDIR":
        return True
    if file.suffix and not file.suffix[1:].isdecimal():  # of another format; UIDs as names end in .NUMBER
        return False
    try:
        with file.open("rb") as handle:
            return handle.read(_SIZE + 4)[_SIZE:] == b"DICM"
    except OSError:
        return False
