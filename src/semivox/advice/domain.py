"""Are the unlabelled scans like the labelled ones? By spacing, size, intensities, and what the labelled-only net sees.

Each trait of a scan is compared with those of the labelled scans by Student's prediction interval for one more of them:
with few labelled scans it is wide, and little is called unlike. Intensities are looked at as the net sees them, after
preparation, and by quantiles, which a few odd voxels do not move.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semivox.data.dataset import Dataset
from semivox.data.splitting import Split
from semivox.data.volume import read_image
from semivox.errors import ConfigError
from semivox.prediction.predictor import Predictor
from semivox.selection.embedding import embed

LEVEL = 0.995
"""Share of scans like the labelled ones that lies within a trait's interval, were they normal."""
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
LEAST_SPREAD = 0.02
"""Standard deviation below which labelled scans are not taken to agree: in logarithms 2 %, else of intensities."""
FEATURES = "features of the labelled-only net"
Array = NDArray[np.float64]


@dataclass(frozen=True)
class Trait:
    """A number of a scan that others are compared by.

    Attributes:
        value: larger than 0 where `ratio` is set.
        ratio: whether scans differ by factors, so that logarithms are compared.
        unit: of the value, with a space before it.
    """

    value: float
    ratio: bool = True
    unit: str = ""


@dataclass(frozen=True)
class Look:
    """How a scan compares with the labelled ones.

    Attributes:
        case: its name.
        labelled: whether it has a label itself; it is then compared with the other labelled ones.
        reasons: what is unlike, in words, the furthest first; none where nothing is.
    """

    case: str
    labelled: bool
    reasons: tuple[str, ...]


def look_at_scans(
    run: Path,
    dataset: Dataset,
    lists: Split,
    *,
    device: str = "auto",
    on_case: Callable[[str, int, int], None] = lambda case, done, total: None,
) -> list[Look]:
    """Return how every scan of the pool compares with the labelled ones, in the order of the lists.

    Args:
        run: of a net that was trained on labelled scans alone.
        dataset: where the scans are.
        lists: labelled and unlabelled cases.
        device: "auto", "cpu" or "cuda".
        on_case: called with (case, done, all) for each scan.

    Raises:
        RunError, DatasetError: the run or a scan cannot be read.
    """
    predictor = Predictor(run, device=device)
    traits: dict[str, dict[str, Trait]] = {}
    vectors: dict[str, Array] = {}
    for done, case in enumerate(lists.pool):
        on_case(case, done, len(lists.pool))
        volume = read_image(dataset.case(case).images)
        prepared = predictor.prepared(volume, case=case)
        extent = [float(n * size) for n, size in zip(volume.shape, volume.spacing, strict=True)]
        traits[case] = _grid_traits(volume.spacing, extent) | _intensity_traits(prepared.numpy(), dataset.channels)
        try:
            vectors[case] = embed(predictor, prepared).astype(np.float64)
        except ConfigError:  # a net without a bottleneck: the other traits are compared
            continue
    for case, distance in _distances(vectors, lists.labelled).items():
        traits[case][FEATURES] = Trait(distance)
    return compare_scans(traits, lists.labelled)


def compare_scans(traits: Mapping[str, Mapping[str, Trait]], labelled: Sequence[str]) -> list[Look]:
    """Return how each scan compares with the labelled ones, a labelled one with the others of them."""
    looks = []
    for case, own in traits.items():
        others = [traits[name] for name in labelled if name != case]
        found = [_unlike(name, trait, [one[name] for one in others if name in one]) for name, trait in own.items()]
        reasons = sorted((one for one in found if one), reverse=True)
        looks.append(Look(case, case in labelled, tuple(text for _, text in reasons)))
    return looks


def _unlike(name: str, trait: Trait, others: Sequence[Trait]) -> tuple[float, str] | None:
    """Return how many times too far a trait is from those of others, and that in words; None where it is not.

    By hand: others of 1 and 3 have mean 2 and deviation 1.41; Student's t of one degree of freedom at .9975 is 127.3,
    and 1 + 1/2 more scans' variance makes the reach 127.3 * 1.41 * 1.22.
    """
    from scipy.stats import t

    if len(others) < 2:
        return None
    sample = np.array([_number(other) for other in others])
    spread = max(float(sample.std(ddof=1)), LEAST_SPREAD)
    reach = float(t.ppf((1 + LEVEL) / 2, len(sample) - 1)) * spread * math.sqrt(1 + 1 / len(sample))
    away = _number(trait) - float(sample.mean())
    if abs(away) <= reach or (name == FEATURES and away < 0):  # nothing is too like
        return None
    low, high = min(other.value for other in others), max(other.value for other in others)
    span = f"{low:.3g} to {high:.3g}" if high > low else f"{low:.3g}"
    return abs(away) / reach, f"{name} {trait.value:.3g}{trait.unit}, labelled scans {span}{trait.unit}"


def _number(trait: Trait) -> float:
    return math.log(max(trait.value, 1e-12)) if trait.ratio else trait.value


def _grid_traits(spacing: Sequence[float], extent: Sequence[float]) -> dict[str, Trait]:
    found = {f"spacing {axis}": Trait(float(size), unit=" mm") for axis, size in zip("xyz", spacing, strict=True)}
    return found | {f"size {axis}": Trait(size, unit=" mm") for axis, size in zip("xyz", extent, strict=True)}


def _intensity_traits(prepared: NDArray[np.float32], channels: Sequence[str]) -> dict[str, Trait]:
    """Return quantiles of each channel of a prepared scan (C, X, Y, Z), and how rough it is from voxel to voxel."""
    found = {}
    for image, name in zip(prepared, channels, strict=True):
        values = np.quantile(image, QUANTILES)
        for share, value in zip(QUANTILES, values, strict=True):
            found[f"{name}: {share:.0%} of the intensities below"] = Trait(float(value), ratio=False)
        steps = np.abs(np.diff(image, axis=1 + int(np.argmax(image.shape))))
        found[f"{name}: difference of neighbouring voxels"] = Trait(float(np.quantile(steps, 0.5)))
    return found


def _distances(vectors: Mapping[str, Array], labelled: Sequence[str]) -> dict[str, float]:
    """Return each scan's distance to the nearest labelled one that it is not, every feature by its pool's deviation."""
    known = [name for name in labelled if name in vectors]
    if len(known) < 2:
        return {}
    spread = np.maximum(np.stack([*vectors.values()]).std(0), 1e-9)
    return {
        case: min(float(np.linalg.norm((own - vectors[name]) / spread)) for name in known if name != case)
        for case, own in vectors.items()
    }
