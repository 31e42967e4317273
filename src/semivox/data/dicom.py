"""DICOM, which is not read yet: recognised, so that a person is told how to convert it."""

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
    files = [path] if path.is_file() else islice(_below(path), _LOOKED_AT)
    return next((file for file in files if _is_dicom(file)), None)


def conversion(path: Path) -> str:
    """Return what to do with a file or folder of DICOM."""
    folder = path if path.is_dir() else path.parent
    return (
        "DICOM is not read yet: convert every series to one NIfTI file, such as with `dcm2niix -z y -f %i_%s "
        f"-o NIFTI {quote(str(folder))}` (%i: patient, %s: series), and give the folder of these"
    )


def _below(folder: Path) -> Iterator[Path]:
    for place, folders, names in os.walk(folder):
        folders.sort()
        yield from (Path(place, name) for name in sorted(names))


def _is_dicom(file: Path) -> bool:
    if file.suffix.lower() in _ENDINGS or file.name.upper() == "DICOMDIR":
        return True
    if file.suffix and not file.suffix[1:].isdecimal():  # of another format; UIDs as names end in .NUMBER
        return False
    try:
        with file.open("rb") as handle:
            return handle.read(_SIZE + 4)[_SIZE:] == b"DICM"
    except OSError:
        return False
