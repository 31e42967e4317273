"""The list of a data set: which scans, with which labels, ``"training"`` in dataset.json names, as in the Decathlon."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from semivox.data.cases import Case, case_name
from semivox.data.description import FILE, Listed
from semivox.data.faults import Fault
from semivox.data.formats import bare_name

SHOWN = 10
"""How many names a fault gives."""


def listed_cases(
    cases: Mapping[str, Case], labels: Mapping[str, Path], training: Sequence[Listed], channels: int
) -> tuple[dict[str, Case], tuple[str, ...], list[Fault]]:
    """Return the cases with listed labels alone, the names of those that so lost theirs, and what the list has wrong.

    Args:
        cases: of imagesTr, with the labels that have their names.
        labels: label files by bare name.
        training: the list.
        channels: how many an image has.
    """
    names = [case_name(Path(entry.images[0]), channels) for entry in training]
    wanted = {name: bare_name(Path(entry.label)) for name, entry in zip(names, training, strict=True) if entry.label}
    kept = {name: replace(case, label=labels.get(wanted.get(name, ""))) for name, case in cases.items()}
    unlisted = tuple(name for name, case in cases.items() if case.label is not None and name not in wanted)
    twice = [name for name, count in Counter(names).items() if count > 1]
    absent = [name for name in dict.fromkeys(names) if name not in cases]
    bare = [name for name, label in wanted.items() if name in cases and label not in labels]
    faults = [
        *_fault(twice, "listed several times", "each once", "keep one entry of each"),
        *_fault(absent, "listed, but not in imagesTr", "the image of every entry",
                "add the images, or remove their entries"),
        *_fault(bare, "listed with a label that is not in labelsTr", "the label of every entry",
                "add the labels, or remove them from their entries"),
    ]  # fmt: skip
    return kept, unlisted, faults


def unlisted_fault(names: Sequence[str]) -> list[Fault]:
    """Return the warning that labels are not used; nothing where there is none."""
    return [
        replace(fault, severity="warning")
        for fault in _fault(names, "labels are not used, since it does not list them", "every label that is to be used",
                            "list them too, or remove the list; without a label a scan is unlabelled")
    ]  # fmt: skip


def _fault(names: Sequence[str], what: str, expected: str, fix: str) -> list[Fault]:
    found = f"{len(names)}: {', '.join(f'{name:.100}' for name in names[:SHOWN])}{' ...' * (len(names) > SHOWN)}"
    return [Fault("error", FILE, f"'training': {what}", found, expected, fix)] if names else []
