"""Data sets: a folder in nnU-Net or Medical Decathlon layout, as cases with their files; no image is opened here."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from semivox.data.cases import (
    Case,
    case_name,
    expected_files,
    folders_below,
    list_scans,
    odd_files,
    scan_files,
    scans_below,
)
from semivox.data.description import FILE, Description, read_description
from semivox.data.dicom import conversion, first_dicom
from semivox.data.faults import Fault, refuse_errors
from semivox.data.formats import ENDINGS, bare_name
from semivox.data.listing import listed_cases, unlisted_fault
from semivox.errors import DatasetError, nearest

__all__ = ["IGNORE", "Case", "Dataset", "case_name", "expected_files", "list_scans", "read_dataset", "read_with_faults"]

IGNORE = 255
"""The value in prepared labels of voxels that nobody labelled."""
PARTS = ("imagesTr", "imagesUn", "imagesTs", "labelsTr", "labelsTs")


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
        machine_made: names of the cases whose label is a mask that a person accepted: none to score by.
        unlisted: names of the cases whose label file is not used, since dataset.json has a list without it.
        segment_codes: the DICOM codes of classes, by name, where they are known.
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
    machine_made: tuple[str, ...] = ()
    unlisted: tuple[str, ...] = ()
    segment_codes: Mapping[str, Mapping[str, Sequence[str]]] = field(default_factory=dict)

    @property
    def labelled(self) -> tuple[str, ...]:
        """Names of the cases that have a label file, sorted."""
        return tuple(name for name, case in self.cases.items() if case.label is not None)

    def sealed(self, labelled: Collection[str]) -> "Dataset":
        """Return the data set as plan, prepare and train see it: no label is there but those of `labelled`."""
        cases, tests = (
            {name: case if name in labelled else replace(case, label=None) for name, case in side.items()}
            for side in (self.cases, self.tests)
        )
        return replace(self, cases=cases, tests=tests)

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
        unlabelled: a further folder of scans without labels, of any names, in it or in its subfolders; nothing is
            copied.

    Raises:
        DatasetError: dataset.json or a folder cannot be used; the message lists everything that is wrong.
    """
    dataset, faults = read_with_faults(folder, unlabelled=unlabelled)
    refuse_errors(faults)
    return dataset


def read_with_faults(folder: Path | str, *, unlabelled: Path | str | None = None) -> tuple[Dataset, list[Fault]]:
    """Return the data set as far as it can be known, and all that is wrong with dataset.json and the folders."""
    folder = Path(folder)
    further = [] if unlabelled is None else [Path(unlabelled)]
    description = read_description(folder)
    faults = [*description.faults, *_empty_faults(folder, further)]
    if faults and not (folder / FILE).exists() and first_dicom(folder) is not None:
        faults = faults[1:]  # it is no data set yet, for a reason that says more than that it has no dataset.json
    faults += _odd_faults([(folder / part, folder / part) for part in PARTS])
    faults += _odd_faults([(place, top) for top in further for place in folders_below(top, without=folder)])
    dataset, listing = _dataset(folder, description, further)
    return dataset, faults + listing + unlisted_fault(dataset.unlisted)


def _empty_faults(folder: Path, further: Sequence[Path]) -> list[Fault]:
    """Return a fault for each place that should hold scans and holds none."""
    found = []
    if not scan_files(folder / "imagesTr"):
        found.append(_empty_fault(folder / "imagesTr", folder))
    found += [_empty_fault(place, place) for place in further if not scans_below(place, 1, without=folder)]
    return found


def _empty_fault(place: Path, given: Path) -> Fault:
    dicom = first_dicom(given)
    if dicom is not None:
        return Fault("error", str(given), "DICOM files but no scan", str(dicom),
                     f"scans ending in {', '.join(ENDINGS)}", conversion(given))  # fmt: skip
    return Fault("error", str(place), "zero images", "no scan" if place.is_dir() else "no such folder",
                 f"scans ending in {', '.join(ENDINGS)}", "check the folder's name and its files' endings")  # fmt: skip


def _odd_faults(places: Sequence[tuple[Path, Path]]) -> list[Fault]:
    """Return a fault for each folder, given with the one above that counts, in which names of scans are no text."""
    found = [(place, odd_files(place, top=top)) for place, top in places]
    return [
        Fault("error", ascii(str(place))[1:-1], "names of scans that are no text",
              f"{len(odd)} such as {odd[0].name!a}", "UTF-8 without control characters", "rename the files")
        for place, odd in found if odd
    ]  # fmt: skip


def _dataset(folder: Path, description: Description, further: Sequence[Path]) -> tuple[Dataset, list[Fault]]:
    """Return the data set, and what is wrong with the list of its description."""
    channels = max(len(description.channels), 1)
    labels = _label_files(folder / "labelsTr")
    cases = _cases(folder / "imagesTr", channels, labels)
    unlisted: tuple[str, ...] = ()
    faults: list[Fault] = []
    if description.training is not None:
        cases, unlisted, faults = listed_cases(cases, labels, description.training, channels)
    _join(cases, list_scans(scan_files(folder / "imagesUn"), channels), "imagesUn")
    added = [
        name for place in further for name in _join(cases, scans_below(place, channels, without=folder), place.name)
    ]
    dataset = Dataset(
        folder=folder,
        name=description.name,
        cases=dict(sorted(cases.items())),
        channels=description.channels,
        classes=description.classes,
        label_values=description.label_values,
        ignore=description.ignore,
        spacing_is_nominal=description.spacing_is_nominal,
        tests=_cases(folder / "imagesTs", channels, _label_files(folder / "labelsTs")),
        added=tuple(sorted(added)),
        machine_made=tuple(n for n in description.machine_made if n in cases and cases[n].label is not None),
        segment_codes=description.segment_codes,
        unlisted=unlisted,
    )
    return dataset, faults


def _join(cases: dict[str, Case], scans: Mapping[str, tuple[Path, ...]], folder: str) -> list[str]:
    """Add scans without labels, with their folder's name in front where a name is taken; return the names."""
    names = []
    for name, files in scans.items():
        while name in cases:
            name = f"{folder}-{name}"
        cases[name] = Case(name, files)
        names.append(name)
    return names


def _label_files(folder: Path) -> dict[str, Path]:
    return {bare_name(path): path for path in scan_files(folder)}


def _cases(images: Path, channels: int, labels: Mapping[str, Path]) -> dict[str, Case]:
    return {
        name: Case(name, files, labels.get(name)) for name, files in list_scans(scan_files(images), channels).items()
    }
