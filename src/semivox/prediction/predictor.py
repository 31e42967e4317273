"""The predictor: one trained run, or several that are averaged, ready for scans of any spacing."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from semivox.data.dataset import case_name
from semivox.data.preparation import prepare_image, restore_probabilities
from semivox.data.recipe import Recipe
from semivox.data.volume import Volume, read_image
from semivox.errors import ConfigError, GeometryError, RunError
from semivox.files import listed
from semivox.ops.windows import slide
from semivox.prediction.arrays import volume_of
from semivox.prediction.maps import mask_of
from semivox.runs.building import make_fabric, make_method, without_first_weights
from semivox.runs.checkpoint import load_method, steps_taken
from semivox.runs.folder import RunFolder, open_run, read_checkpoint
from semivox.runs.folds import each_run
from semivox.runs.trust import admit_method

Scan = Volume | np.ndarray | Path | str | Sequence[Path | str]
"""A volume, an array, or the file of a scan: several where each holds one channel."""


@dataclass(frozen=True)
class Options:
    """How windows become a mask; None takes what the run's config says.

    Attributes:
        step_size: distance of neighbouring windows as a part of the patch, in (0, 1].
        mirror: average over mirrored windows.
        largest_component: keep the largest connected component of every class.

    Raises:
        GeometryError: a step size that leaves voxels without a prediction.
    """

    step_size: float | None = None
    mirror: bool | None = None
    largest_component: bool | None = None

    def __post_init__(self) -> None:
        if self.step_size is not None and not 0 < self.step_size <= 1:  # here, so that no scan is read in vain
            raise GeometryError(f"step size {self.step_size}: expected a part of the patch above 0 and up to 1")


class Predictor:
    """Trained runs, ready for scans; the attributes are those of the first.

    Args:
        runs: a run folder, or several whose probabilities are averaged; that of a cross-validation is all its folds.
        device: "auto", "cpu" or "cuda".
        trust: run the runs' own copies of methods that semivox does not ship.

    Attributes:
        run: the run folder.
        method: the trained method in evaluation mode; ``method.student.encode`` gives its representation.
        recipe: how scans are prepared.
        step, steps: optimiser steps that the weights have taken, and those of the whole run.
        others: predictors of the further runs.

    Raises:
        RunError: no run, no checkpoint, or a damaged one; or a method that may not run without `trust`.
        ConfigError: no run is given, or several that do not segment the same classes of the same channels.
    """

    def __init__(
        self, runs: Path | str | Sequence[Path | str], *, device: str = "auto", trust: bool = False
    ) -> None:
        paths = each_run(listed(runs))
        if not paths:
            raise ConfigError("found no run to predict with, expected one at least: give the folder that train wrote")
        path = paths[0]
        self.run: RunFolder = open_run(path)
        admit_method(self.run, trust=trust)
        checkpoint = self.run.latest()
        if checkpoint is None:
            raise RunError(f"{path} has no checkpoint yet: train with --resume until the first one is written")
        self.checkpoint = checkpoint
        self.recipe = Recipe.from_json(self.run.facts["recipe"])
        # half precision is a GPU's: a run that trained with it predicts on a CPU too
        precision = "32" if self.run.config.precision == "32" else "auto"
        self.fabric = make_fabric(self.run.config.model_copy(update={"precision": precision}), device)
        method = make_method(without_first_weights(self.run.config), self.run.facts)
        state = read_checkpoint(checkpoint)
        self.step, self.steps = steps_taken(state, checkpoint)
        load_method(method, state, checkpoint)
        self.method = method.to(self.fabric.device).eval()
        self.others = tuple(Predictor(other, device=device, trust=trust) for other in paths[1:])
        self._agree()

    @property
    def finished(self) -> bool:
        """Whether the weights are those of the run's end."""
        return self.step == self.steps

    @property
    def members(self) -> tuple["Predictor", ...]:
        """One predictor for each run."""
        return (self, *self.others)

    def apart(self) -> tuple["Predictor", ...]:
        """Return a predictor for each run alone, which averages nothing."""
        alone = copy(self)
        alone.others = ()
        return (alone, *self.others)

    def predict(
        self,
        scan: Scan,
        *,
        spacing: Sequence[float] | None = None,
        case: str | None = None,
        options: Options | None = None,
    ) -> np.ndarray:
        """Return the mask of a scan, (X, Y, Z), voxel by voxel; its values are those of the label files.

        Args:
            scan: a volume that `read_image` returned, a file (or one for each channel), or an array (X, Y, Z) or
                (C, X, Y, Z) whose axes lead to the right, to the front and to the head. The mask of a file or a volume
                has the axes of ``Volume.array``; `write_mask` brings it back to those of the file.
            spacing: mm along the axes of an array; files and volumes have their own.
            case: its name, where the run crops by named boxes; that of a file is known.
            options: how windows are placed.

        Raises:
            DatasetError: a file cannot be read, or other channels than the run's.
            GeometryError: an array without a spacing or of other axes.
            RunError: the GPU has too little memory.
        """
        if isinstance(scan, np.ndarray):
            scan = volume_of(scan, spacing)
        elif not isinstance(scan, Volume):
            files = listed(scan)
            case = case or case_name(files[0], self.recipe.channels)
            scan = read_image(files)
        return self.mask(self.probabilities(scan, case=case, options=options), options)

    def mask(self, probabilities: np.ndarray, options: Options | None = None) -> np.ndarray:
        """Return the mask (X, Y, Z) that probabilities (K, X, Y, Z) make; its values are those of the label files."""
        wanted = options.largest_component if options else None
        largest = self.run.config.predict.largest_component if wanted is None else wanted
        return mask_of(probabilities, self.recipe.label_values, largest_component=largest)

    def prepared(self, volume: Volume, *, case: str | None = None) -> torch.Tensor:
        """Return a scan as the method sees it: (C, *spatial) float32 at the run's spacing and intensities."""
        return torch.from_numpy(prepare_image(volume, self.recipe, case=case)[0])

    def probabilities(self, volume: Volume, *, case: str | None = None, options: Options | None = None) -> np.ndarray:
        """Return class probabilities of a scan, the mean over all runs.

        Args:
            volume: a scan of any spacing, in closest-to-RAS+ orientation.
            case: its name, where the run crops by named boxes.
            options: how windows are placed.

        Returns:
            (K, X, Y, Z) float32 in the scan's RAS+ grid.

        Raises:
            RunError: the GPU has too little memory.
        """
        mean = self._of_one_run(volume, case, options or Options())
        for other in self.others:
            mean += other._of_one_run(volume, case, options or Options())
        mean /= len(self.members)
        return mean

    def _of_one_run(self, volume: Volume, case: str | None, options: Options) -> np.ndarray:
        config = self.run.config
        image, geometry = prepare_image(volume, self.recipe, case=case)
        mirror = config.predict.mirror if options.mirror is None else options.mirror
        with self._memory_error_told(case or str(volume.path)), torch.inference_mode(), self.fabric.autocast():
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

    def _agree(self) -> None:
        """Refuse runs that do not segment the same classes of the same channels."""
        first = self.run
        for other in (member.run for member in self.others):
            for key in ("channels", "classes"):
                if other.facts[key] != first.facts[key]:
                    raise ConfigError(
                        f"runs {first.path} and {other.path} cannot be averaged: {key} are {first.facts[key]} and "
                        f"{other.facts[key]}; predict them into two folders"
                    )

    @contextmanager
    def _memory_error_told(self, case: str) -> Iterator[None]:
        try:
            yield
        except torch.OutOfMemoryError as error:
            count, patch = self.run.config.predict.batch, "x".join(map(str, self.run.config.patch))
            raise RunError(
                f"case '{case}': found too little memory for predict.batch = {count} windows of {patch} at once "
                f"({str(error).partition('. Including')[0]}); lower predict.batch in {self.run.path / 'config.toml'}, "
                "free the GPU, or use --device cpu; masks written before stay"
            ) from error
