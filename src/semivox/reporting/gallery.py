"""The gallery of a report: cases of one group, and the same case in all groups, or why there is no picture of it."""

import base64
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

from numpy.typing import NDArray

from semivox.data.pictures import drawn_as_scan, is_picture
from semivox.data.volume import bare_name, read_image, read_label
from semivox.errors import SemivoxError
from semivox.reporting.slices import draw_slice
from semivox.reporting.tables import metric_name, score_text
from semivox.scoring.comparison import higher_is_better, per_case
from semivox.scoring.scores import Group, Scores


@dataclass(frozen=True)
class Picture:
    """One slice with its outlines: ``source`` is a data URI, None where `missing` says why there is none."""

    title: str
    detail: str
    caption: str
    source: str | None = None
    missing: str = ""


@dataclass(frozen=True)
class _Scan:
    """What all pictures of a case share: the image (C, X, Y, Z), the truth (X, Y, Z) and their grid."""

    image: NDArray[Any]
    truth: NDArray[Any]
    spacing: tuple[float, ...]
    is_picture: bool


def class_values(groups: Sequence[Group]) -> dict[int, str]:
    """Return the names of the classes by their value in label files, in order; empty where tables do not tell."""
    found = {row.value: row.label for group in groups for run in group.runs for row in run.rows}
    return {} if None in found else dict(sorted(found.items()))  # type: ignore[arg-type]


def gallery(group: Group, metric: str, images: Path | None, labels: Collection[int] = ()) -> Iterator[Picture]:
    """Yield the best, the median and the worst case of a group, as its first run segmented them."""
    shown = _scores(group, metric)
    for rank, case in _ranked(shown, metric).items():
        [picture] = _pictures([group], case, metric, images, labels)
        yield replace(picture, title=rank, detail=case)


def side_by_side(
    groups: Sequence[Group], metric: str, images: Path | None, labels: Collection[int] = ()
) -> Iterator[tuple[str, str, list[Picture]]]:
    """Yield (rank, case, a picture of each group) for the best, the median and the worst case of all groups together.

    All pictures of a case show the same part of the same slice.
    """
    scores = [_scores(group, metric) for group in groups]
    shared = [case for case in scores[0] if all(case in found for found in scores)]
    means = {case: fmean(found[case] for found in scores) for case in shared}
    for rank, case in _ranked(means, metric).items():
        yield rank, case, _pictures(groups, case, metric, images, labels)


def _scores(group: Group, metric: str) -> dict[str, float]:
    """Return the score of every case in the first run of a group, the one that is drawn."""
    return per_case(Group(group.name, group.runs[:1]), metric)


def _ranked(scores: Mapping[str, float], metric: str) -> dict[str, str]:
    """Return which case is the best, the median and the worst."""
    ranked = sorted(scores, key=lambda case: scores[case], reverse=higher_is_better(metric))
    return {"best": ranked[0], "median": ranked[len(ranked) // 2], "worst": ranked[-1]} if ranked else {}


def _pictures(
    groups: Sequence[Group], case: str, metric: str, images: Path | None, labels: Collection[int]
) -> list[Picture]:
    """Return a picture of a case for each group, or why there is none."""
    found: list[tuple[_Scan, NDArray[Any]] | SemivoxError] = []
    scan: _Scan | None = None
    for group in groups:
        try:
            scan = scan or _read_scan(group.runs[0], case, images)
            found.append((scan, _read_mask(group.runs[0], case, scan)))
        except SemivoxError as error:
            found.append(error)
    masks = [entry[1] for entry in found if isinstance(entry, tuple)]
    pictures = []
    for group, entry in zip(groups, found, strict=True):
        seed = f", run of {seed_text(group.runs[0].seed)}" if len(group.runs) > 1 else ""
        caption = f"{metric_name(metric)} {score_text(_scores(group, metric)[case], metric)}{seed}"
        picture = Picture(group.name, "", caption)
        if isinstance(entry, SemivoxError):
            pictures.append(replace(picture, missing=without_folders(str(entry))))
        else:
            scan, mask = entry
            png = draw_slice(scan.image, scan.truth, mask, scan.spacing, labels=labels or None, beside=masks)
            pictures.append(replace(picture, source="data:image/png;base64," + base64.b64encode(png).decode()))
    return pictures


def _read_scan(run: Scores, case: str, images: Path | None) -> _Scan:
    """Return the image and the truth of a case."""
    truth = read_label(_find(run, [run.info.get("labels"), run.info.get("test_labels")], case, "the label"))
    image = read_image(_find_images(run, case, images))
    if image.array.shape[1:] != truth.array.shape:
        raise SemivoxError(
            f"scan and label of {case} have the shapes {image.array.shape[1:]} and {truth.array.shape}; "
            "expected one shape"
        )
    flat = is_picture(truth.path)
    arrays = [drawn_as_scan(v.array) if flat else v.array for v in (image, truth)]
    return _Scan(arrays[0], arrays[1], truth.spacing, flat)


def _read_mask(run: Scores, case: str, scan: _Scan) -> NDArray[Any]:
    """Return what a run predicted of a case, (X, Y, Z)."""
    masks = run.prediction.get("masks") or run.info.get("masks") or run.path.parent
    mask = read_label(_find(run, [masks], case, "the predicted mask")).array
    mask = drawn_as_scan(mask) if scan.is_picture else mask
    if mask.shape != scan.truth.shape:
        raise SemivoxError(
            f"label and mask of {case} have the shapes {scan.truth.shape} and {mask.shape}; expected one shape"
        )
    return mask


def _find(run: Scores, folders: Sequence[object], case: str, what: str) -> Path:
    """Return the file of a case in the first of the folders that has one."""
    found = [folder for folder in map(run.locate, folders) if folder is not None and folder.is_dir()]
    for file in (file for folder in found for file in sorted(folder.iterdir())):
        if bare_name(file) == case and file.name != case:
            return file
    raise SemivoxError(f"{what} of {case} was not found: its folder is not named in scores.json or has moved")


def _find_images(run: Scores, case: str, images: Path | None) -> list[Path]:
    if images is not None:
        own = re.compile(re.escape(case) + r"(_\d{4})?")
        found = [path for path in sorted(Path(images).iterdir()) if own.fullmatch(bare_name(path)) and path.is_file()]
    else:
        named = run.prediction.get("images")
        listed = named.get(case, []) if isinstance(named, Mapping) else []
        found = [path for path in map(run.locate, listed if isinstance(listed, list) else [listed]) if path]
    if not found:
        raise SemivoxError(f"the scan of {case} was not found: name its folder with --images")
    return found


def without_folders(text: str) -> str:
    """Return the text with every absolute path cut to its last part: a report is sent to people outside."""
    return re.sub(r"""(?<![\w.…/])(?:/|[A-Za-z]:\\)(?:[^\s"'/\\]+[/\\])+""", "…/", text)


def seed_text(seed: int | None) -> str:
    """Return the seed of a run in words."""
    return "seed unknown" if seed is None else f"seed {seed}"
