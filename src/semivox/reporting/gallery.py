"""The gallery of a report: the best, the median and the worst case of a group, or why there is no picture of it."""

import base64
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from semivox.data.pictures import drawn_as_scan, is_picture
from semivox.data.volume import bare_name, read_image, read_label
from semivox.errors import SemivoxError
from semivox.reporting.figures import draw_slice
from semivox.reporting.tables import metric_name, score_text
from semivox.scoring.comparison import higher_is_better, per_case
from semivox.scoring.scores import Group, Scores


@dataclass(frozen=True)
class Picture:
    """One slice with its outlines: ``source`` is a data URI, None where `missing` says why there is none."""

    rank: str
    case: str
    caption: str
    source: str | None = None
    missing: str = ""


def gallery(group: Group, metric: str, images: Path | None) -> Iterator[Picture]:
    """Yield the best, the median and the worst case of a group, as its first run segmented them."""
    run = group.runs[0]
    shown = per_case(Group(group.name, (run,)), metric)
    ranked = sorted(shown, key=lambda case: shown[case], reverse=higher_is_better(metric))
    if not ranked:
        return
    ranks = {"best": ranked[0], "median": ranked[len(ranked) // 2], "worst": ranked[-1]}
    for rank, case in ranks.items():
        caption = f"{metric_name(metric)} {score_text(shown[case], metric)}"
        if len(group.runs) > 1:
            caption += f", run of {seed_text(run.seed)}"
        try:
            png = _picture(run, case, images)
        except SemivoxError as error:
            yield Picture(rank, case, caption, missing=without_folders(str(error)))
        else:
            yield Picture(rank, case, caption, "data:image/png;base64," + base64.b64encode(png).decode())


def _picture(run: Scores, case: str, images: Path | None) -> bytes:
    """Return the PNG of one case."""
    truth = read_label(_find(run, run.info.get("labels"), case, "the label"))
    masks = run.prediction.get("masks") or run.info.get("masks") or run.path.parent
    mask = read_label(_find(run, masks, case, "the predicted mask"))
    image = read_image(_find_images(run, case, images))
    if not image.array.shape[1:] == truth.array.shape == mask.array.shape:
        shapes = f"{image.array.shape[1:]}, {truth.array.shape} and {mask.array.shape}"
        raise SemivoxError(f"scan, label and mask of {case} have the shapes {shapes}; expected one shape")
    labels = {row.value for row in run.rows if row.value is not None} or None  # leaves the ignore label out
    scan, *masks = (drawn_as_scan(v.array) if is_picture(truth.path) else v.array for v in (image, truth, mask))
    return draw_slice(scan, masks[0], masks[1], truth.spacing, labels=labels)


def _find(run: Scores, folder: object, case: str, what: str) -> Path:
    found = run.locate(folder)
    files = sorted(found.iterdir()) if found is not None and found.is_dir() else []
    for file in files:
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
