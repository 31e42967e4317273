"""What is known of labelled scans: how agreement and Dice go together out of fold, sizes of classes, intensities."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from semivox.data.cases import Case
from semivox.data.dataset import read_dataset
from semivox.data.splitting import read_split
from semivox.data.volume import Volume, is_picture, read_image, read_label
from semivox.errors import ConfigError, DatasetError, SemivoxError
from semivox.files import read_object
from semivox.prediction.predictor import Options, Predictor
from semivox.quality.calibration import Calibration
from semivox.quality.opinions import Opinions, agreement
from semivox.quality.traits import Traits, profile, traits_of
from semivox.runs.folder import RunFolder
from semivox.runs.folds import each_run, read_folds
from semivox.scoring.pairing import list_masks
from semivox.scoring.scores import read_scores


@dataclass(frozen=True)
class Labelled:
    """The labelled scans of a run: traits by class value, and profiles of intensities."""

    traits: Mapping[int, Sequence[Traits]]
    profiles: Sequence[np.ndarray]


def read_record(masks: Path) -> dict[str, Any]:
    """Return what prediction.json says of the masks.

    Raises:
        DatasetError: there is none, or none that lists scans.
    """
    hint = "give a folder that `semivox predict` wrote"
    try:
        record = read_object(masks / "prediction.json", advice=hint, error=DatasetError)
    except FileNotFoundError:
        raise DatasetError(f"{masks}: found no prediction.json, expected masks with one: {hint}") from None
    if not isinstance(record.get("images"), dict) or not isinstance(record.get("weights"), list):
        raise DatasetError(f"{masks / 'prediction.json'}: found no list of scans and weights: {hint}")
    return record


def calibrated(folders: Sequence[Path], opinions: Opinions, *, device: str, trust: bool) -> Calibration:
    """Return what cross-validations tell of labelled cases.

    Raises:
        ConfigError: not as many of them as there are opinions.
    """
    if not folders:
        return Calibration()
    wanted = 1 if opinions.mirrored else 1 + opinions.count
    bare = [str(folder) for folder in folders if not read_folds(folder)]
    if len(folders) != wanted or bare:
        found = f"{', '.join(bare)}, which is none" if bare else f"{len(folders)}"
        raise ConfigError(
            f"--out-of-fold: found {found}, expected {wanted} cross-validations: that of the method which made the "
            "masks and one of every further run's, each a folder that `train --folds` wrote"
        )
    first, *others = folders
    masks = list_masks(first / "out_of_fold" / "masks")
    mirrored = _mirrored(first, device=device, trust=trust) if opinions.mirrored else {}
    excess: dict[int, list[float]] = {}
    by_case: dict[str, dict[int, float]] = {}
    for row in read_scores(first / "out_of_fold" / "scores.csv").rows:
        dice = row.values["dice"]
        if row.value is not None and row.case in masks and not math.isnan(dice):
            by_case.setdefault(row.case, {})[row.value] = dice
    for case, scores in by_case.items():
        mask = read_label(masks[case]).array
        seconds = [read_label(_mask_of(case, folder)).array for folder in others] or [mirrored[case]]
        for value, dice in scores.items():
            agreed = agreement(mask, seconds, value)
            excess.setdefault(value, []).append((0.0 if math.isnan(agreed) else agreed) - dice)
    return Calibration(excess)


def _mask_of(case: str, folder: Path) -> Path:
    """Return the mask of a labelled case in another cross-validation.

    Raises:
        DatasetError: it has none.
    """
    found = list_masks(folder / "out_of_fold" / "masks")
    if case not in found:
        raise DatasetError(f"{folder}: found no out-of-fold mask of '{case}', expected the same labelled cases in both")
    return found[case]


def _mirrored(folder: Path, *, device: str, trust: bool) -> dict[str, np.ndarray]:
    """Return the masks of labelled cases by the fold that did not see them, on mirrored copies."""
    found = {}
    for run in each_run([folder]):
        predictor = Predictor(run, device=device, trust=trust)
        for case, files in read_record(run / "masks")["images"].items():
            volume = read_image([Path(file) for file in files])
            found[case] = predictor.predict(volume, case=case, options=Options(mirror=True))
    return found


def labelled_scans(run: RunFolder, predictor: Predictor, on_note: Callable[[str], None]) -> Labelled:
    """Return what the labelled scans of a run show; of nothing, with a note, where they are not to be found."""
    try:
        names = read_split(run.split_file).labelled
        dataset = read_dataset(run.facts.get("data", ""), unlabelled=run.facts.get("unlabelled")).sealed(names)
        return _shown([dataset.case(name) for name in names], predictor)
    except SemivoxError as error:
        on_note(f"the labelled scans cannot be read, so that no mask is compared with them: {error}")
        return Labelled({}, ())


def _shown(cases: Sequence[Case], predictor: Predictor) -> Labelled:
    traits: dict[int, list[Traits]] = {}
    profiles = []
    for case in cases:
        if case.label is None:
            raise DatasetError(f"the label of '{case.name}' is gone")
        label = read_label(case.label)
        for value in predictor.recipe.label_values[1:]:
            if (label.array == value).any():
                traits.setdefault(value, []).append(traits_of(label.array == value, voxel_size(label)))
        profiles.append(profile(predictor.prepared(read_image(case.images), case=case.name).numpy()))
    return Labelled(traits, profiles)


def voxel_size(volume: Volume) -> float:
    """Return the size of a voxel in ml, or of a pixel in pixels."""
    return 1.0 if is_picture(volume.source.path) else abs(float(np.linalg.det(volume.affine[:3, :3]))) / 1000


def unit_of(volume: Volume) -> str:
    """Return "ml", or "pixels" of a picture."""
    return "pixels" if is_picture(volume.source.path) else "ml"
