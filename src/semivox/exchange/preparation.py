"""What a net needs to know of scans, windows and masks, as plain values that any program can read."""

from typing import Any

from semivox.data.recipe import Recipe
from semivox.data.volume import mask_type
from semivox.runs.folder import RunFolder


def preparation_of(run: RunFolder) -> dict[str, Any]:
    """Return how scans become what a run's net sees, and its probabilities a mask: the content of preparation.json.

    Axes are counted in the closest-to-RAS+ orientation. Boxes of named cases stay behind: they are names of patients.
    """
    recipe, config = Recipe.from_json(run.facts["recipe"]), run.config
    windows = config.predict
    return {
        "channels": run.facts["channels"],
        "classes": run.facts["classes"],
        "values": list(recipe.label_values),
        "dtype": str(mask_type(recipe.label_values)),
        "dims": recipe.dims,
        "axes": sorted(range(3), key=lambda axis: (recipe.dims == 2 and axis != recipe.slice_axis, axis)),
        "spacing": None if recipe.resize or recipe.spacing is None else list(recipe.spacing),
        "resize": None if recipe.resize is None else list(recipe.resize),
        "intensities": [
            {"clip": clip, "mean": None, "std": None} if name == "volume" else {"clip": clip, "mean": mean, "std": std}
            for name, clip, mean, std in zip(recipe.normalise, recipe.clip, recipe.mean, recipe.std, strict=True)
        ],
        "patch": list(config.patch),
        "stride": list(windows.stride or [max(1, int(side * windows.step_size)) for side in config.patch]),
        "blend": windows.blend,
        "largest_component": windows.largest_component,
    }
