"""From a scan to the arrays that training reads, and back: crop, resample, normalise, once per recipe."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from semivox.data.caching import Arrays, Facts, cache_key, cache_size, cached, default_cache, file_stamps
from semivox.data.dataset import IGNORE, Dataset
from semivox.data.formats import files_of
from semivox.data.recipe import Geometry, Recipe
from semivox.data.resampling import Kind, resample
from semivox.data.splitting import Split
from semivox.data.targets import distances
from semivox.data.volume import Volume, content_hash, read_image, read_label
from semivox.errors import ConfigError, DatasetError, GeometryError
from semivox.files import remove_unfinished

__all__ = [
    "Geometry", "PreparedCase", "Recipe", "cache_size", "default_cache", "prepare_dataset", "prepare_image",
    "prepare_label", "restore_probabilities",
]  # fmt: skip

VERSION = 2  # of what this file computes: a higher one leaves old cache entries unused
THICK = 3.0  # above this ratio of spacings a slice says little about its neighbours
NEEDS = frozenset({"distances", "labelled_halves"})  # what a method may ask for beyond crops
POINTS = 10_000  # foreground voxels kept per class: enough for crops to be centred on


def prepare_image(volume: Volume, recipe: Recipe, *, case: str | None = None) -> tuple[NDArray[np.float32], Geometry]:
    """Return a scan cropped, resampled and normalised, (C, *stored), and its geometry.

    Args:
        volume: the scan, (C, X, Y, Z).
        recipe: what to do.
        case: its name, where the recipe has a box for it.

    Raises:
        DatasetError: another number of channels than the recipe's, or intensities that are not finite.
        GeometryError: the case's box does not lie within the scan.
    """
    if len(volume.array) != recipe.channels:
        raise DatasetError(f"{volume.source.path}: found {len(volume.array)} channels, expected {recipe.channels}")
    if not np.isfinite(volume.array).all():
        raise DatasetError(f"{volume.source.path}: found infinite or undefined intensities; replace them by numbers")
    geometry = _plan(volume, recipe, case)
    thick = max(volume.spacing) / min(volume.spacing) > THICK
    kinds: list[Kind] = ["nearest" if thick and s == max(volume.spacing) else "cubic" for s in volume.spacing]
    result = np.empty((recipe.channels, *(geometry.lengths[axis] for axis in geometry.axes)), np.float32)
    for channel, array in enumerate(volume.array):
        resampled = resample(array[geometry.crop], geometry.lengths, geometry.factors, kinds)
        result[channel] = _normalised(resampled, recipe, channel).transpose(geometry.axes)
    return result, geometry


def _plan(volume: Volume, recipe: Recipe, case: str | None) -> Geometry:
    shape = volume.shape
    low: Sequence[int] = (0, 0, 0)
    high: Sequence[int] = shape
    if case is not None and recipe.boxes is not None and case in recipe.boxes:
        low, high = recipe.boxes[case][:3], recipe.boxes[case][3:]
        if not all(0 <= a < b <= n for a, b, n in zip(low, high, shape, strict=True)):
            raise GeometryError(
                f"case '{case}': found the box {low} to {high}, expected one within the scan's {shape} voxels"
            )
    elif recipe.resize is None:  # with it, every slice is shown whole, at one scale
        low, high = _nonzero_box(volume.array)
    size = [b - a for a, b in zip(low, high, strict=True)]
    axes = sorted(range(3), key=lambda axis: (recipe.dims == 2 and axis != recipe.slice_axis, axis))
    factors = [1.0] * 3
    if recipe.resize is not None:
        for axis, length in zip(axes[1:], recipe.resize, strict=True):
            factors[axis] = size[axis] / length
    elif recipe.spacing is not None:
        for axis in axes[recipe.dims == 2 :]:
            factor = recipe.spacing[axis] / volume.spacing[axis]
            factors[axis] = 1.0 if abs(factor - 1) < 1e-3 else factor  # noise of headers blurs no scan
    lengths = [max(1, round(n / f)) for n, f in zip(size, factors, strict=True)]
    spacing = [volume.spacing[axis] * factors[axis] for axis in axes]
    return Geometry(shape, tuple(low), tuple(high), tuple(factors), tuple(lengths), tuple(axes), tuple(spacing))


def _nonzero_box(array: NDArray[np.float32]) -> tuple[list[int], list[int]]:
    """Return first and last-plus-one voxel of what is not zero in some channel; the whole of an empty scan."""
    low, high = [], []
    for axis, size in enumerate(array.shape[1:]):
        used = np.flatnonzero(np.moveaxis(array, 1 + axis, 0).reshape(size, -1).any(axis=1))
        low.append(int(used[0]) if len(used) else 0)
        high.append(int(used[-1]) + 1 if len(used) else size)
    return low, high


def _normalised(array: NDArray[np.float32], recipe: Recipe, channel: int) -> NDArray[np.float32]:
    if (limits := recipe.clip[channel]) is not None:
        array = array.clip(*limits)
    mean, std = recipe.mean[channel], recipe.std[channel]
    if mean is None or recipe.normalise[channel] == "volume":
        mean, std = float(array.mean(dtype=np.float64)), float(array.std(dtype=np.float64))
        if std <= 1e-6 * float(np.abs(array).max()):  # a constant scan stays so: its rounding errors are no signal
            std = 1.0
    return ((array - np.float32(mean)) / np.float32(std)).astype(np.float32)


def prepare_label(label: Volume, geometry: Geometry, recipe: Recipe) -> NDArray[np.uint8]:
    """Return a label on its prepared image's grid, (*stored), classes 0 to K-1 and IGNORE.

    Each class is resampled linearly as a map of 0 and 1, the largest wins, the lower class among equals.

    Raises:
        DatasetError: values that are no class.
        GeometryError: another shape than the image's.
    """
    if label.array.shape != geometry.shape:
        raise GeometryError(
            f"{label.source.path}: found a label of {label.array.shape} voxels, its image has {geometry.shape}"
        )
    known = {value: index for index, value in enumerate(recipe.label_values)}
    if recipe.ignore is not None:
        known[recipe.ignore] = IGNORE
    if strangers := sorted(set(np.unique(label.array).tolist()) - set(known)):
        raise DatasetError(
            f"{label.source.path}: found label values {strangers}, expected {sorted(known)}: "
            "add them to dataset.json's labels, or correct the file"
        )
    crop = label.array[geometry.crop]
    best = np.zeros(geometry.lengths, np.uint8)
    highest = np.full(geometry.lengths, -1, np.float32)
    for value, index in sorted(known.items(), key=lambda pair: pair[1]):
        share = resample(crop == value, geometry.lengths, geometry.factors, ["linear"] * 3)
        best[share > highest] = index
        np.maximum(highest, share, out=highest)
    return np.ascontiguousarray(best.transpose(geometry.axes))


def restore_probabilities(p: NDArray[np.floating[Any]], geometry: Geometry) -> NDArray[np.float32]:
    """Return probabilities (K, *stored) on the whole scan's canonical grid, (K, X, Y, Z); background outside the crop.

    Raises:
        GeometryError: another shape than the prepared image's.
    """
    stored = tuple(geometry.lengths[axis] for axis in geometry.axes)
    if p.shape[1:] != stored:
        raise GeometryError(f"found probabilities of {p.shape[1:]} voxels, expected the prepared image's {stored}")
    full = np.zeros((len(p), *geometry.shape), np.float32)
    full[0] = 1
    size = [high - low for low, high in zip(geometry.low, geometry.high, strict=True)]
    for index, values in enumerate(p):
        canonical = values.transpose(np.argsort(geometry.axes))
        full[index][geometry.crop] = resample(canonical, size, [1 / f for f in geometry.factors], ["linear"] * 3)
    return full


@dataclass(frozen=True)
class PreparedCase:
    """A case as training reads it; arrays are memory-mapped.

    Attributes:
        name: the case.
        image: (C, *stored) float32.
        spacing: voxel size in mm, stored axes.
        content: hash of the scan's content.
        label: (*stored) uint8, classes and IGNORE; None for unlabelled cases.
        foreground: (N, 3) stored voxels of at most 10,000 voxels per class, or None.
        distances: (K-1, 2, *stored) float16 in mm, or None; see `targets.distances`.
        largest: (K-1, 2) float32 in mm, the largest of the distances in the whole volume, or None.
        label_content: hash of the content of its label's file; None for unlabelled cases.
    """

    name: str
    image: NDArray[np.float32]
    spacing: tuple[float, ...]
    content: str
    label: NDArray[np.uint8] | None = None
    foreground: NDArray[np.int32] | None = None
    distances: NDArray[np.float16] | None = None
    largest: NDArray[np.float32] | None = None
    label_content: str | None = None


def prepare_dataset(
    dataset: Dataset,
    split: Split,
    recipe: Recipe,
    cache: Path,
    *,
    targets: frozenset[str] = frozenset(),
    progress: Callable[[str, int, int], None] | None = None,
) -> dict[str, PreparedCase]:
    """Return the prepared cases of a split's pool by name, from the cache where they are in it.

    Opens the images of the pool and the labels of `split.labelled`, nothing else.

    Args:
        dataset: where the cases are.
        split: which cases are labelled and unlabelled.
        recipe: how they are prepared.
        cache: a folder outside the data folder.
        targets: what else the method needs (`NEEDS`); of these, "distances" are prepared.
        progress: called with a case's name, how many are done, and how many there are.

    Raises:
        ConfigError: the cache lies in the data folder, or a need is unknown.
        DatasetError: a scan of the pool is a copy of a held-out one, or cannot be prepared.
        RunError: the cache cannot be written.
    """
    if unknown := targets - NEEDS:
        raise ConfigError(f"the method needs {sorted(unknown)}, which nobody supplies; known: {sorted(NEEDS)}")
    if cache.resolve().is_relative_to(dataset.folder.resolve()):
        raise ConfigError(f"the cache {cache} lies in the data folder {dataset.folder}: choose another with --cache")
    remove_unfinished(cache)
    cases = {}
    for done, name in enumerate(split.pool, 1):
        case = dataset.case(name)
        if name in split.labelled and case.label is None:
            raise DatasetError(f"{dataset.folder}: case '{name}' is labelled in the split, but has no file in labelsTr")
        label = case.label if name in split.labelled else None
        cases[name] = prepared = _prepare_case(name, case.images, label, recipe, cache, targets)
        if prepared.content in split.hashes.values():
            copied = [held for held, content in split.hashes.items() if content == prepared.content]
            raise DatasetError(
                f"case '{name}' of the training pool is the same scan as held-out {copied}: "
                "training on it would spoil the score; put both on one side of the split"
            )
        if progress is not None:
            progress(name, done, len(split.pool))
    return cases


def _prepare_case(
    name: str, images: tuple[Path, ...], label: Path | None, recipe: Recipe, cache: Path, targets: frozenset[str]
) -> PreparedCase:
    box = None if recipe.boxes is None else recipe.boxes.get(name)
    parts: dict[str, Any] = recipe.to_json() | {"boxes": box}
    about_labels = {key: parts.pop(key) for key in ("classes", "label_values", "ignore")}
    key = cache_key("image", VERSION, parts, _stamps(images))
    arrays, facts = cached(cache, key, lambda: _image_entry(name, images, recipe))
    geometry = Geometry.from_json(facts["geometry"])
    found: dict[str, Any] = {}
    if label is not None:
        key = cache_key("label", key, about_labels, _stamps([label]))
        found, facts_of_label = cached(cache, key, lambda: _label_entry(label, geometry, recipe))
        found["label_content"] = facts_of_label["content"]
        if "distances" in targets:
            key = cache_key("distances", key)
            maps, facts_of_maps = cached(cache, key, lambda: _distances_entry(found["label"], geometry, recipe))
            found |= maps | {"largest": np.asarray(facts_of_maps["largest"], np.float32)}
    return PreparedCase(name, arrays["image"], geometry.spacing, facts["content"], **found)


def _stamps(scans: Sequence[Path]) -> list[tuple[str, int, int]]:
    """Return the stamps of all files that the scans' files stand for, data files beside a header included."""
    return file_stamps(file for scan in scans for file in files_of(scan))


def _image_entry(name: str, images: tuple[Path, ...], recipe: Recipe) -> tuple[Arrays, Facts]:
    volume = read_image(images)
    image, geometry = prepare_image(volume, recipe, case=name)
    return {"image": image}, {"geometry": asdict(geometry), "content": content_hash(volume.array)}


def _label_entry(path: Path, geometry: Geometry, recipe: Recipe) -> tuple[Arrays, Facts]:
    volume = read_label(path)
    label = prepare_label(volume, geometry, recipe)
    points = []
    for index in range(1, recipe.classes):
        voxels = np.flatnonzero(label == index)
        if len(voxels) > POINTS:
            voxels = np.random.default_rng(index).choice(voxels, POINTS, replace=False)
        points.append(np.stack(np.unravel_index(voxels, label.shape), axis=1).astype(np.int32))
    arrays: Arrays = {"label": label, "foreground": np.concatenate(points)}
    return arrays, {"content": content_hash(volume.array)}


def _distances_entry(label: NDArray[np.uint8], geometry: Geometry, recipe: Recipe) -> tuple[Arrays, Facts]:
    maps = distances(label, recipe.classes, geometry.spacing, slices_first=recipe.dims == 2)
    return {"distances": maps}, {"largest": maps.max(axis=(2, 3, 4)).tolist()}
