"""The pictures of a report: a slice of a scan with the outlines of truth and prediction, as PNG bytes."""

import io
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from semivox.data.palette import CLASSES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TRUTH, PREDICTION = "#f5b301", "#4db8ff"
"""Amber and sky blue, where there is one class: told apart with every common colour blindness, and on grey."""
BROAD, THIN = 3.0, 1.5
"""Widths of the lines around the truth and around a prediction, in points."""


def outline_colours(labels: Iterable[int]) -> dict[int, tuple[str, str]]:
    """Return the colours of truth and prediction by label: two for a class alone, one for each of several."""
    values = sorted(set(labels) - {0})
    if len(values) == 1:
        return {values[0]: (TRUTH, PREDICTION)}
    return {value: (CLASSES[number % len(CLASSES)],) * 2 for number, value in enumerate(values)}


def draw_slice(
    image: NDArray[Any],
    truth: NDArray[Any],
    prediction: NDArray[Any],
    spacing: Sequence[float],
    *,
    labels: Iterable[int] | None = None,
    beside: Sequence[NDArray[Any]] = (),
) -> bytes:
    """Return a PNG: the slice with the largest area of truth, with the outlines of truth and prediction.

    A broad line is the truth, a thin one the prediction; their colours are those of `outline_colours`.

    Seen as radiologists do: the patient's right (the back, in a sagittal slice) is at the left, the head at the top.

    Args:
        image: (C, X, Y, Z) in the closest-to-RAS+ orientation; three channels of a plain picture (Z = 1) are
            its colours.
        truth: (X, Y, Z) integer.
        prediction: (X, Y, Z) integer.
        spacing: mm (x, y, z); the slice axis is the one of largest spacing (ties: the last).
        labels: the values to outline; all but 0 where None.
        beside: predictions (X, Y, Z) of the same scan whose pictures are to show the same part of it.
    """
    if labels is None:
        labels = {int(v) for mask in (truth, prediction) for v in np.unique(mask)}
    colours = outline_colours(labels)
    truth, *others = (np.where(np.isin(mask, list(colours)), mask, 0) for mask in (truth, prediction, *beside))
    axis, index = slice_to_show(truth, others[0], spacing)
    masks = [_plane(mask, axis, index) for mask in (truth, *others)]
    window = _window(np.any([mask != 0 for mask in masks], axis=0))
    plane = _plane(_colours(image), axis, index)[window]
    down, across = (float(s) for s in _plane_spacing(spacing, axis))
    height, width = plane.shape[0] * down, plane.shape[1] * across
    scale = 2.9 / max(height, width)
    figure = _bare_figure(width * scale, height * scale)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(plane, cmap="gray", vmin=0, vmax=1, aspect=down / across, interpolation="bilinear")
    for mask, which, thickness in ((masks[0], 0, BROAD), (masks[1], 1, THIN)):
        for value, colour in colours.items():
            _outline(axes, mask[window] == value, colour[which], thickness)
    axes.set_axis_off()
    axes.set_xlim(-0.5, plane.shape[1] - 0.5)
    axes.set_ylim(plane.shape[0] - 0.5, -0.5)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=200, metadata={"Software": None})
    return buffer.getvalue()


def _outline(axes: "Axes", mask: NDArray[np.bool_], colour: str, thickness: float) -> None:
    """Draw the outline of a mask with a dark rim, which shows it on bright tissue and on another line."""
    from matplotlib.patheffects import withStroke

    if not mask.any():
        return
    ring = np.pad(mask, 1).astype(float)  # a rim of zeros closes outlines at the picture's border
    y, x = np.arange(ring.shape[0]) - 1, np.arange(ring.shape[1]) - 1
    lines = axes.contour(x, y, ring, levels=[0.5], colors=[colour], linewidths=thickness)
    lines.set_path_effects([withStroke(linewidth=thickness + 0.9, foreground="#000b")])


def slice_to_show(truth: NDArray[Any], prediction: NDArray[Any], spacing: Sequence[float]) -> tuple[int, int]:
    """Return (axis, index) of the slice with the most truth; without truth the most prediction, else the middle."""
    axis = max(range(3), key=lambda a: (spacing[a], a))
    if truth.shape[axis] > 1 and 1 in truth.shape:  # a plain picture has one slice, whatever its spacing
        axis = truth.shape.index(1)
    others = tuple(a for a in range(3) if a != axis)
    for mask in (truth, prediction):
        areas = (mask != 0).sum(axis=others)
        if areas.any():
            return axis, int(areas.argmax())
    return axis, truth.shape[axis] // 2


def _plane(array: NDArray[Any], axis: int, index: int) -> NDArray[Any]:
    """Return the slice (rows from the top, columns from the left[, colours]) of an (X, Y, Z[, colours]) array."""
    plane = np.moveaxis(array.take(index, axis=axis), 0, 1)[::-1]
    return plane if axis == 0 else plane[:, ::-1]


def _plane_spacing(spacing: Sequence[float], axis: int) -> tuple[float, float]:
    across, down = (spacing[a] for a in range(3) if a != axis)
    return down, across


def _colours(image: NDArray[Any]) -> NDArray[Any]:
    """Return (X, Y, Z) or, for a plain colour picture, (X, Y, Z, 3) in [0, 1]; 1 % at both ends clipped."""
    chosen = np.moveaxis(image, 0, -1) if image.shape[0] == 3 and image.shape[-1] == 1 else image[0]
    low, high = np.percentile(chosen, [1, 99])
    return np.clip((chosen - low) / max(float(high - low), 1e-6), 0, 1)


def _window(mask: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Return the part of the slice to show: what is outlined and about as much around it; else all."""
    if not mask.any():
        return slice(None), slice(None)
    box = [(int(np.flatnonzero(line).min()), int(np.flatnonzero(line).max())) for line in (mask.any(1), mask.any(0))]
    margin = max(8, *(high - low for low, high in box)) * 6 // 10
    return tuple(slice(max(0, low - margin), high + margin + 1) for low, high in box)  # type: ignore[return-value]


def _bare_figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), facecolor="black")
