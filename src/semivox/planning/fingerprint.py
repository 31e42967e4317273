"""The fingerprint of a pool (shapes, spacings, intensities) and the recipe of preparation that follows from it.

Headers come from all scans of the pool, intensities from its labelled cases: labels of unlabelled cases and files of
held-out cases are never opened.
"""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from semivox.config.keys import Config
from semivox.data.cases import Case
from semivox.data.dataset import Dataset
from semivox.data.preparation import Recipe
from semivox.data.splitting import Split
from semivox.data.volume import read_header, read_image, read_label
from semivox.errors import ConfigError, DatasetError, GeometryError

MOST_VOXELS = 20_000
"""Foreground voxels that one case gives to the statistics, evenly taken, so that no large case outweighs the others."""


@dataclass(frozen=True)
class Statistics:
    """Intensities of a channel in the foreground of the labelled cases: 0.5 and 99.5 percentiles, mean, deviation."""

    low: float
    high: float
    mean: float
    std: float


@dataclass(frozen=True)
class Fingerprint:
    """What planning knows of a pool; the canonical axes are x, y, z.

    Attributes:
        shapes: voxels of every scan of the pool, labelled cases first.
        spacings: voxel sizes in mm, in the same order.
        channels: names of the image channels.
        classes: names of the classes, background first.
        foreground: per channel; None where nothing needed it.
    """

    shapes: tuple[tuple[int, ...], ...]
    spacings: tuple[tuple[float, ...], ...]
    channels: tuple[str, ...]
    classes: tuple[str, ...]
    foreground: tuple[Statistics | None, ...]

    @property
    def ct(self) -> tuple[bool, ...]:
        """Per channel, whether its intensities are Hounsfield units, as its name says."""
        return tuple(is_ct(name) for name in self.channels)

    @property
    def slice_axis(self) -> int:
        """The axis across slices: of one voxel, else of the largest median spacing; of equals the last."""
        flat = np.median(self.shapes, axis=0) == 1
        rank = np.where(flat, np.inf, np.round(np.median(self.spacings, axis=0), 3))
        return int(2 - np.argmax(rank[::-1]))

    def to_json(self) -> dict[str, Any]:
        """Return plain values for a JSON file."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Fingerprint":
        """Return the fingerprint whose plain values these are."""
        return cls(
            shapes=tuple(tuple(shape) for shape in values["shapes"]),
            spacings=tuple(tuple(spacing) for spacing in values["spacings"]),
            channels=tuple(values["channels"]),
            classes=tuple(values["classes"]),
            foreground=tuple(found and Statistics(**found) for found in values["foreground"]),
        )


def fingerprint(dataset: Dataset, split: Split, config: Config | None = None) -> Fingerprint:
    """Return the fingerprint of a split's pool.

    Foreground intensities are read for CT channels, and for all channels where `config` asks for them.

    Raises:
        DatasetError: the pool is empty, a file cannot be read, or the labelled cases have no foreground.
        GeometryError: a label has another shape than its image.
    """
    cases = [dataset.case(name) for name in split.pool]
    if not cases:
        raise DatasetError(f"{dataset.folder}: the split's pool is empty: name labelled cases to train on")
    headers = [read_header(case.images[0]) for case in cases]
    found = Fingerprint(
        shapes=tuple(tuple(map(int, header.shape)) for header in headers),
        spacings=tuple(tuple(map(float, header.spacing)) for header in headers),
        channels=dataset.channels,
        classes=dataset.classes,
        foreground=(None,) * len(dataset.channels),
    )
    return with_foreground(found, dataset, split, config)


def with_foreground(found: Fingerprint, dataset: Dataset, split: Split, config: Config | None) -> Fingerprint:
    """Return the fingerprint with the intensity statistics that a config, or CT, needs and it does not have yet."""
    wanted = [ct or (config is not None and config.prepare.normalise == "foreground") for ct in found.ct]
    missing = [c for c, want in enumerate(wanted) if want and found.foreground[c] is None]
    if not missing:
        return found
    statistics = list(found.foreground)
    for channel, values in zip(missing, foreground_values(dataset, split.labelled, missing), strict=True):
        low, high = np.percentile(values, [0.5, 99.5])
        statistics[channel] = Statistics(float(low), float(high), float(values.mean()), float(values.std()) or 1.0)
    return replace(found, foreground=tuple(statistics))


def foreground_values(dataset: Dataset, cases: Sequence[str], channels: Sequence[int]) -> list[np.ndarray]:
    """Return float64 intensities (N,) per channel in the labelled foreground of cases; ignored voxels do not count."""
    found = [case_values(dataset, dataset.case(name), channels) for name in cases]
    if not any(values.size for values in found):
        raise DatasetError(
            f"{dataset.folder}: the {len(cases)} labelled cases have no foreground voxel with values "
            f"{list(dataset.label_values[1:])}, so that intensities cannot be normalised by it: "
            "label other cases, or set prepare.normalise = 'volume' and prepare.clip"
        )
    return list(np.concatenate(found, axis=1))


def case_values(dataset: Dataset, case: Case, channels: Sequence[int]) -> np.ndarray:
    """Return float64 intensities (channels, N) in one case's labelled foreground, at most `MOST_VOXELS` of them."""
    if case.label is None:
        raise DatasetError(f"case {case.name} is listed as labelled but has no label file: add it, or mend the split")
    image, label = read_image(case.images), read_label(case.label)
    if image.array.shape[1:] != label.array.shape:
        raise GeometryError(
            f"case {case.name}: the label {case.label} has shape {label.array.shape}, its image "
            f"{image.array.shape[1:]}: both must lie on one grid"
        )
    values = image.array[list(channels)][:, np.isin(label.array, dataset.label_values[1:])]
    evenly = np.linspace(0, values.shape[1] - 1, min(values.shape[1], MOST_VOXELS)).astype(int)
    return values[:, evenly].astype(np.float64)


def make_recipe(dataset: Dataset, split: Split, config: Config, fingerprint: Fingerprint) -> Recipe:
    """Return how scans are prepared: CT is clipped and scaled by the foreground's numbers, all else scan by scan.

    ``prepare.clip`` and ``prepare.normalise`` overrule that for all channels.

    Raises:
        ConfigError: the file that ``prepare.boxes`` names cannot be used.
        DatasetError: foreground statistics are needed and cannot be had.
    """
    found = with_foreground(fingerprint, dataset, split, config)
    normalise = tuple(config.prepare.normalise or ("foreground" if ct else "volume") for ct in found.ct)
    clip, scale = [], []
    for ct, how, known in zip(found.ct, normalise, found.foreground, strict=True):
        clip.append(config.prepare.clip or ((known.low, known.high) if ct and known else None))
        scale.append((known.mean, known.std) if how == "foreground" and known else (None, None))
    return Recipe(
        dims=config.dims,
        spacing=config.spacing,
        resize=config.resize,
        slice_axis=config.slice_axis,
        normalise=normalise,
        clip=tuple(clip),
        mean=tuple(mean for mean, _ in scale),
        std=tuple(std for _, std in scale),
        boxes=read_boxes(Path(config.prepare.boxes)) if config.prepare.boxes else None,
        classes=len(dataset.classes),
        channels=len(dataset.channels),
        label_values=dataset.label_values,
        ignore=dataset.ignore,
    )


def read_boxes(path: Path) -> dict[str, tuple[int, ...]]:
    """Return the crop box (x, y, z low, x, y, z high) of every case in a JSON file.

    Raises:
        ConfigError: the file is missing or no JSON, or a box is none; the message names the case.
    """
    try:
        boxes = json.loads(path.read_text(encoding="utf-8"))
        pairs = [(str(case), tuple(int(voxel) for voxel in box)) for case, box in boxes.items()]
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ConfigError(
            f"key 'prepare.boxes': {path} cannot be used ({error}): "
            'expected JSON such as {"case_01": [x0, y0, z0, x1, y1, z1]}'
        ) from None
    for case, box in pairs:
        if len(box) != 6 or any(low < 0 or low >= high for low, high in zip(box[:3], box[3:], strict=True)):
            raise ConfigError(
                f"key 'prepare.boxes': case {case} in {path} has box {list(box)}: expected [x0, y0, z0, x1, y1, z1] "
                "with 0 <= x0 < x1 and so on"
            )
    return dict(pairs)


def is_ct(channel: str) -> bool:
    """Return whether a channel's name says computed tomography; CT1 and CT2 are names of weighted MR with contrast.

    >>> is_ct("CT"), is_ct("venous_ct"), is_ct("OCT"), is_ct("CT1")
    (True, True, False, False)
    """
    return re.search(r"(?<![a-z])cta?(?![a-z0-9])", channel.casefold()) is not None
