"""Data sets: a folder in nnU-Net or Medical Decathlon layout, as cases with their files; no image is opened here."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from semivox.data.description import Description, read_description
from semivox.data.faults import Fault, sentences
from semivox.data.formats import ENDINGS, bare_name, ending
from semivox.data.pictures import is_picture
from semivox.errors import DatasetError, nearest

IGNORE = 255
"""The value in prepared labels of voxels that nobody labelled."""

_CHANNEL = re.compile(r"(.+)_(\d{4})")


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


@dataclass(frozen=True)
class Dataset:
    """A data folder.

    Attributes:
        folder: where it is.
        name: from dataset.json, else the folder's.
        cases: by name, sorted: imagesTr, imagesUn and the further folder of unlabelled scans.
        channels: names of the image channels.
        classes: names by class index; 0 is the background.
        label_values: the value of each class in label files.
        ignore: the value of ignored voxels in label files, or None.
        spacing_is_nominal: distances in mm would be made up.
        tests: the cases of imagesTs, by name; never in the pool, but a split may hold them out.
        added: names of the cases that the further folder of unlabelled scans brought.
    """

    folder: Path
    name: str
    cases: Mapping[str, Case]
    channels: tuple[str, ...]
    classes: tuple[str, ...]
    label_values: tuple[int, ...]
    ignore: int | None = None
    spacing_is_nominal: bool = False
    tests: Mapping[str, Case] = field(default_factory=dict)
    added: tuple[str, ...] = ()

    @property
    def labelled(self) -> tuple[str, ...]:
        """Names of the cases that have a label file, sorted."""
        return tuple(name for name, case in self.cases.items() if case.label is not None)

    def case(self, name: str) -> Case:
        """Return a case, be it of the pool or of imagesTs.

        Raises:
            DatasetError: there is none of that name; the message names the nearest.
        """
        found = self.cases.get(name) or self.tests.get(name)
        if found is None:
            raise DatasetError(f"{self.folder}: no case '{name}': {nearest(name, [*self.cases, *self.tests])}")
        return found


def read_dataset(folder: Path | str, *, unlabelled: Path | str | None = None) -> Dataset:
    """Return the data set in a folder, by names alone: no image is opened.

    Args:
        folder: has dataset.json, imagesTr, labelsTr and perhaps imagesUn, imagesTs, labelsTs.
        unlabelled: a further folder of scans without labels, of any names; nothing is copied.

    Raises:
        DatasetError: dataset.json or a folder cannot be used; the message lists everything that is wrong.
    """
    dataset, faults = read_with_faults(folder, unlabelled=unlabelled)
    if faults:
        raise DatasetError(sentences(faults))
    return dataset


def read_with_faults(folder: Path | str, *, unlabelled: Path | str | None = None) -> tuple[Dataset, list[Fault]]:
    """Return the data set as far as it can be known, and all that is wrong with dataset.json and the folders."""
    folder = Path(folder)
    description = read_description(folder)
    faults = list(description.faults)
    for path in (folder / "imagesTr", unlabelled):
        if path is not None and not _scans(Path(path)):
            faults.append(
                Fault("error", str(path), "zero images", "no scan" if Path(path).is_dir() else "no such folder",
                      f"scans ending in {', '.join(ENDINGS)}", "check the folder's name and its files' endings")
            )  # fmt: skip
    return _dataset(folder, description, unlabelled), faults


def _dataset(folder: Path, description: Description, unlabelled: Path | str | None) -> Dataset:
    channels = max(len(description.channels), 1)
    cases = _cases(folder / "imagesTr", channels, folder / "labelsTr")
    _join(cases, folder / "imagesUn", channels)
    added = _join(cases, Path(unlabelled), channels) if unlabelled is not None else []
    return Dataset(
        folder=folder,
        name=description.name,
        cases=dict(sorted(cases.items())),
        channels=description.channels,
        classes=description.classes,
        label_values=description.label_values,
        ignore=description.ignore,
        spacing_is_nominal=description.spacing_is_nominal,
        tests=_cases(folder / "imagesTs", channels, folder / "labelsTs"),
        added=tuple(sorted(added)),
    )


def _join(cases: dict[str, Case], folder: Path, channels: int) -> list[str]:
    """Add a folder's scans without labels, with the folder's name in front where a name is taken; return the names."""
    names = []
    for name, case in _cases(folder, channels).items():
        while name in cases:
            name = f"{folder.name}-{name}"
        cases[name] = Case(name, case.images)
        names.append(name)
    return names


def _cases(images: Path, channels: int, labels: Path | None = None) -> dict[str, Case]:
    label_files = {bare_name(path): path for path in _scans(labels)} if labels is not None else {}
    scans = list_scans([images], channels) if images.is_dir() else {}
    return {name: Case(name, files, label_files.get(name)) for name, files in scans.items()}


def list_scans(paths: Sequence[Path], channels: int) -> dict[str, tuple[Path, ...]]:
    """Return the files of each scan by case name, sorted; no file is opened.

    ``NAME_0000`` ... ``NAME_0003`` are the channels of NAME where there are that many channels; any other file is a
    scan of its own, with all channels in it. Files of other formats and hidden ones are passed over.

    Args:
        paths: files, or folders whose files are taken (not their subfolders).
        channels: how many an image has.

    Raises:
        DatasetError: a path does not exist, or a file named on its own is of an unknown format.
    """
    found: dict[str, list[Path]] = {}
    for path in (file for given in paths for file in _files(Path(given))):
        found.setdefault(case_name(path, channels), []).append(path)
    return {name: tuple(sorted(files)) for name, files in sorted(found.items())}


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        return _scans(path)
    if not path.is_file() or not ending(path):
        raise DatasetError(
            f"{path}: found {'a file of unknown format' if path.is_file() else 'nothing'}, "
            f"expected a folder or a scan ending in {', '.join(ENDINGS)}; check the path"
        )
    return [path]


def _scans(folder: Path) -> list[Path]:
    """Return a folder's scans, sorted; ``._x`` is what macOS leaves beside x."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if ending(path) and not path.name.startswith("."))


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
