"""Checking: every fault of a data folder at once, each with what was found, what was expected and what to do.

An error makes training impossible or wrong; a warning may be meant. No file takes the check down: whatever its reader
raises becomes a fault of its case.
"""

from collections.abc import Callable, Mapping, Sequence
from itertools import combinations
from pathlib import Path
from typing import TypeVar

import numpy as np

from semivox.data.cases import Case, case_name, expected_files, scan_files
from semivox.data.dataset import Dataset, read_with_faults
from semivox.data.faults import Fault
from semivox.data.formats import ENDINGS, bare_name
from semivox.data.leaks import TESTS, leak_faults
from semivox.data.likeness import Likeness, likeness
from semivox.data.overview import overview
from semivox.data.splitting import Split, read_split, split_faults
from semivox.data.values import floats, label_faults, value_faults
from semivox.data.volume import (
    Grid,
    content_hash,
    direction,
    disagreements,
    has_palette,
    is_lossy,
    read_file,
    read_header,
)

__all__ = ["Fault", "check_dataset", "check_pool"]

G = TypeVar("G", bound=Grid)

SKEW = 0.01
"""Two voxel axes whose cosine is above this (0.6 degrees off square) are far from orthogonal."""

FINEST, COARSEST = 0.01, 50.0
"""Bounds in mm of what a scan's spacing can be; outside, the header has another unit, or it is broken."""

_RESAMPLE = "resample it onto the image's grid, or correct its header"


def check_dataset(
    folder: Path | str,
    *,
    split: Split | Path | str | None = None,
    unlabelled: Path | str | None = None,
    labelled: int | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    on_start: Callable[[Mapping[str, str]], None] | None = None,
) -> list[Fault]:
    """Return everything that is wrong with a data folder, errors first; every image and label is read.

    Args:
        folder: see `read_dataset`.
        split: lists of cases, or their file; if given, it is checked too, and a scan on both of its sides is an error.
        unlabelled: a further folder of scans without labels.
        labelled: how many labelled cases are wanted.
        progress: called with (case, cases done, cases).
        on_start: called first, with what is seen: texts by their name.
    """
    dataset, faults = read_with_faults(folder, unlabelled=unlabelled)
    split = read_split(split, dataset) if isinstance(split, Path | str) else split
    if on_start is not None:
        on_start(overview(dataset, split, [*dataset.cases.values(), *dataset.tests.values()]))
    faults += _stray_labels(dataset)
    faults += split_faults(split, dataset) if split is not None else []
    if labelled is not None and len(dataset.labelled) < labelled:
        faults.append(
            Fault("error", dataset.name, "too few labelled cases", str(len(dataset.labelled)), f"at least {labelled}",
                  "label more scans or ask for fewer")
        )  # fmt: skip
    return sorted(faults + _scan_faults(dataset, split, progress), key=lambda fault: fault.severity)


def _scan_faults(
    dataset: Dataset, split: Split | None, progress: Callable[[str, int, int], None] | None
) -> list[Fault]:
    """Return the faults of every scan, of scans that are there twice, and of patients on the two sides of a split."""
    faults: list[Fault] = []
    copies: dict[str, list[tuple[str, bool]]] = {}  # content hash -> (name, held out) of each scan that has it
    likenesses: dict[str, Likeness] = {}
    held_out = split.held_out if split is not None else ()
    cases = [(case, case.name, case.name in held_out) for case in dataset.cases.values()]
    cases += [(case, f"{TESTS}{case.name}", True) for case in dataset.tests.values()]
    for done, (case, name, sealed) in enumerate(cases):
        if progress is not None:
            progress(name, done, len(cases))
        try:
            found, content, alike = _case_faults(case, dataset)
        except Exception as error:  # no scan, however strange, hides the faults of the others
            found, content, alike = [_broken(name, "cannot be checked", error)], None, None
        faults += found
        if content is not None:
            copies.setdefault(content, []).append((name, sealed))
        if alike is not None:
            likenesses[name] = alike
    equal = [pair for same in copies.values() for pair in combinations([name for name, _ in same], 2)]
    faults += [fault for same in copies.values() for fault in _duplicates(same)]
    return faults + leak_faults(dataset, split, likenesses, copies=equal)


def check_pool(dataset: Dataset, split: Split) -> list[Fault]:
    """Return what is wrong with the cases that training reads, by names and headers alone.

    Held-out files and the labels of unlabelled cases are not opened.
    """
    faults = split_faults(split, dataset, sealed=False)
    for name in (name for name in split.pool if name in dataset.cases):
        case = dataset.cases[name]
        images = _read_all(case.name, case.images, read_header, faults)
        faults += _name_faults(case, dataset) or _channel_faults(case, images, dataset)
        faults += _grid_faults(case, images, dataset)
        if name in split.labelled and case.label is not None:
            labels = _read_all(case.name, [case.label], read_header, faults)
            faults += _label_grid_faults(case, labels, images)
    return sorted(faults, key=lambda fault: fault.severity)


def _case_faults(case: Case, dataset: Dataset) -> tuple[list[Fault], str | None, Likeness | None]:
    """Return a case's faults, and its content hash and likeness where its image can be read."""
    faults: list[Fault] = []
    images = _read_all(case.name, case.images, read_file, faults)
    faults += _name_faults(case, dataset) or _channel_faults(case, images, dataset)
    faults += _grid_faults(case, images, dataset)
    arrays = [floats(image.array) for image in images]
    faults += value_faults(case, images, arrays)
    if case.label is not None:
        labels = _read_all(case.name, [case.label], read_file, faults)
        faults += _label_grid_faults(case, labels, images)
        for label in labels:
            faults += [] if is_lossy(label.path) else label_faults(case, label, dataset)
    whole = len(images) == len(case.images) and len({image.shape for image in images}) == 1
    if not whole:
        return faults, None, None
    return faults, content_hash(np.concatenate(arrays)), likeness(arrays[0][0], images[0].affine)


def _read_all(case: str, paths: Sequence[Path], read: Callable[[Path], G], faults: list[Fault]) -> list[G]:
    """Return what can be read, and add a fault for each file that cannot."""
    found = []
    for path in paths:
        try:
            found.append(read(path))
        except Exception as error:  # a reader's own bugs included: one broken file must not hide the faults of others
            faults.append(_broken(case, f"{path.name} cannot be read", error))
    return found


def _broken(case: str, what: str, error: Exception) -> Fault:
    return Fault("error", case, what, str(error) or type(error).__name__, "a whole scan", "replace or remove the file")


def _name_faults(case: Case, dataset: Dataset) -> list[Fault]:
    """Return a fault where the case's files are not what its channels ask for."""
    channels = max(len(dataset.channels), 1)
    found = ", ".join(path.name for path in case.images)
    expected = expected_files(case, channels)
    if expected is not None:
        return [
            Fault("error", case.name, "missing channel" if len(case.images) < channels else "too many files", found,
                  f"{', '.join(expected)} (one file each)", "add or remove files, or correct 'channel_names'")
        ]  # fmt: skip
    stem = case_name(case.images[0], 10_000)
    if stem != case_name(case.images[0], channels) and stem in dataset.cases:
        return [
            Fault("error", case.name, f"its name is that of one more channel of '{stem}'", found,
                  f"{channels} channels as in dataset.json", "correct 'channel_names', or rename the file")
        ]  # fmt: skip
    return []


def _channel_faults(case: Case, images: Sequence[Grid], dataset: Dataset) -> list[Fault]:
    wanted = len(dataset.channels) if len(case.images) == 1 else 1
    faults = [
        Fault("error", case.name, f"{image.path.name} holds indices of a palette", "no intensities", "grey or RGB",
              "convert it to RGB")
        for image in images if has_palette(image)
    ]  # fmt: skip
    return faults or [
        Fault("error", case.name, f"channels in {image.path.name}", str(image.channels), str(wanted),
              "store the channels that dataset.json names, as one file each or all in one")
        for image in images if dataset.channels and image.channels != wanted
    ]  # fmt: skip


def _grid_faults(case: Case, images: Sequence[Grid], dataset: Dataset) -> list[Fault]:
    """Return a fault for impossible spacings and for each difference of the channels' grids; warn of skewed affines."""
    faults = []
    for image in images:
        name, first = image.path.name, images[0].path.name
        faults += [
            Fault("error", case.name, f"{what} of {name} differs from that of {first}", found, expected, _RESAMPLE)
            for what, found, expected in disagreements(image, images[0])
        ]
        if not dataset.spacing_is_nominal and not all(FINEST <= side <= COARSEST for side in image.spacing):
            faults.append(
                Fault("error", case.name, f"spacing in mm of {name}", str([round(side, 4) for side in image.spacing]),
                      f"{FINEST} to {COARSEST} mm along every axis",
                      "correct the header (are its units mm?), or say \"spacing_is_nominal\": true in dataset.json")
            )  # fmt: skip
        skew = _skew(image)
        if skew > SKEW:
            faults.append(
                Fault("warning", case.name, f"affine of {name} is far from orthogonal", f"a cosine of {skew:.3f}",
                      f"at most {SKEW} between axes", "resample to an orthogonal grid: spacing and distances are off")
            )  # fmt: skip
    return faults


def _skew(grid: Grid) -> float:
    cosines = direction(grid)
    return float(np.abs(cosines.T @ cosines - np.eye(3)).max())


def _label_grid_faults(case: Case, labels: Sequence[Grid], images: Sequence[Grid]) -> list[Fault]:
    lossy = [label.path.name for label in labels if is_lossy(label.path)]
    return [
        Fault("error", case.name, f"label {name} is a JPEG", "values changed by compression", "exact class indices",
              "export the label as PNG from where it was drawn")
        for name in lossy
    ] or [
        Fault("error", case.name, f"{what} of the label differs from the image's", found, expected, _RESAMPLE)
        for label in labels for image in images[:1] for what, found, expected in disagreements(label, image)
    ]  # fmt: skip


def _stray_labels(dataset: Dataset) -> list[Fault]:
    """Return a fault for each file in labelsTr that no case uses."""
    folder = dataset.folder / "labelsTr"
    used = {case.label for case in dataset.cases.values()}
    return [
        Fault("error", bare_name(path), f"label without image: {path.name}", "no image of that name in imagesTr",
              f"{bare_name(path)}_0000{ENDINGS[0]} or the like", "add the image, rename or remove the label")
        for path in scan_files(folder) if path not in used and bare_name(path) not in dataset.unlisted
    ]  # fmt: skip


def _duplicates(copies: Sequence[tuple[str, bool]]) -> list[Fault]:
    """Return a fault for each further copy of the scan that the first has; (name, held out) each."""
    across = len({sealed for _, sealed in copies}) > 1
    first = copies[0][0]
    return [
        Fault("error" if across else "warning", name, "duplicate scan", f"the same voxels as '{first}'",
              "different scans" + (" on the two sides of a split" if across else ""),
              "keep all copies on one side" if across else "remove one, or check that it is meant")
        for name, _ in copies[1:]
    ]  # fmt: skip
