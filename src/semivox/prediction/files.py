"""Prediction: scans in, masks out, each in the grid, orientation and format of its own file."""

import json
import math
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from scipy import ndimage

from semivox.data.dataset import list_scans, read_dataset
from semivox.data.splitting import read_split
from semivox.data.volume import Volume, mask_ending, read_header, read_image, write_maps, write_mask
from semivox.errors import ConfigError, DatasetError, RunError
from semivox.files import file_digest, write_atomic
from semivox.prediction.predictor import Options, Predictor
from semivox.runs.folder import RunFolder

__all__ = ["Options", "Predictor", "entropy", "largest_components", "predict"]


def predict(
    runs: Sequence[Path],
    scans: Sequence[Path],
    *,
    output: Path,
    held_out: bool = False,
    probabilities: bool = False,
    uncertainty: bool = False,
    options: Options | None = None,
    device: str = "auto",
    overwrite: bool = False,
    on_case: Callable[[str, int, int], None] | None = None,
    on_note: Callable[[str], None] = lambda text: None,
) -> list[Path]:
    """Write a mask for every scan; what exists of the same weights and options is skipped.

    Args:
        runs: run folders; the probabilities of several are averaged.
        scans: files or folders of scans, or one data folder with `held_out`.
        output: folder of the masks; ``prediction.json`` beside them says how they were made.
        held_out: take the cases that the first run's split holds out.
        probabilities: also write CASE_probabilities.nii.gz, class last.
        uncertainty: also write CASE_uncertainty.nii.gz: entropy of the mean probabilities over ln K, in [0, 1].
        options: how windows are placed.
        device: "auto", "cpu" or "cuda".
        overwrite: make masks anew that exist.
        on_case: called with (case, done, all).
        on_note: called with a sentence for every run that is not at its end.

    Returns:
        The masks' paths, the skipped ones included.

    Raises:
        RunError: a run cannot be used, the disk cannot be written, or the GPU has too little memory.
        ConfigError: `output` holds masks of other weights, options or programs, or the scans themselves.
        DatasetError, GeometryError: a scan cannot be used; masks written before it stay.
    """
    predictors = [Predictor(path, device=device) for path in runs]
    first = predictors[0]
    _agree(predictors)
    found = _held_out(first.run, scans) if held_out else list_scans(scans, first.recipe.channels)
    _check_channels(found, first.run.facts["channels"])
    targets = {case: output / f"{case}{mask_ending(files[0])}" for case, files in found.items()}
    _check_targets(targets, found)
    _write_record(targets, output, _record(predictors, found, options), overwrite=overwrite)
    for p in predictors:
        if not p.finished:
            on_note(f"{p.run.path} is not at its end: its weights are those of {p.step} of {p.steps} steps")
    asked = [kind for kind, wanted in (("probabilities", probabilities), ("uncertainty", uncertainty)) if wanted]
    for number, (case, files) in enumerate(sorted(found.items())):
        if on_case:
            on_case(case, number, len(found))
        maps = {kind: output / f"{case}_{kind}.nii.gz" for kind in asked}
        if not overwrite and all(path.exists() for path in (*maps.values(), targets[case])):
            continue
        volume = read_image(files)
        mean = _mean_probabilities(predictors, volume, case, options)
        if probabilities:
            write_maps(mean, volume, maps["probabilities"])
        if uncertainty:
            write_maps(entropy(mean)[None], volume, maps["uncertainty"])
        mask = _mask(mean, first, options)
        write_mask(mask, volume, targets[case], values=first.recipe.label_values)  # last: with it the case is done
    return list(targets.values())


def entropy(probabilities: np.ndarray) -> np.ndarray:
    """Return the entropy of (K, X, Y, Z) probabilities over ln K: (X, Y, Z) in [0, 1]."""
    total = np.zeros(probabilities.shape[1:], probabilities.dtype)
    for p in probabilities:  # class by class: the whole array may be gigabytes
        p = np.clip(p, 1e-12, 1)
        total -= p * np.log(p)
    total /= math.log(len(probabilities))
    return np.clip(total, 0, 1, out=total)


def largest_components(mask: np.ndarray) -> np.ndarray:
    """Return a mask (X, Y, Z) of class indices with only the largest component of every class (face neighbours)."""
    kept = np.zeros_like(mask)
    for value in np.unique(mask[mask > 0]):
        parts, _ = ndimage.label(mask == value)
        sizes = np.bincount(parts.ravel())[1:]
        kept[parts == 1 + sizes.argmax()] = value
    return kept


def _mean_probabilities(
    predictors: Sequence[Predictor], volume: Volume, case: str, options: Options | None
) -> np.ndarray:
    first, *others = predictors
    mean = first.probabilities(volume, case=case, options=options)
    for other in others:
        mean += other.probabilities(volume, case=case, options=options)
    mean /= len(predictors)
    return mean


def _mask(mean: np.ndarray, predictor: Predictor, options: Options | None) -> np.ndarray:
    """Return file label values (X, Y, Z) of mean probabilities, of the smallest type that holds them all."""
    mask = np.empty(mean.shape[1:], np.min_scalar_type(len(mean)))
    for x in range(len(mask)):  # argmax of the whole would be eight bytes a voxel
        mask[x] = mean[:, x].argmax(0)
    wanted = options.largest_component if options else None
    if predictor.run.config.predict.largest_component if wanted is None else wanted:
        mask = largest_components(mask)
    values = predictor.recipe.label_values
    return np.asarray(values, np.result_type(*map(np.min_scalar_type, values)))[mask]


def _agree(predictors: Sequence[Predictor]) -> None:
    """Refuse runs that do not segment the same classes of the same channels."""
    first = predictors[0].run
    for other in predictors[1:]:
        for key in ("channels", "classes"):
            if other.run.facts[key] != first.facts[key]:
                raise ConfigError(
                    f"runs {first.path} and {other.run.path} cannot be averaged: {key} are {first.facts[key]} and "
                    f"{other.run.facts[key]}; predict them into two folders"
                )


def _check_channels(found: Mapping[str, tuple[Path, ...]], names: Sequence[str]) -> None:
    """Refuse scans that the net cannot take, all at once and before the first hour of work."""
    if not found:
        raise DatasetError("there is no scan to predict: give files, or folders that hold them")
    counts = {case: sum(read_header(path).channels for path in files) for case, files in found.items()}
    wrong = [case for case in found if counts[case] != len(names)]
    if wrong:
        case = wrong[0]
        files = ", ".join(str(path) for path in found[case])
        raise DatasetError(
            f"{len(wrong)} of {len(found)} scans cannot be predicted: '{case}' has {counts[case]} channels ({files}), "
            f"expected {len(names)} ({', '.join(names)}); a scan is one file with all channels, or CASE_0000, "
            "CASE_0001 ... with one each, and has a name of its own"
        )


def _check_targets(targets: Mapping[str, Path], found: Mapping[str, tuple[Path, ...]]) -> None:
    scans = {path.resolve() for files in found.values() for path in files}
    for target in targets.values():
        if target.resolve() in scans:
            raise ConfigError(f"the mask {target} would take its scan's place: name another folder with -o")


def _held_out(run: RunFolder, scans: Sequence[Path]) -> Mapping[str, tuple[Path, ...]]:
    if len(scans) != 1 or not (scans[0] / "dataset.json").exists():
        raise ConfigError("--held-out takes one data folder with a dataset.json, the one that the run was trained on")
    names = read_split(run.split_file).held_out
    if not names:
        raise ConfigError(f"the split of {run.path} holds no case out: name scans instead of --held-out")
    dataset = read_dataset(scans[0])
    return {name: dataset.case(name).images for name in names}


def _record(
    predictors: Sequence[Predictor], found: Mapping[str, tuple[Path, ...]], options: Options | None
) -> dict[str, Any]:
    """Return what prediction.json says: all that tells where masks come from."""
    first = predictors[0].run
    return {
        "run": [str(p.run.path.resolve()) for p in predictors],
        "method": first.facts["method"],
        "group": first.config.label or first.facts["method"],
        "seed": first.config.seed,
        "split": first.facts["split"],
        "patients": read_split(first.split_file).patients,
        "weights": [file_digest(p.checkpoint) for p in predictors],
        "step": [p.step for p in predictors],
        "steps": [p.steps for p in predictors],
        "finished": all(p.finished for p in predictors),
        "options": vars(options or Options()),
        "images": {case: [str(path.resolve()) for path in files] for case, files in found.items()},
        "command": " ".join(["semivox", *sys.argv[1:]]),
        "train_command": first.facts["command"],
        "config": first.config.model_dump(mode="json"),
        "versions": first.facts["versions"],
    }


def _write_record(targets: Mapping[str, Path], output: Path, record: dict[str, Any], *, overwrite: bool) -> None:
    """Write prediction.json; what it said of further masks of the same weights and options is kept.

    Raises:
        ConfigError: masks of other weights or options would stay beside the new ones, under one record.
    """
    file = output / "prediction.json"
    before = _read_record(file)
    images = before["images"] | record["images"]
    foreign = [path for case, path in targets.items() if case not in before["images"] and path.exists()]
    if foreign and not overwrite:
        raise ConfigError(
            f"{foreign[0]} was not made by `semivox predict`, or {file.name} was lost: name another folder with -o, or "
            "replace it with --overwrite"
        )
    if any(before.get(key, record[key]) != record[key] for key in ("weights", "options")):
        if not overwrite or images.keys() != record["images"].keys():
            raise ConfigError(
                f"{output} holds masks of other weights or options: name another folder with -o, or make the same "
                "scans' masks anew with --overwrite"
            )
        images = record["images"]
    record = record | {"images": images}
    write_atomic(file, lambda handle: handle.write(json.dumps(record, indent=1).encode()))


def _read_record(file: Path) -> dict[str, Any]:
    """Return what prediction.json says, after making its folder; without the file, that there are no masks."""
    hint = "remove it with its masks, or name another folder with -o"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {"images": {}}
    except (OSError, ValueError) as error:
        raise RunError(f"cannot use {file} ({error}): {hint}") from error
    keys = ("images", "weights", "options") if file.exists() else ("images",)
    if not isinstance(found, dict) or not isinstance(found.get("images"), dict) or not {*keys} <= found.keys():
        raise RunError(f"{file}: found no record of `semivox predict`, expected one with {', '.join(keys)}: {hint}")
    return found
