"""Cases: scans and their files, by the names of files alone; no scan is opened here."""

import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from semivox.data.dicom import conversion, first_dicom
from semivox.data.formats import ENDINGS, bare_name, ending
from semivox.data.names import is_plain
from semivox.data.pictures import is_picture
from semivox.errors import DatasetError

_CHANNEL = re.compile(r"(.+)_(\d{4})")
_LABELS = "labels"  # how folders of label files begin, which hold no scans


@dataclass(frozen=True)
class Case:
    """One scan.

    Attributes:
        name: unique in its data set.
        images: one file per channel in order, or one file with all channels.
        label: its label file, or None.
    """

    name: str
    images: tuple[Path, ...]
    label: Path | None = None


def list_scans(paths: Sequence[Path], channels: int) -> dict[str, tuple[Path, ...]]:
    """Return the files of each scan by case name, sorted; no scan is opened.

    ``NAME_0000`` ... ``NAME_0003`` are the channels of NAME where there are that many channels; any other file is a
    scan of its own, with all channels in it. Files of other formats and hidden ones are passed over.

    Args:
        paths: files, or folders whose files are taken (not their subfolders).
        channels: how many an image has.

    Raises:
        DatasetError: a path does not exist, holds DICOM alone, has a name that is no text, or a file named on its own
            is of an unknown format.
    """
    found: dict[str, list[Path]] = {}
    for path in (file for given in paths for file in _files(Path(given))):
        found.setdefault(case_name(path, channels), []).append(path)
    return {name: tuple(sorted(files)) for name, files in sorted(found.items())}


def scans_below(folder: Path, channels: int, *, without: Path) -> dict[str, tuple[Path, ...]]:
    """Return the files of each scan of a folder and its subfolders; those have the subfolder's name in front.

    Args:
        folder: see `folders_below`.
        channels: how many an image has.
        without: see `folders_below`.
    """
    found: dict[str, tuple[Path, ...]] = {}
    for place in folders_below(folder, without=without):
        front = "".join(f"{part}-" for part in place.relative_to(folder).parts)
        if is_plain(front or "-"):
            found |= {f"{front}{name}": files for name, files in list_scans(scan_files(place), channels).items()}
    return found


def folders_below(folder: Path, *, without: Path) -> Iterator[Path]:
    """Yield a folder and its subfolders, in order.

    Hidden ones, links to folders, and those of labels (``labelsTr`` and the like) are passed over.

    Args:
        folder: the first.
        without: a folder that is passed over, with all that is in it.
    """
    for place, folders, _ in os.walk(folder):
        if Path(place).resolve() == without.resolve():
            folders.clear()
        else:
            folders[:] = sorted(name for name in folders if not name.startswith((".", _LABELS)))
            yield Path(place)


def scan_files(folder: Path) -> list[Path]:
    """Return a folder's scans, sorted; hidden files are none, since ``._x`` is what macOS leaves beside x."""
    return [path for path in _named_like_scans(folder) if is_plain(path.name)]


def odd_files(folder: Path, *, top: Path | None = None) -> list[Path]:
    """Return a folder's scans whose names cannot be printed and written: no UTF-8, or with control characters.

    With `top`, a folder above, the names of the folders below it count too.
    """
    return [path for path in _named_like_scans(folder) if not is_plain(str(path.relative_to(top or folder)))]


def _named_like_scans(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if ending(path) and not path.name.startswith("."))


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        files = scan_files(path)
        if odd := odd_files(path):
            raise DatasetError(
                f"{path}: found {len(odd)} names of scans that are no text, such as {odd[0].name!a}, expected UTF-8 "
                "without control characters; rename them"
            )
        if not files and (first := first_dicom(path)) is not None:
            raise DatasetError(f"{path}: found no scan but DICOM files such as {first}; {conversion(path)}")
        return files
    if path.is_file() and not ending(path) and first_dicom(path) is not None:
        raise DatasetError(f"{path}: found a DICOM file; {conversion(path)}")
    if not path.is_file() or not ending(path):
        raise DatasetError(
            f"{path}: found {'a file of unknown format' if path.is_file() else 'nothing'}, "
            f"expected a folder or a scan ending in {', '.join(ENDINGS)}; check the path"
        )
    return [path]


def case_name(path: Path, channels: int) -> str:
    """Return the case that an image file belongs to: its bare name without the index of one of the channels.

    >>> case_name(Path("a_0001.nii.gz"), channels=2), case_name(Path("a_2019.nii.gz"), channels=2)
    ('a', 'a_2019')
    """
    match = _CHANNEL.fullmatch(bare_name(path))
    return match[1] if match and int(match[2]) < channels else bare_name(path)


def expected_files(case: Case, channels: int) -> tuple[str, ...] | None:
    """Return the file names that a case lacks or has too many of: what it should have, or None where it is complete.

    One file whose name has no channel index may hold all channels; so may a picture whose index is that of the first.
    """
    names = [bare_name(path) for path in case.images]
    stem = case_name(case.images[0], channels)
    wanted = tuple(f"{stem}_{index:04d}" for index in range(channels))
    alone = names == [stem] or (names == [f"{stem}_0000"] and is_picture(case.images[0]))
    return None if tuple(names) == wanted or alone else wanted
