"""Prediction: scans in, masks out, each in the grid, orientation and format of its own file."""

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy import ndimage

from semivox.building import make_fabric, make_method
from semivox.data.dataset import list_scans, read_dataset
from semivox.data.preparation import prepare_image, restore_probabilities
from semivox.data.recipe import Recipe
from semivox.data.splitting import read_split
from semivox.data.volume import Volume, ending, read_header, read_image, write_maps, write_mask
from semivox.errors import ConfigError, DatasetError, RunError
from semivox.run import RunFolder, file_digest, open_run, read_checkpoint, write_atomic
from semivox.windows import slide


@dataclass(frozen=True)
class Options:
    """How windows become a mask; None takes what the run's config says.

    Attributes:
        step_size: distance of neighbouring windows as a part of the patch, in (0, 1].
        mirror: average over mirrored windows.
        largest_component: keep the largest connected component of every class.
    """

    step_size: float | None = None
    mirror: bool | None = None
    largest_component: bool | None = None


class Predictor:
    """A trained run, ready for scans.

    Args:
        path: the run folder.
        device: "auto", "cpu" or "cuda".

    Attributes:
        run: the run folder.
        method: the trained method in evaluation mode; ``method.student.encode`` gives its representation.
        recipe: how scans are prepared.

    Raises:
        RunError: no run, no checkpoint, or a damaged one.
    """

    def __init__(self, path: Path, *, device: str = "auto") -> None:
        self.run: RunFolder = open_run(path)
        checkpoint = self.run.latest()
        if checkpoint is None:
            raise RunError(f"{path} has no checkpoint yet: train with --resume until the first one is written")
        self.checkpoint = checkpoint
        self.recipe = Recipe.from_json(self.run.facts["recipe"])
        # half precision is a GPU's: a run that trained with it predicts on a CPU too
        precision = "32" if self.run.config.precision == "32" else "auto"
        self.fabric = make_fabric(self.run.config.model_copy(update={"precision": precision}), device)
        method = make_method(self.run.config, self.run.facts)
        method.load_state_dict(read_checkpoint(checkpoint)["method"])
        self.method = method.to(self.fabric.device).eval()

    def prepared(self, volume: Volume, *, case: str | None = None) -> torch.Tensor:
        """Return a scan as the method sees it: (C, *spatial) float32 at the run's spacing and intensities."""
        return torch.from_numpy(prepare_image(volume, self.recipe, case=case)[0])

    def probabilities(self, volume: Volume, *, case: str | None = None, options: Options | None = None) -> np.ndarray:
        """Return class probabilities of a scan.

        Args:
            volume: a scan of any spacing, in closest-to-RAS+ orientation.
            case: its name, where the run crops by named boxes.
            options: how windows are placed.

        Returns:
            (K, X, Y, Z) float32 in the scan's RAS+ grid.
        """
        options = options or Options()
        config = self.run.config
        image, geometry = prepare_image(volume, self.recipe, case=case)
        mirror = config.predict.mirror if options.mirror is None else options.mirror
        with torch.inference_mode(), self.fabric.autocast():
            found = slide(
                torch.from_numpy(image),
                self.method.predict,
                patch=config.patch,
                step_size=config.predict.step_size if options.step_size is None else options.step_size,
                stride=config.predict.stride if options.step_size is None else None,
                blend=config.predict.blend,
                batch=config.predict.batch,
                device=self.fabric.device,
                mirror=tuple(range(config.dims)) if mirror else (),
            )
        return restore_probabilities(found.numpy(), geometry)


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

    Returns:
        The masks' paths, the skipped ones included.

    Raises:
        RunError: a run cannot be used, or the disk cannot be written.
        ConfigError: `output` holds masks of other weights or options, or the scans themselves.
        DatasetError, GeometryError: a scan cannot be used; masks written before it stay.
    """
    predictors = [Predictor(path, device=device) for path in runs]
    first = predictors[0]
    _agree(predictors)
    found = _held_out(first.run, scans) if held_out else list_scans(scans, first.recipe.channels)
    _check_channels(found, first.run.facts["channels"])
    targets = {case: output / f"{case}{ending(files[0])}" for case, files in found.items()}
    _check_targets(targets, found)
    _write_record(output, _record(predictors, found, options), overwrite=overwrite)
    asked = [kind for kind, wanted in (("probabilities", probabilities), ("uncertainty", uncertainty)) if wanted]
    for number, (case, files) in enumerate(sorted(found.items())):
        if on_case:
            on_case(case, number, len(found))
        maps = {kind: output / f"{case}_{kind}.nii.gz" for kind in asked}
        if not overwrite and all(path.exists() for path in (*maps.values(), targets[case])):
            continue
        volume = read_image(files)
        mean = np.mean([p.probabilities(volume, case=case, options=options) for p in predictors], axis=0)
        if probabilities:
            write_maps(mean, volume, maps["probabilities"])
        if uncertainty:
            write_maps(entropy(mean)[None], volume, maps["uncertainty"])
        write_mask(_mask(mean, first, options), volume, targets[case])  # last: with it the case is done
    return list(targets.values())


def entropy(probabilities: np.ndarray) -> np.ndarray:
    """Return the entropy of (K, X, Y, Z) probabilities over ln K: (X, Y, Z) in [0, 1]."""
    p = np.clip(probabilities, 1e-12, 1)
    scaled: np.ndarray = -(p * np.log(p)).sum(0) / np.log(len(p))
    return scaled


def largest_components(mask: np.ndarray) -> np.ndarray:
    """Return a mask (X, Y, Z) of class indices with only the largest component of every class (face neighbours)."""
    kept = np.zeros_like(mask)
    for value in np.unique(mask[mask > 0]):
        parts, _ = ndimage.label(mask == value)
        sizes = np.bincount(parts.ravel())[1:]
        kept[parts == 1 + sizes.argmax()] = value
    return kept


def _mask(mean: np.ndarray, predictor: Predictor, options: Options | None) -> np.ndarray:
    """Return file label values (X, Y, Z) of mean probabilities."""
    mask = mean.argmax(0)
    wanted = options.largest_component if options else None
    if predictor.run.config.predict.largest_component if wanted is None else wanted:
        mask = largest_components(mask)
    return np.asarray(predictor.recipe.label_values)[mask]


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
        "weights": [file_digest(p.checkpoint) for p in predictors],
        "options": vars(options or Options()),
        "images": {case: [str(path.resolve()) for path in files] for case, files in found.items()},
        "command": " ".join(["semivox", *sys.argv[1:]]),
        "train_command": first.facts["command"],
        "config": first.config.model_dump(mode="json"),
        "versions": first.facts["versions"],
    }


def _write_record(output: Path, record: dict[str, Any], *, overwrite: bool) -> None:
    """Write prediction.json; what it said of further masks of the same weights and options is kept.

    Raises:
        ConfigError: masks of other weights or options would stay beside the new ones, under one record.
    """
    file = output / "prediction.json"
    try:
        output.mkdir(parents=True, exist_ok=True)
        before = json.loads(file.read_text()) if file.exists() else {"images": {}}
    except (OSError, ValueError) as error:
        raise RunError(f"cannot use {output} for masks ({error}): name another folder with -o") from error
    images = before["images"] | record["images"]
    if any(key in before and before[key] != record[key] for key in ("weights", "options")):
        if not overwrite or images.keys() != record["images"].keys():
            raise ConfigError(
                f"{output} holds masks of other weights or options: name another folder with -o, or make the same "
                "scans' masks anew with --overwrite"
            )
        images = record["images"]
    record = record | {"images": images}
    write_atomic(file, lambda handle: handle.write(json.dumps(record, indent=1).encode()))
