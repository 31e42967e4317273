"""Which masks are scored against which labels: the files of two folders, by case."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

from semivox.data.cases import case_name, scan_files
from semivox.data.splitting import Split, read_names, read_split
from semivox.data.volume import bare_name, ending
from semivox.errors import DatasetError

_POOL = ("imagesTr", "imagesUn")
BY_PRODUCTS = ("_probabilities", "_uncertainty")
"""Endings of what `predict` writes beside its masks."""


def list_masks(folder: Path, *, labelled: Collection[str] | None = None) -> dict[str, Path]:
    """Return the masks or labels of a folder by case.

    Args:
        folder: with a file per case.
        labelled: names of the cases that have a label, where `folder` holds masks: what is named like a by-product
            of `predict` is a mask where a label bears its name. None: the folder holds labels, and no by-products.

    Raises:
        DatasetError: there is no such folder, or a case has two files.
    """
    if not folder.is_dir():
        raise DatasetError(f"{folder}: found no such folder, expected one with a file per case; check the path")
    found: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        case = bare_name(path)
        if not ending(path) or path.name.startswith("."):
            continue
        if labelled is not None and case.endswith(BY_PRODUCTS) and case not in labelled:
            continue
        if case in found:
            raise DatasetError(f"{folder}: found {found[case].name} and {path.name}, expected one file per case")
        found[case] = path
    return found


def list_test_labels(folder: Path, channels: int) -> dict[str, Path]:
    """Return the files of a data set's labelsTs by case, without those whose name a scan of the pool bears, too.

    Raises:
        DatasetError: a case has two files.
    """
    found = list_masks(folder / "labelsTs") if (folder / "labelsTs").is_dir() else {}
    pool = {case_name(path, max(channels, 1)) for part in _POOL for path in scan_files(folder / part)}
    return {case: path for case, path in found.items() if case not in pool}


def cases_to_score(
    cases: Split | Path | Sequence[str] | None,
    mask_files: Mapping[str, Path],
    label_files: Mapping[str, Path],
    masks: Path,
    labels: Path,
) -> list[str]:
    """Return the cases to score: those that are listed, or those that both folders have.

    Raises:
        DatasetError: there is none, the list cannot be read, a listed case has no label, or a name is no UTF-8.
    """
    found = _cases(cases, mask_files, label_files, masks, labels)
    for case in found:
        if not _is_text(case):
            raise DatasetError(
                f"{labels}: found the file {label_files[case].name!a}, whose name is not UTF-8, expected one that "
                "can stand in scores.csv; rename it and its mask"
            )
    return found


def _cases(
    cases: Split | Path | Sequence[str] | None,
    mask_files: Mapping[str, Path],
    label_files: Mapping[str, Path],
    masks: Path,
    labels: Path,
) -> list[str]:
    if cases is None:
        shared = sorted(mask_files.keys() & label_files.keys())
        if not shared:
            raise DatasetError(
                f"{masks}: found {_examples(mask_files)}, of which {labels} has none ({_examples(label_files)}); "
                "expected masks named like their label files"
            )
        return shared
    listed = _listed(cases)
    if not listed:
        raise DatasetError("cases: found an empty list, expected held-out cases; make the split with --held-out")
    if unlabelled := [case for case in listed if case not in label_files]:
        raise DatasetError(
            f"{labels}: found no label of {', '.join(unlabelled[:10])} ({len(unlabelled)} of {len(listed)} listed "
            "cases), expected one of each; correct the list or the folder"
        )
    return listed


def _is_text(name: str) -> bool:
    """Return whether a file's name is UTF-8: Python keeps other bytes as surrogates, which no file of text holds."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def _listed(cases: Split | Path | Sequence[str]) -> list[str]:
    if isinstance(cases, Path | str) and Path(cases).suffix == ".json":
        cases = read_split(Path(cases))
    if isinstance(cases, Split):
        return list(cases.held_out)
    if isinstance(cases, Path | str):
        cases = read_names(Path(cases))
    return list(dict.fromkeys(cases))


def _examples(files: Mapping[str, Path]) -> str:
    return f"{len(files)} files" + (
        f" such as {', '.join(path.name for path in list(files.values())[:2])}" * bool(files)
    )
