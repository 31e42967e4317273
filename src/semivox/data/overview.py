"""What is seen of a data set before anything is done with it: a few facts for people, from names and headers."""

from collections.abc import Iterable, Sequence
from contextlib import suppress

import numpy as np

from semivox.data.dataset import Case, Dataset
from semivox.data.pictures import is_picture
from semivox.data.splitting import Split
from semivox.data.volume import Header, read_header


def overview(dataset: Dataset, split: Split | None, cases: Iterable[Case]) -> dict[str, str]:
    """Return facts on a data set by their name: data, scans, channels, classes, spacing, shape.

    Args:
        dataset: whose cases are counted.
        split: who is labelled, unlabelled and held out; without one, the label files say it.
        cases: whose headers are read, for spacing and shape; a header that cannot be read counts as absent.
    """
    headers = []
    for case in cases:
        with suppress(Exception):  # what is wrong with a file is told by who reads it for its sake
            headers.append(read_header(case.images[0]))
    facts = {
        "data": f"{dataset.folder} ({dataset.name})" if dataset.name != dataset.folder.name else str(dataset.folder),
        "scans": _counts(dataset, split),
        "channels": ", ".join(dataset.channels),
        "classes": ", ".join(dataset.classes) + (", some voxels to ignore" if dataset.ignore is not None else ""),
        "spacing": _spacing(headers, nominal=dataset.spacing_is_nominal),
        "shape": _spread([header.shape for header in headers]),
    }
    return {name: text for name, text in facts.items() if text}


def _counts(dataset: Dataset, split: Split | None) -> str:
    if split is None:
        labelled, tests = len(dataset.labelled), len(dataset.tests)
        counts = {"labelled": labelled, "unlabelled": len(dataset.cases) - labelled}
        counts |= {"in imagesTs": tests} if tests else {}
    else:
        counts = {"labelled": len(split.labelled), "unlabelled": len(split.unlabelled), "held out": len(split.held_out)}
    return f"{sum(counts.values())}: {', '.join(f'{count} {what}' for what, count in counts.items())}"


def _spacing(headers: Sequence[Header], *, nominal: bool) -> str:
    if all(is_picture(header.path) for header in headers):
        return ""
    text = _spread([header.spacing for header in headers], unit=" mm")
    return f"{text}, nominal: distances are in voxels" if nominal else text


def _spread(lengths: Sequence[Sequence[float]], *, unit: str = "") -> str:
    """Return the median of lengths along each axis, and their range where they differ."""
    if not lengths:
        return ""
    values = np.asarray(lengths, np.float64)
    low, middle, high = values.min(0), np.median(values, 0), values.max(0)
    if (low == high).all():
        return _shown(low) + unit
    return f"{_shown(middle)}{unit} (median), from {_shown(low)} to {_shown(high)}"


def _shown(numbers: np.ndarray) -> str:
    return " x ".join(f"{number:.4g}" for number in numbers)
