"""The predictor: a trained run, ready for scans of any spacing."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from semivox.data.preparation import prepare_image, restore_probabilities
from semivox.data.recipe import Recipe
from semivox.data.volume import Volume
from semivox.errors import RunError
from semivox.ops.windows import slide
from semivox.runs.building import make_fabric, make_method, without_first_weights
from semivox.runs.folder import RunFolder, open_run, read_checkpoint


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
        step, steps: optimiser steps that the weights have taken, and those of the whole run.

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
        method = make_method(without_first_weights(self.run.config), self.run.facts)
        state = read_checkpoint(checkpoint)
        self.step = state["total_step"]
        self.steps = state.get("steps", self.step)
        method.load_state_dict(state["method"])
        self.method = method.to(self.fabric.device).eval()

    @property
    def finished(self) -> bool:
        """Whether the weights are those of the run's end."""
        return self.step == self.steps

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

        Raises:
            RunError: the GPU has too little memory.
        """
        options = options or Options()
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
