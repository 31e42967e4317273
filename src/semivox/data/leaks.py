"""Leaks: scans of one patient on the two sides of a split, suspected by their names and by their images."""

from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from shlex import quote
from typing import TypeVar

from semivox.data.dataset import Dataset
from semivox.data.faults import Fault
from semivox.data.likeness import Likeness, alike_pairs, likeness, same_grid
from semivox.data.patients import joined, patient_of, patient_pattern
from semivox.data.splitting import Split
from semivox.data.volume import Header, is_picture, read_file, read_header
from semivox.errors import SemivoxError

TESTS = "imagesTs/"
"""What stands before the name of a case of imagesTs, which may be a name of the pool too."""
SHOWN = 5
"""How many pairs a warning names."""
_FURTHER = 24  # scans that tell how alike the scans of a data set are
Pair = tuple[str, str]
T = TypeVar("T")


def split_leaks(split: Split, dataset: Dataset) -> list[Fault]:
    """Return a warning where names, and one where images, suggest that the split has a patient on both of its sides.

    Headers are read, and the first channel of scans that share their grid with one of the other side. Pictures, whose
    grid says nothing, are left to `check`.
    """
    return leak_faults(dataset, split, _read_likenesses(split, dataset))


def leak_faults(
    dataset: Dataset, split: Split | None, likenesses: Mapping[str, Likeness], *, copies: Collection[Pair] = ()
) -> list[Fault]:
    """Return a warning where names, and one where images, suggest that a patient is on both sides.

    Where the split says how names tell patients, names are suspected of nothing else.

    Args:
        dataset: the cases.
        split: its lists; without one, imagesTs is the other side of all that training could see.
        likenesses: by case, with `TESTS` in front of the names of imagesTs.
        copies: pairs that are known to be equal: they are faults of their own.
    """
    ours, theirs = _sides(dataset, split)
    given = split.patients if split is not None else None
    pattern = patient_pattern(map(_bare, (*ours, *theirs))) if given is None else given
    named = _same_patient(ours, [name for name in theirs if given is None or name.startswith(TESTS)], pattern)
    sided = {*ours, *theirs}
    alike = alike_pairs(
        {name: likenesses[name] for name in ours if name in likenesses},
        {name: likenesses[name] for name in theirs if name in likenesses},
        others=[one for name, one in likenesses.items() if name not in sided],
    )
    known = {frozenset(pair) for pair in copies}
    alike = [pair for pair in alike if frozenset(pair[:2]) not in known and not _one_patient(pair[:2], pattern, named)]
    return [*_name_fault(named, pattern), *_image_fault(alike, [*ours, *theirs], pattern)]


def _sides(dataset: Dataset, split: Split | None) -> tuple[list[str], list[str]]:
    """Return what training may see, and what it may not."""
    tests = [f"{TESTS}{name}" for name in dataset.tests]
    if split is None:
        return list(dataset.cases), tests
    held_out = [name for name in split.held_out if name in dataset.cases]
    return [name for name in split.pool if name in dataset.cases], held_out + tests


def _bare(name: str) -> str:
    return name.removeprefix(TESTS)


def _patient(name: str, pattern: str | None) -> str:
    return patient_of(_bare(name), pattern, unknown=_bare(name))


def _same_patient(ours: Sequence[str], theirs: Sequence[str], pattern: str | None) -> list[Pair]:
    """Return one pair for each patient that both sides seem to have."""
    if pattern is None:
        return []
    seen = {_patient(name, pattern): name for name in reversed(ours)}
    pairs = {_patient(name, pattern): name for name in reversed(theirs)}
    return [(seen[patient], name) for patient, name in reversed(pairs.items()) if patient in seen]


def _one_patient(pair: Pair, pattern: str | None, named: Sequence[Pair]) -> bool:
    """Return whether both scans are of a patient that a warning has named."""
    first, second = (_patient(name, pattern) for name in pair)
    return first == second and first in {_patient(ours, pattern) for ours, _ in named}


def _name_fault(pairs: Sequence[Pair], pattern: str | None) -> list[Fault]:
    if not pairs or pattern is None:
        return []
    shown = [f"'{ours}' and '{theirs}'" for ours, theirs in pairs]
    return [
        Fault("warning", _counted(pairs, "patient"), "by name, with scans on both sides", _listed(shown),
              "all scans of a patient on one side", _fix(pairs, pattern))
    ]  # fmt: skip


def _image_fault(pairs: Sequence[tuple[str, str, float]], names: Sequence[str], pattern: str | None) -> list[Fault]:
    if not pairs:
        return []
    shown = [f"'{ours}' and '{theirs}' (correlation {value:.2f})" for ours, theirs, value in pairs]
    both = [pair[:2] for pair in pairs]
    offered = joined(pattern, _groups(both, names, pattern), map(_bare, names))
    return [
        Fault("warning", _counted(pairs, "pair"), "by grid and intensities, one patient on both sides", _listed(shown),
              "all scans of a patient on one side", _fix(both, offered))
    ]  # fmt: skip


def _groups(pairs: Sequence[Pair], names: Sequence[str], pattern: str | None) -> list[list[str]]:
    """Return the names of each set of patients that pairs join, with all of their other scans."""
    sets: list[set[str]] = []
    for pair in pairs:
        one = {_patient(name, pattern) for name in pair}
        one = one.union(*(other for other in sets if other & one))
        sets = [*(other for other in sets if not other & one), one]
    return [sorted({_bare(name) for name in names if _patient(name, pattern) in one}) for one in sets]


def _counted(pairs: Sequence[object], word: str) -> str:
    return f"{len(pairs)} {word}{'s' * (len(pairs) > 1)}"


def _listed(shown: Sequence[str]) -> str:
    return ", ".join(shown[:SHOWN]) + (f" and {len(shown) - SHOWN} more" if len(shown) > SHOWN else "")


def _fix(pairs: Sequence[Pair], pattern: str | None) -> str:
    unless = "or check that they are of different patients"
    if all(theirs.startswith(TESTS) for _, theirs in pairs):
        return f"lay them into one folder, {unless}"
    if pattern is None:
        return f"split with --patients and an expression that finds one patient in both names of a pair, {unless}"
    return f"split with --patients {quote(pattern)}, {unless}"


def _read_likenesses(split: Split, dataset: Dataset) -> dict[str, Likeness]:
    """Return the likenesses of scans whose grid the other side has too, and of a few more where there is any such."""
    files = {name: case.images[0] for name, case in dataset.cases.items()}
    files |= {f"{TESTS}{name}": case.images[0] for name, case in dataset.tests.items()}
    ours, theirs = ([name for name in side if not is_picture(files[name])] for side in _sides(dataset, split))
    if not theirs:
        return {}
    headers = {name: header for name in (*ours, *theirs) if (header := _tried(read_header, files[name])) is not None}
    by_shape: dict[tuple[int, ...], list[str]] = {}
    for name in ours:
        if name in headers:
            by_shape.setdefault(headers[name].shape, []).append(name)
    wanted: dict[str, None] = {}
    for name in headers.keys() & theirs:
        partners = [one for one in by_shape.get(headers[name].shape, ()) if _on_one_grid(headers[name], headers[one])]
        wanted |= dict.fromkeys([name, *partners] if partners else [])
    if wanted:
        wanted |= dict.fromkeys([*headers][:: max(1, len(headers) // _FURTHER)])
    return {name: one for name in sorted(wanted) if (one := _tried(_likeness_of, files[name])) is not None}


def _on_one_grid(one: Header, other: Header) -> bool:
    return same_grid(one.shape, one.affine, other.shape, other.affine)


def _likeness_of(path: Path) -> Likeness | None:
    volume = read_file(path)
    return likeness(volume.array[0], volume.affine)


def _tried(read: Callable[[Path], T], path: Path) -> T | None:
    """Return what a reader gives; None where the file is damaged, which `check` and `train` say."""
    try:
        return read(path)
    except SemivoxError:
        return None
