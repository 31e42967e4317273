"""What a person said of masks: review.json, a choice for each case that was looked at, tied to its mask by a digest.

::

    {"version": 1, "name": "liver", "reviewer": "A. B.", "saved": "2026-01-31T12:00:00.000Z",
     "cases": {"case_07": {"choice": "accept", "note": "", "mask": "<SHA-256 of the mask's file>", "time": "..."}}}

`choice` is "accept", "correct" or "reject", or null where there is only a note. `name`, `reviewer`, `saved`, `note` and
`time` may be missing.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semivox.data.names import is_plain, shown
from semivox.errors import DatasetError
from semivox.files import file_digest, read_object

VERSION = 1
CHOICES = ("accept", "correct", "reject")
_ADVICE = "save it anew from the page"


@dataclass(frozen=True)
class Verdict:
    """What was said of a mask.

    Attributes:
        choice: "accept", "correct" or "reject".
        note: in the reviewer's words.
        mask: SHA-256 (hex) of the file that was looked at.
        time: when, as ISO 8601 in UTC, or nothing.
        reviewer: who, or nothing.
    """

    choice: str
    note: str
    mask: str
    time: str
    reviewer: str


def read_review(path: Path, masks: Mapping[str, Path]) -> dict[str, Verdict]:
    """Return what was said of each case; cases that have a note alone are none.

    Args:
        path: of a review.json.
        masks: the masks, by case, that it is applied to.

    Raises:
        DatasetError: there is no such file, it is no review, or a mask has changed since it was looked at.
    """
    try:
        content = read_object(path, advice=_ADVICE, error=DatasetError)
    except FileNotFoundError:
        raise DatasetError(f"there is no '{path}': expected a review.json; check the path") from None
    if content.get("version") != VERSION:
        raise DatasetError(f"{path}: found version {shown(content.get('version'))}, expected {VERSION}; {_ADVICE}")
    cases, reviewer = content.get("cases"), content.get("reviewer", "")
    if not isinstance(cases, dict) or not all(map(is_plain, cases)):
        raise DatasetError(
            f'{path}: found {shown(cases)}, expected {{"cases": {{CASE: {{"choice": ...}}}}}}; {_ADVICE}'
        )
    reviewer = reviewer if is_plain(reviewer) else ""
    found = {case: _verdict(path, case, said, reviewer) for case, said in cases.items()}
    changed = [case for case, said in found.items() if said and case in masks and file_digest(masks[case]) != said.mask]
    if changed:
        raise DatasetError(
            f"{masks[changed[0]]}: found another mask of '{changed[0]}' than {path} speaks of (SHA-256 differs), and "
            f"{len(changed) - 1} more; give the masks that were looked at, or review these"
        )
    return {case: said for case, said in found.items() if said}


def _verdict(path: Path, case: str, said: Any, reviewer: str) -> Verdict | None:
    """Return what was said of a case; None where nothing was chosen."""
    words = said if isinstance(said, dict) else {"choice": said}
    choice, mask = words.get("choice"), words.get("mask")
    if choice is None and isinstance(said, dict) and "choice" in said:
        return None
    if choice not in CHOICES:
        raise DatasetError(
            f"{path}: found {shown(choice)} for case '{case}', expected one of {', '.join(CHOICES)}; {_ADVICE}"
        )
    if not isinstance(mask, str) or len(mask) != 64:
        raise DatasetError(
            f"{path}: found {shown(mask)} as 'mask' of case '{case}', expected the SHA-256 of its file; {_ADVICE}"
        )
    note, time = (words.get(key) if isinstance(words.get(key), str) else "" for key in ("note", "time"))
    return Verdict(str(choice), str(note), mask, str(time), reviewer)
