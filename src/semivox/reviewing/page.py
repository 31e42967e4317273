"""The review page: every mask on its scan, the likely worst first, and what a person says of it; offline, by a folder.

::

    index.html           list, choices, everything but the scans
    review/CASE.js       a scan and its mask, loaded when the case is opened; see `semivox.reviewing.case_files`
"""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from semivox.files import file_digest, write_atomic
from semivox.reporting.slices import outline_colours
from semivox.reviewing.case_files import write_case
from semivox.reviewing.review import VERSION
from semivox.scoring.pairing import list_masks

FOLDER = "review"
"""Where the scripts of cases lie, beside the page."""
MOST = 90_000_000
"""Bytes that the scripts of all cases may take."""
MOST_EACH = 3_000_000
"""Bytes that the script of one may take: it has to be there at once."""
HOW = (
    "The estimate is the Dice between this mask and that of a net which learnt from the labelled scans alone: where "
    "the two disagree, look first. It is no score and not the truth: a mask that both get wrong alike is not found."
)


def write_page(
    rows: Sequence[Mapping[str, Any]],
    scans: Mapping[str, Sequence[Path]],
    masks: Path,
    output: Path,
    *,
    title: str,
    summary: str,
    channels: Sequence[str] = (),
    ct: Sequence[bool] = (),
    on_case: Callable[[str, int, int], None] = lambda case, done, total: None,
) -> Path:
    """Write the page with the scripts of its cases, and return its path.

    Args:
        rows: of quality.csv, as `estimate_quality` returns them.
        scans: the files of every scan.
        masks: their folder.
        output: the HTML file.
        title: what the data are called.
        summary: a sentence on what was done.
        channels: names of the scans' channels.
        ct: of each channel, whether it is a CT: it has presets of the window in HU.
        on_case: called with (case, done, all) before each case, and once more when all are done.

    Raises:
        DatasetError: a scan or mask cannot be read.
        RunError: a file cannot be written.
    """
    by_case: dict[str, list[Mapping[str, Any]]] = {}
    for row in rows:
        by_case.setdefault(row["case"], []).append(row)
    found, folder = list_masks(masks), output.parent / FOLDER
    names = {int(row["label"]): str(row["name"]) for row in rows}
    colours = outline_colours(names)
    labels = list(colours)
    most = min(MOST_EACH, MOST // max(len(by_case), 1))
    for done, case in enumerate(by_case):
        on_case(case, done, len(by_case))
        write_case(case, scans[case], found[case], folder / f"{case}.js", labels=labels, most=most)
    on_case("", len(by_case), len(by_case))
    for left in {path for path in folder.glob("*.js")} - {folder / f"{case}.js" for case in by_case}:
        left.unlink()  # of a scan that is no longer there, whose pixels shall not stay either
    digests = {case: file_digest(found[case]) for case in by_case}
    data = {
        "version": VERSION,
        "name": title,
        "run": hashlib.sha256(repr(sorted(digests.items())).encode()).hexdigest(),
        "classes": [{"name": names[label], "colour": colours[label][1]} for label in labels],
        "channels": list(channels),
        "ct": list(ct),
        "cases": [_case(case, own, digests[case]) for case, own in by_case.items()],
    }
    text = _rendered(title=title, summary=summary, how=HOW, data=data)
    write_atomic(output, lambda file: file.write(text.encode()))
    return output


def _rendered(**words: Any) -> str:
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader("semivox.reviewing"), autoescape=True, undefined=StrictUndefined, trim_blocks=True
    )
    return environment.get_template("review.html").render(words)


def _case(case: str, rows: Sequence[Mapping[str, Any]], digest: str) -> dict[str, Any]:
    """Return what the page's list says of a case."""
    flags = dict.fromkeys(word for row in rows for word in str(row["flags"]).split("; ") if word)
    return {
        "case": case,
        "mask": digest,
        "flags": list(flags),
        "estimates": [
            {"name": str(row["name"]), "dice": _number(row["dice_estimated"]), "lower": _number(row["dice_lower"]),
             "coverage": row["coverage"]}
            for row in rows
        ],
    }  # fmt: skip


def _number(value: float) -> float | None:
    return None if math.isnan(value) else round(float(value), 4)
