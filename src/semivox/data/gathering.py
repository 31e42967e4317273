"""A folder of scans and a folder of labels beside it -> a data folder, whose dataset.json nobody had to write."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from semivox.data.cases import list_scans
from semivox.data.formats import ending
from semivox.data.volume import read_label
from semivox.errors import DatasetError, nearest
from semivox.files import unwritable, write_atomic

CHANNELS = 10
"""The most channels that are looked for in the names of scans."""


def gather(images: Path | str, labels: Path | str, folder: Path | str) -> Path:
    """Make a data folder of links to scans and labels, paired by name; one that is there stays as it is.

    ``NAME_0000`` ... are the channels of NAME. Classes are the values in the label files, called class_VALUE.

    Args:
        images: folder of scans.
        labels: folder of the label files that there are, each named as its scan.
        folder: of imagesTr, labelsTr and dataset.json; where links cannot be made, files are copied.

    Returns:
        The folder.

    Raises:
        DatasetError: no scan, no label, a label without a scan or of more than 255 classes, or files of two formats.
        RunError: the folder cannot be written.
    """
    images, labels, folder = Path(images), Path(labels), Path(folder)
    if (folder / "dataset.json").exists():
        return folder
    channels, scans = _scans(images)
    found = {case: files[0] for case, files in list_scans([labels], 1).items()}
    if not scans or not found:
        raise DatasetError(f"found {len(scans)} scans in {images} and {len(found)} labels in {labels}, expected both")
    if strays := sorted(found.keys() - scans.keys()):
        raise DatasetError(f"{found[strays[0]]}: no scan '{strays[0]}' in {images}: {nearest(strays[0], list(scans))}")
    values = sorted({int(value) for file in found.values() for value in np.unique(read_label(file).array)} - {0})
    description = {
        "channel_names": {str(channel): f"channel_{channel}" for channel in range(channels)},
        "labels": {"background": 0, **{f"class_{value}": value for value in values}},
        "numTraining": len(found),
        "file_ending": ending(next(iter(found.values()))),
    }
    links = {file: Path("imagesTr", file.name) for files in scans.values() for file in files}
    links |= {file: Path("labelsTr", f"{case}{ending(file)}") for case, file in found.items()}
    try:
        for file, place in links.items():
            (folder / place).parent.mkdir(parents=True, exist_ok=True)
            _link(file, folder / place)
    except OSError as error:
        raise unwritable(folder, error) from error
    text = json.dumps(description, indent=1) + "\n"  # last: with it the folder is done
    write_atomic(folder / "dataset.json", lambda file: file.write(text.encode()))
    return folder


def _scans(images: Path) -> tuple[int, Mapping[str, tuple[Path, ...]]]:
    """Return how many channels names tell of, and the files of each scan."""
    for channels in range(CHANNELS, 1, -1):
        scans = list_scans([images], channels)
        if scans and all(len(files) == channels for files in scans.values()):
            return channels, scans
    return 1, list_scans([images], 1)


def _link(file: Path, place: Path) -> None:
    place.unlink(missing_ok=True)  # of a process that was killed
    try:
        place.symlink_to(file.resolve())
    except OSError:  # a system or disk without links
        shutil.copy(file, place)
