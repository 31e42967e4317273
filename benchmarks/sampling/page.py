"""What benchmarks/results/sampling says, as a section of docs/results.md and as docs/sampling.svg.

python benchmarks/sampling/page.py docs/sampling.svg
"""

import csv
import sys
from pathlib import Path
from typing import NamedTuple

RESULTS = Path(__file__).parents[1] / "results" / "sampling"
SCHEMES = ("sg", "sag")
WEIGHTS = {"loss": "its value", "head": "its gradient, head", "net": "its gradient, net"}


class Ratio(NamedTuple):
    """A variance over the naive one, with the bounds of its interval, or twice the theory's."""

    value: float
    low: float
    high: float


class Row(NamedTuple):
    """What is estimated, its ratio by scheme, and what share of a step's variance naive draws make."""

    name: str
    ratios: dict[str, Ratio]
    share: float | None


def read(file: Path) -> list[dict[str, str]]:
    with file.open(newline="") as lines:
        return list(csv.DictReader(lines))


def fields() -> list[Row]:
    """Return the rows of fields.csv, with theory for an interval."""
    found = read(RESULTS / "fields.csv")
    rows = []
    for name in dict.fromkeys(row["field"] for row in found):
        of = {row["scheme"]: row for row in found if row["field"] == name}
        ratios = {s: Ratio(*(float(of[s][key]) for key in ("measured", "theory", "theory"))) for s in SCHEMES}
        rows.append(Row(name, ratios, None))
    return rows


def gradients() -> list[Row]:
    """Return the rows of gradients-*.csv."""
    rows = []
    for file in sorted(RESULTS.glob("gradients-*.csv")):
        found = read(file)
        for source, part in dict.fromkeys((row["negatives_from"], row["of"]) for row in found):
            of = {row["scheme"]: row for row in found if (row["negatives_from"], row["of"]) == (source, part)}
            ratios = {s: Ratio(*(float(of[s][key]) for key in ("ratio", "low", "high"))) for s in SCHEMES}
            name = f"{of['naive']['data']}, negatives from the {source}: {WEIGHTS[part]}"
            rows.append(Row(name, ratios, float(of["naive"]["share"])))
    return rows


def section() -> str:
    """Return the section of docs/results.md."""
    head = ["## The samplers: what drawing by strata takes from the variance", ""]
    head += [(RESULTS / "reading.md").read_text().strip(), "", "![Variance over that of naive draws](sampling.svg)", ""]
    table = [
        "| The mean of a made-up field over 256 draws | SG, by theory | SAG, by theory |",
        "|---|---:|---:|",
        *(f"| {row.name} | {' | '.join(by_theory(row.ratios[s]) for s in SCHEMES)} |" for row in fields()),
        "| **The contrast of a frozen run over its draws** | **SG, 95 % interval** | **SAG, 95 % interval** |",
        *(f"| {row.name} | {' | '.join(with_interval(row.ratios[s]) for s in SCHEMES)} |" for row in gradients()),
    ]
    return "\n".join([*head, *table, "", errors(), "", shares(), "", cost(), ""])


def by_theory(ratio: Ratio) -> str:
    return f"{ratio.value:.3f}, {ratio.low:.3f}"


def with_interval(ratio: Ratio) -> str:
    return f"{ratio.value:.2f} [{ratio.low:.2f}, {ratio.high:.2f}]"


def errors() -> str:
    """Return what fields.csv says of bias, and of the theorem as printed."""
    found = read(RESULTS / "fields.csv")
    worst = max(abs(float(row["bias_in_standard_errors"])) for row in found)
    printed = [float(row["printed"]) for row in found if row["printed"]]
    below = sum(value < 0 for value in printed)
    return (
        f"No mean of the {len(found)} (field and scheme, {found[0]['repeats']} repetitions each) is further than "
        f"{worst:.1f} standard errors from the field's. The variance of SG as printed, without the weight of a group, "
        f"is negative for {below} of the {len(printed)} fields, down to {min(printed):.0f} times the naive one."
    )


def shares() -> str:
    """Return how much of a step's variance the draws make."""
    found = [row for row in gradients() if row.name.endswith(WEIGHTS["net"])]
    parts = (f"{row.share:.1%} ({row.name.split(':')[0]})" for row in found if row.share is not None)
    return (
        "Of the variance of the contrastive gradient of the net from step to step, naive draws make "
        f"{', '.join(parts)}; the rest is that batches differ."
    )


def cost() -> str:
    """Return what speed.csv says."""
    found = {row["what"]: row for row in read(RESULTS / "speed.csv")}
    sort, uniform = found["stable sort"], found["uniform draws"]
    pools, calls = (
        ", ".join(f"{s} {found[f'{what}, {s}']['over_sort_and_draws']}" for s in ("naive", *SCHEMES))
        for what in ("pool and two draws", "two calls of draw")
    )
    return (
        f"Drawing 256 anchors and 512 negatives for each, of {sort['classes']} classes from {sort['pixels']} pixels, "
        f"in multiples of one stable sort ({sort['milliseconds']} ms on one thread) and as many uniform draws "
        f"({uniform['milliseconds']} ms): {pools} for one `Pool`; {calls} for two calls of `draw`."
    )


def write_figure(file: Path) -> None:
    """Write the table as dots on a line."""
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams.update({"svg.fonttype": "none", "svg.hashsalt": "sampling", "font.size": 9})
    rows = [*fields(), *gradients()]
    figure = Figure(figsize=(8, 0.24 * len(rows) + 0.9), layout="constrained")
    axes = figure.add_subplot()
    for scheme, colour, marker, shift in (("sg", "C0", "o", -0.15), ("sag", "C1", "D", 0.15)):
        values, lows, highs = zip(*(row.ratios[scheme] for row in rows), strict=True)
        at = [place + shift for place in range(len(rows))]
        axes.hlines(at, lows, highs, color=colour, linewidth=1.5)
        axes.plot([max(value, 1e-3) for value in values], at, marker, color=colour, markersize=4, label=scheme.upper())
    axes.axvline(1, color="0.6", linewidth=1, zorder=0)
    axes.axhline(len(fields()) - 0.5, color="0.8", linewidth=1, zorder=0)
    axes.set(xscale="log", xlim=(8e-4, 3), yticks=range(len(rows)))
    axes.minorticks_off()
    axes.set_xlabel("variance over that of naive draws, 0.001 standing for less")
    axes.set_yticklabels([row.name for row in rows])
    axes.invert_yaxis()
    axes.legend(loc="lower left", frameon=False)
    figure.savefig(file, metadata={"Date": None, "Creator": None})


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    write_figure(Path(sys.argv[1]))
