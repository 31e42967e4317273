"""The folds of a cross-validation as run folders: where they lie, and which runs a folder stands for."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from semivox.errors import RunError
from semivox.files import read_object

FOLDS_FILE = "folds.json"
"""In the folder of a cross-validation: the number of folds, what their parts follow from, and the parts."""


def fold_folders(folder: Path, folds: int) -> tuple[Path, ...]:
    """Return the run folders of a cross-validation's folds, whether they are there or not."""
    return tuple(folder / f"fold_{number}" for number in range(folds))


def read_folds(folder: Path) -> dict[str, Any]:
    """Return what folds.json says: "folds", "parts" and more; nothing where there is none.

    Raises:
        RunError: the file is damaged.
    """
    file, advice = folder / FOLDS_FILE, "restore it, or remove it and go on with `train --folds` and --resume"
    try:
        found = read_object(file, advice=advice)
    except FileNotFoundError:
        return {}
    folds, parts = found.get("folds"), found.get("parts")
    if type(folds) is not int or not isinstance(parts, list) or not 2 <= folds == len(parts):
        raise RunError(f"{file} is damaged: found folds = {folds!r:.40}, expected as many as there are parts; {advice}")
    return found


def is_run(path: Path) -> bool:
    """Return whether a folder is a run, or the folder of a cross-validation."""
    return (path / "run.json").exists() or (path / FOLDS_FILE).exists()


def each_run(paths: Sequence[Path]) -> list[Path]:
    """Return run folders, with all its folds in place of the folder of a cross-validation.

    Raises:
        RunError: a fold is not there, or folds.json is damaged.
    """
    return [run for path in map(Path, paths) for run in _folds_of(path) or (path,)]


def _folds_of(path: Path) -> tuple[Path, ...]:
    """Return the runs of a cross-validation; none where the folder is a run of its own, or anything else."""
    found = {} if (path / "run.json").exists() else read_folds(path)
    folders = fold_folders(path, found["folds"]) if found else ()
    missing = [folder.name for folder in folders if not (folder / "run.json").exists()]
    if missing:
        raise RunError(
            f"{path} has {len(folders)} folds, and {', '.join(missing)} has not begun: go on with `semivox train "
            f"--folds {len(folders)} --resume`, or name the folds that are there"
        )
    return folders
