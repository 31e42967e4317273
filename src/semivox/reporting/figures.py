"""The pictures of a report: points per case, slices with outlines; inline SVG text or PNG bytes.

Curves are drawn in placeholder colours that become CSS variables, so that a figure follows the page's light or dark.
"""

import io
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, RULE = "#101011", "#202022", "#303033"
SERIES = tuple(f"#4040{n:02x}" for n in range(0x51, 0x58))
VARIABLES = {INK: "currentColor", MUTED: "var(--muted)", RULE: "var(--rule)"} | {
    colour: f"var(--series-{number})" for number, colour in enumerate(SERIES, start=1)
}
TRUTH, PREDICTION = "#f5b301", "#4db8ff"
"""Amber and sky blue: told apart with every common colour blindness, and on grey."""


def draw_cases(
    cases: Mapping[str, Mapping[str, float]],
    means: Mapping[str, tuple[float, float, float]],
    differences: Mapping[str, tuple[Mapping[str, float], tuple[float, float, float]]],
    *,
    metric: str,
) -> str:
    """Return an SVG: a row per group with a point per case, a thin line joining each case; beside it the differences.

    Args:
        cases: per group, {case: score}, drawn from the top.
        means: per group, (mean, low, high).
        differences: per group that has a control, ({case: difference}, (mean, low, high)).
        metric: the score's name, for the axes.
    """
    figure = new_figure(9.6, 1.1 + 0.5 * len(cases))
    wide = bool(differences)
    axes = figure.subplots(1, 2 if wide else 1, sharey=True, squeeze=False, width_ratios=[3, 2] if wide else [1])[0]
    rows = {group: -number for number, group in enumerate(cases)}
    _join_cases(axes[0], cases, rows)
    for group, row in rows.items():
        _draw_row(axes[0], row, cases[group], means[group], SERIES[-row % len(SERIES)])
    axes[0].set_yticks(list(rows.values()), list(rows))
    axes[0].set_ylim(-len(rows) + 0.4, 0.6)
    axes[0].set_xlabel(f"{metric} of each case")
    if wide:
        axes[1].axvline(0, color=MUTED, linewidth=1)
        for group, (points, mean) in differences.items():
            _draw_row(axes[1], rows[group], points, mean, SERIES[-rows[group] % len(SERIES)])
        axes[1].set_xlabel(f"difference of {metric} from the control")
    return svg(figure)


def draw_slice(
    image: NDArray[Any],
    truth: NDArray[Any],
    prediction: NDArray[Any],
    spacing: Sequence[float],
    *,
    labels: Iterable[int] | None = None,
) -> bytes:
    """Return a PNG: the slice with the largest area of truth, with the outlines of truth and prediction.

    Seen as radiologists do: the patient's right (the back, in a sagittal slice) is at the left, the head at the top.

    Args:
        image: (C, X, Y, Z) in the closest-to-RAS+ orientation; three channels of a plain picture (Z = 1) are
            its colours.
        truth: (X, Y, Z) integer.
        prediction: (X, Y, Z) integer.
        spacing: mm (x, y, z); the slice axis is the one of largest spacing (ties: the last).
        labels: the values to outline; all but 0 where None.
    """
    from matplotlib.patheffects import withStroke

    values = sorted({int(v) for v in (*np.unique(truth), *np.unique(prediction))} - {0})
    if labels is not None:
        values = sorted(set(values) & set(labels))
        truth, prediction = (np.where(np.isin(mask, values), mask, 0) for mask in (truth, prediction))
    axis, index = slice_to_show(truth, prediction, spacing)
    masks = [_plane(mask, axis, index) for mask in (truth, prediction)]
    window = _window((masks[0] != 0) | (masks[1] != 0))
    plane = _plane(_colours(image), axis, index)[window]
    masks = [mask[window] for mask in masks]
    down, across = (float(s) for s in _plane_spacing(spacing, axis))
    height, width = plane.shape[0] * down, plane.shape[1] * across
    scale = 2.9 / max(height, width)
    figure = _bare_figure(width * scale, height * scale)
    axes = figure.add_axes((0, 0, 1, 1))
    axes.imshow(plane, cmap="gray", vmin=0, vmax=1, aspect=down / across, interpolation="bilinear")
    for mask, colour, thickness in zip(masks, (TRUTH, PREDICTION), (2.8, 1.2), strict=True):
        for value in values:
            if (mask == value).any():
                # A rim of zeros closes outlines at the picture's border.
                ring = np.pad(mask == value, 1).astype(float)
                y, x = np.arange(ring.shape[0]) - 1, np.arange(ring.shape[1]) - 1
                lines = axes.contour(x, y, ring, levels=[0.5], colors=[colour], linewidths=thickness)
                if colour == TRUTH:  # a dark rim: seen on bright tissue, too
                    lines.set_path_effects([withStroke(linewidth=thickness + 1.2, foreground="#000b")])
    axes.set_axis_off()
    axes.set_xlim(-0.5, plane.shape[1] - 0.5)
    axes.set_ylim(plane.shape[0] - 0.5, -0.5)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=200, metadata={"Software": None})
    return buffer.getvalue()


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


def _draw_row(
    axes: "Axes", row: int, points: Mapping[str, float], mean: tuple[float, float, float], colour: str
) -> None:
    """Draw one group: a dot per case on the row, the mean and its interval just above."""
    axes.plot(list(points.values()), [row - 0.08] * len(points), "o", color=colour, alpha=0.55, markersize=5, mew=0)
    axes.plot(mean[1:], [row + 0.2] * 2, color=colour, linewidth=2.2, solid_capstyle="round")
    axes.plot(mean[:1], [row + 0.2], "D", color=colour, markersize=5.5, mew=0)
    style(axes, "x")


def _join_cases(axes: "Axes", cases: Mapping[str, Mapping[str, float]], rows: Mapping[str, int]) -> None:
    for case in dict.fromkeys(case for points in cases.values() for case in points):
        line = [(points[case], rows[group] - 0.08) for group, points in cases.items() if case in points]
        axes.plot(*zip(*line, strict=True), color=MUTED, alpha=0.3, linewidth=0.7, zorder=1)


def style(axes: "Axes", grid: Literal["x", "y"]) -> None:
    """Take the frame away and draw thin lines behind what is shown."""
    axes.set_facecolor("none")
    for side in ("top", "right", "left"):
        axes.spines[side].set_visible(False)
    axes.spines["bottom"].set_color(RULE)
    axes.tick_params(colors=INK, labelsize=9, length=0)
    axes.grid(axis=grid, color=RULE, linewidth=0.6)
    axes.set_axisbelow(True)
    axes.xaxis.label.set(color=MUTED, size=9)
    axes.yaxis.label.set(color=MUTED, size=9)


def new_figure(width: float, height: float) -> "Figure":
    """Return an empty figure of this size in inches, transparent."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    return Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(wspace=0.06), facecolor="none")


def _bare_figure(width: float, height: float) -> "Figure":
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), facecolor="black")


def svg(figure: "Figure") -> str:
    """Return the figure as SVG to stand inside HTML: real text, no ids of groups, colours as variables."""
    import matplotlib
    from matplotlib.text import Text

    for words in figure.findobj(Text):
        words.set_parse_math(False)  # a name with $ is no formula
    buffer = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "semivox", "text.parse_math": False}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None})
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'<g id="[^"]*"', "<g", text)
    text = re.sub(r' xmlns(:xlink)?="[^"]*"| version="1.1"', "", text)
    head, body = text.split(">", 1)
    text = re.sub(r' (width|height)="[^"]*"', "", head) + ">" + body  # the page gives the width
    return re.sub("|".join(VARIABLES), lambda match: VARIABLES[match.group()], text)
