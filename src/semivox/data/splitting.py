"""Splits: which cases are labelled, unlabelled and held out; a JSON file that is written before anything is trained."""

import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from semivox.data.dataset import Dataset
from semivox.data.faults import Fault, sentences
from semivox.data.names import is_plain, shown
from semivox.data.patients import patient_of
from semivox.data.volume import content_hash, read_image
from semivox.errors import DatasetError, nearest
from semivox.files import whole_file

_LISTS = ("labelled", "unlabelled", "held_out")
_TYPES = {**dict.fromkeys(_LISTS, list), "patients": str | None, "seed": int | None, "hashes": dict}
_EXPECTED = {
    **dict.fromkeys(_LISTS, "a list of case names"),
    "patients": "a regular expression or null",
    "seed": "a whole number or null",
    "hashes": "a hash by case name",
}


@dataclass(frozen=True)
class Split:
    """Who is labelled, unlabelled and held out; the lists are disjoint and sorted.

    Attributes:
        labelled: cases whose labels training may read; labels used for validation count among them.
        unlabelled: cases of which training sees the image alone.
        held_out: cases that only `check`, `predict` and `evaluate` open.
        patients: regular expression that finds the patient in a case's name (its first group, else the whole match).
        seed: of the draw; None where the order of names or explicit lists decided.
        hashes: content hash of each held-out image, so that a copy of it in the pool can be refused unseen.
    """

    labelled: tuple[str, ...]
    unlabelled: tuple[str, ...] = ()
    held_out: tuple[str, ...] = ()
    patients: str | None = None
    seed: int | None = None
    hashes: Mapping[str, str] = field(default_factory=dict)

    @property
    def pool(self) -> tuple[str, ...]:
        """What plan, prepare and train see: labelled, then unlabelled."""
        return self.labelled + self.unlabelled

    @property
    def digest(self) -> str:
        """SHA-256 (hex) of the three lists."""
        return hashlib.sha256(json.dumps([getattr(self, name) for name in _LISTS]).encode()).hexdigest()


def make_split(
    dataset: Dataset,
    *,
    labelled: int | Sequence[str] | None = None,
    held_out: int | Sequence[str] = 0,
    patients: str | None = None,
    seed: int | None = None,
    hash_held_out: bool = True,
) -> Split:
    """Return a split: the first `labelled` and the last `held_out` of the cases that have a label.

    All other cases are unlabelled, except those of held-out patients, which are left out. With `patients`, numbers
    count patients. With `seed`, the order is drawn: one seed's smaller budgets lie within its larger ones. Numbers
    never take a patient with a machine-made label: a score by it would say nothing, and no person drew it.

    Args:
        dataset: the cases.
        labelled: how many, or which; None for every label that is not held out.
        held_out: how many, or which; cases of imagesTs may be named.
        patients: see `Split`.
        seed: of the draw.
        hash_held_out: read the held-out images for `Split.hashes`.

    Raises:
        DatasetError: fewer labels than asked, unknown names, or a patient on both sides.
    """
    groups = grouped_by_patient(dataset.labelled, patients, seed)
    listed = {patient_of(name, patients) for name in labelled} if isinstance(labelled, Sequence) else set()
    made = {patient_of(name, patients) for name in dataset.machine_made}
    free = [groups[patient] for patient in reversed(groups) if patient not in listed | made]
    which = "are listed as labelled or machine-made" if made else "are listed as labelled"
    last = _chosen(held_out, free, "held-out", f"{len(groups) - len(free)} {which}")
    sealed = {patient_of(name, patients, unknown=name) for name in last}
    rest = [names for patient, names in groups.items() if patient not in sealed]
    gone = f"{len(groups) - len(rest)} are held out"
    if labelled is None and not rest and groups:
        raise DatasetError(f"nothing is labelled: found {len(groups)} labelled cases (or patients), of which {gone}; "
                           "hold out fewer, or add labels")  # fmt: skip
    drawn = [groups[patient] for patient in groups if patient not in sealed | made]
    first = _chosen([n for names in rest for n in names] if labelled is None else labelled, drawn, "labelled", gone)
    taken = {*first, *last}
    others = [
        name for name in dataset.cases
        if name not in taken and patient_of(name, patients, unknown=name) not in sealed
    ]  # fmt: skip
    split = Split(tuple(sorted(first)), tuple(sorted(others)), tuple(sorted(last)), patients, seed)
    check_split(split, dataset)
    if hash_held_out:
        split = replace(split, hashes=image_hashes(split.held_out, dataset))
    return split


def image_hashes(names: Iterable[str], dataset: Dataset) -> dict[str, str]:
    """Return the content hash of each case's image, which is read."""
    return {name: content_hash(read_image(dataset.case(name).images).array) for name in sorted(names)}


def grouped_by_patient(names: Sequence[str], patients: str | None, seed: int | None) -> dict[str, list[str]]:
    """Return the cases of each patient, patients in sorted or seeded order."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(patient_of(name, patients), []).append(name)
    order = sorted(groups)
    if seed is not None:
        order = [order[index] for index in np.random.default_rng(seed).permutation(len(order))]
    return {patient: groups[patient] for patient in order}


def _chosen(wanted: int | Sequence[str], groups: list[list[str]], word: str, gone: str) -> list[str]:
    if not isinstance(wanted, int):
        return list(wanted)
    if not 0 <= wanted <= len(groups):
        others = "" if gone.startswith("0 ") else f" ({gone})"
        raise DatasetError(
            f"asked for {wanted} {word}: found {len(groups)} labelled cases (or patients) to take them from{others}, "
            f"expected at least {wanted}; ask for fewer or add labels"
        )
    return [name for group in groups[:wanted] for name in group]


def with_unlabelled(split: Split, dataset: Dataset) -> Split:
    """Return the split with the scans of ``--unlabelled`` (`Dataset.added`) in its unlabelled list."""
    new = {*dataset.added} - {*split.pool, *split.held_out}
    return replace(split, unlabelled=tuple(sorted({*split.unlabelled, *new})))


def training_split(dataset: Dataset, split: Path | str | Split | None) -> Split:
    """Return the split that plan, prepare and train follow; without one, every label is used and the rest unlabelled.

    Held-out scans need not be there: training never opens them.

    Raises:
        DatasetError: the split cannot be read, or its pool does not fit the data set.
    """
    if split is None:
        return make_split(dataset)
    lists = with_unlabelled(split if isinstance(split, Split) else read_split(split, dataset), dataset)
    check_split(lists, dataset, sealed=False)
    return lists


def read_split(path: Path | str, dataset: Dataset | None = None) -> Split:
    """Return a split from its file, or the first fold of nnU-Net's splits_final.json.

    Args:
        path: the JSON file.
        dataset: for nnU-Net's format, which knows no unlabelled cases: those without a label are taken from here.

    Raises:
        DatasetError: the file cannot be read, has unknown keys, or lists a case twice.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise DatasetError(f"{path}: found no split ({error}), expected JSON; make one by `semivox split`") from error
    if isinstance(content, list) and content and isinstance(content[0], dict) and {"train", "val"} <= {*content[0]}:
        without = [case.name for case in dataset.cases.values() if case.label is None] if dataset is not None else []
        content = {"labelled": content[0]["train"], "held_out": content[0]["val"], "unlabelled": without}
    split = _parsed(content, path)
    twice = _repeated(split)
    if twice:
        raise DatasetError(f"{path}: {sentences(twice)}")
    return split


def read_names(path: Path) -> list[str]:
    """Return the case names of a text file, one a line; blank lines say nothing.

    Raises:
        DatasetError: the file cannot be read, or names no case.
    """
    try:
        lines = Path(path).read_text(encoding="utf-8-sig").splitlines()
    except (OSError, ValueError) as error:
        raise DatasetError(f"{path}: found no list of cases ({error}), expected text with one name a line") from error
    names = [line.strip() for line in lines if line.strip()]
    if not names:
        raise DatasetError(f"{path}: found no name in it, expected one case a line; fill the list or do not give it")
    return names


def _parsed(content: Any, path: Path | str) -> Split:
    if not isinstance(content, dict) or not isinstance(content.get("labelled"), list):
        raise DatasetError(
            f"{path}: found no list 'labelled', expected a split with the keys {', '.join(_TYPES)} or nnU-Net's "
            "splits_final.json; write one with `semivox split`"
        )
    for key, value in content.items():
        if key not in _TYPES:
            raise DatasetError(f"{path}: found the unknown key {shown(key)}: {nearest(key[:100], _TYPES)}")
        names = value if isinstance(value, list) else [*value, *value.values()] if isinstance(value, dict) else []
        if not isinstance(value, _TYPES[key]) or isinstance(value, bool) or not all(map(is_plain, names)):
            found = next((name for name in names if not is_plain(name)), value)
            raise DatasetError(f"{path}: found {shown(found)} under '{key}', expected {_EXPECTED[key]}; correct it")
    labelled, unlabelled, held_out = (tuple(sorted(content.get(key, ()))) for key in _LISTS)
    patients, seed, hashes = content.get("patients"), content.get("seed"), content.get("hashes", {})
    if patients is not None and not is_plain(patients):
        raise DatasetError(f"{path}: found {shown(patients)} under 'patients', expected {_EXPECTED['patients']}")
    return Split(labelled, unlabelled, held_out, patients, seed, hashes)


def write_split(split: Split, path: Path | str) -> None:
    """Write the split as JSON, whole or not at all.

    Raises:
        RunError: the file cannot be written.
    """
    with whole_file(Path(path)) as temporary:
        temporary.write_text(json.dumps(asdict(split), indent=1) + "\n", encoding="utf-8")


def check_split(split: Split, dataset: Dataset, *, sealed: bool = True) -> None:
    """Refuse a split that does not fit its data set; opens no image.

    Args:
        split: the lists.
        dataset: the cases.
        sealed: whether the held-out scans must be there too.

    Raises:
        DatasetError: the message lists everything that is wrong.
    """
    faults = split_faults(split, dataset, sealed=sealed)
    if faults:
        raise DatasetError(sentences(faults))


def split_faults(split: Split, dataset: Dataset, *, sealed: bool = True) -> list[Fault]:
    """Return all that is wrong with a split of a data set; see `check_split`."""
    faults = _repeated(split)
    if not split.labelled:
        faults.append(_fault("split", "nothing is labelled", "an empty list", "at least one case", "label a scan"))
    for name in (*split.pool, *(split.held_out if sealed else ())):
        if name not in dataset.cases and (name in split.pool or name not in dataset.tests):
            hint = nearest(name, [*dataset.cases, *dataset.tests])
            faults.append(_fault(name, "in the split", f"no such case in {dataset.folder}", "a case's name", hint))
    for name in split.held_out:
        if name in dataset.machine_made:
            faults.append(
                _fault(name, "held out", "a machine-made label", "one that a person drew",
                       "correct it and give it to add-labels --replace, or unlist it")
            )  # fmt: skip
    for name in split.labelled:
        if name in dataset.cases and dataset.cases[name].label is None:
            faults.append(_fault(name, "listed as labelled", "no file in labelsTr", "its label", "add or unlist it"))
    return faults + _straddling(split)


def _repeated(split: Split) -> list[Fault]:
    counts = Counter([*split.pool, *split.held_out])
    return [
        _fault(name, "in the split", f"{count} entries", "one", "keep one of them")
        for name, count in counts.items() if count > 1
    ]  # fmt: skip


def _straddling(split: Split) -> list[Fault]:
    """Return a fault for each held-out case whose patient the pool has too."""
    if split.patients is None:
        return []
    try:
        pool = {patient_of(name, split.patients, unknown=name): name for name in split.unlabelled}
        pool |= {patient_of(name, split.patients): name for name in split.labelled}
        sealed = [(name, patient_of(name, split.patients)) for name in split.held_out]
    except DatasetError as error:
        return [_fault("split", "'patients'", str(error), "a patient for every case", "correct the expression")]
    return [
        _fault(name, f"patient '{patient}' is on both sides", f"'{pool[patient]}' in the pool",
               "all scans of a patient on one side", "hold out all of them or none")
        for name, patient in sealed if patient in pool
    ]  # fmt: skip


def _fault(case: str, what: str, found: str, expected: str, fix: str) -> Fault:
    return Fault("error", case, what, found, expected, fix)
