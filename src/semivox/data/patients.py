"""Patients: who a scan is of, and the expression that finds the patient where names look like several scans of one.

Sets that are merely numbered (``hippocampus_003``, ``la_001``, ``img0001``) have one scan a patient, for all that their
names say. What says more, in this order: a word such as sub or patient with its number at the beginning; a word such as
frame or visit with a number, or ED, ES, L, R and their like, at the end; two numbers, as in ``tr0012_03``.
"""

import re
from collections import defaultdict
from collections.abc import Iterable, Sequence

from semivox.errors import DatasetError

_HEAD = re.compile(
    r"(?i:sub-(?=[a-z0-9])|(?:sub|subj|subject|pat|patient|pt|p|person|participant|case|vol|volume)[-_ ]?(?=\d))"
)
_STRONG = "frame|fr|ses|session|visit|vis|timepoint|tp|time|phase|slice|sl|echo|followup|fu"
_WEAK = "t|v|s|z|d|mr|ct|scan|acq|run|rep|series|view|ph|day|week|month"  # may also number patients: stems need digits
_ALONE = "ed|es|l|r|lt|rt|left|right|od|os|pre|post|baseline|bl|followup|fu|systole|diastole|insp|exp"
_TAIL = re.compile(rf"[-_. ](?i:(?P<strong>{_STRONG})[-_]?\d+|(?P<weak>{_WEAK})[-_]?\d+|(?P<alone>{_ALONE}))$")
_INDEX = r"^.*?\d.*?(?=[-_]\d+$|$)"
_PLACE = re.compile(r"(?i)site|center|centre|hospital|scanner|vendor|fold|batch|part|train|test|set|group|cohort|tcga")
_YEAR = re.compile(r"\D*(?:19|20)\d\d\D*")


def patient_of(name: str, patients: str | None, *, unknown: str | None = None) -> str:
    """Return the patient that a case belongs to: the case itself without a regular expression.

    Args:
        name: of the case.
        patients: regular expression that finds the patient in a name: its first group, else the whole match.
        unknown: returned where nothing matches: unlabelled scans may have any names.

    Raises:
        DatasetError: the expression is none, or does not match the name and `unknown` is None.
    """
    if patients is None:
        return name
    try:
        match = re.search(patients, name)
    except (re.error, RecursionError, OverflowError) as error:
        raise DatasetError(f"patients '{patients:.200}': found no regular expression ({error}); correct it") from None
    if match is None and unknown is not None:
        return unknown
    if match is None:
        raise DatasetError(
            f"case '{name}': found no patient by '{patients:.200}', expected a match in every case's name; "
            "correct the expression or rename the case"
        )
    return match[0] if not match.re.groups or match[1] is None else match[1]


def patient_pattern(names: Iterable[str]) -> str | None:
    r"""Return a regular expression that finds the patient in each name; None where each looks like one's only scan.

    >>> patient_pattern(["patient01_ED", "patient01_ES", "patient02_ED"])
    '^patient\\d+'
    >>> patient_pattern(["la_001", "la_002", "la_003"]) is None
    True
    """
    names = sorted(set(names))
    for pattern in (_by_head(names), _by_tail(names), _by_index(names)):
        if pattern is not None:
            return pattern if all(re.search(pattern, name) for name in names) else f"{pattern}|^.+"
    return None


def joined(patients: str | None, groups: Sequence[Sequence[str]], others: Iterable[str] = ()) -> str | None:
    """Return an expression that finds one patient in all names of a group, and elsewhere what `patients` finds.

    The patient of a group is a beginning that its names share, and that is no patient of another group or of the
    `others`; None where there are not enough of them.

    >>> joined(None, [["a1", "a2"]])
    '^(?=(?:a1|a2)$)a|^.+'
    """
    grouped = {name for names in groups for name in names}
    taken = {patient_of(name, patients, unknown=name) for name in others if name not in grouped}
    ways = []
    for names in sorted(groups, key=lambda names: len(_prefix(names))):  # short ones have fewer beginnings to take
        longest = _prefix(names)
        prefix = next((p for n in range(len(longest), -1, -1) if (p := longest[:n]) not in taken), None)
        if prefix is None:
            return None
        taken.add(prefix)
        ways.append(f"^(?=(?:{'|'.join(map(re.escape, names))})$){re.escape(prefix)}")
    return "|".join([*ways, patients or "^.+"])


def _prefix(names: Sequence[str]) -> str:
    first, last = min(names), max(names)
    return next((first[:n] for n in range(len(first), 0, -1) if last.startswith(first[:n])), "")


def _scans_by_patient(pattern: str, names: Sequence[str]) -> dict[str, list[str]]:
    """Return the scans of each patient; nothing where all are of one, or none shares one: the pattern says nothing."""
    found: dict[str, list[str]] = defaultdict(list)
    for name in names:
        found[patient_of(name, pattern, unknown=name)].append(name)
    return found if 1 < len(found) < len(names) else {}


def _by_head(names: Sequence[str]) -> str | None:
    heads = sorted({match[0] for match in map(_HEAD.match, names) if match})
    if not heads:
        return None
    words = [f"{head}[A-Za-z0-9]+" if head.lower() == "sub-" else rf"{head}\d+" for head in heads]
    pattern = f"^{words[0]}" if len(words) == 1 else f"^(?:{'|'.join(words)})"
    return pattern if _scans_by_patient(pattern, names) else None


def _by_tail(names: Sequence[str]) -> str | None:
    words: dict[str, str] = {}  # how a word is found, in the order of the lists above
    for name in names:
        while match := _TAIL.search(name):
            name = name[: match.start()]
            if match["weak"] and not re.search(r"\d", name):
                return None
            word = next(word for word in match.groups() if word).lower()
            words[word if match["alone"] else rf"{word}[-_]?\d+"] = word
    if not words:
        return None
    pattern = f"^.+?(?=(?:[-_. ](?i:{'|'.join(sorted(words))}))+$|$)"
    return pattern if _scans_by_patient(pattern, names) else None


def _by_index(names: Sequence[str]) -> str | None:
    """Two numbers are a patient's and a scan's; those of sites, years and folds are not, and number far more scans."""
    found = _scans_by_patient(_INDEX, names)
    several = {stem: scans for stem, scans in found.items() if len(scans) > 1}
    if len(several) < 2 or any(_PLACE.search(stem) or _YEAR.fullmatch(stem) for stem in several):
        return None
    if len(found) < min(5, max(map(len, several.values()))):
        return None
    numbers = [[int(re.findall(r"\d+", scan)[-1][-9:]) for scan in scans] for scans in several.values()]
    dense = [max(found) - min(found) < 4 * len(found) for found in numbers]
    return _INDEX if 2 * sum(dense) >= len(dense) else None
