"""The figures of a report: points per case, and what all its curves share; inline SVG text.

Curves are drawn in placeholder colours that become CSS variables, so that a figure follows the page's light or dark.
"""

import io
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, RULE = "#101011", "#202022", "#303033"
SERIES = tuple(f"#4040{n:02x}" for n in range(0x51, 0x58))
VARIABLES = {INK: "currentColor", MUTED: "var(--muted)", RULE: "var(--rule)"} | {
    colour: f"var(--series-{number})" for number, colour in enumerate(SERIES, start=1)
}

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
