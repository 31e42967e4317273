"""How well `semivox quality` told good masks from bad ones, once the labels are looked at.

    semivox evaluate MASKS LABELS --cases split.json -o scores.csv
    semivox quality OTHER_RUN MASKS [--out-of-fold ...] -o quality.csv
    python benchmarks/quality.py --name hippocampus-2 quality.csv scores.csv -o benchmarks/results/quality.csv

Of each case, the mean over classes. Rank correlation (Spearman) of estimated and true Dice; area under the curve for
finding the worst quarter; mean of estimated minus true Dice; part of case and class whose Dice lies above its bound.
Intervals are percentiles of 2,000 draws of cases. Rows of the same name in the file are replaced.
"""

import argparse
import csv
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.stats import rankdata, spearmanr

from semivox.files import write_table

DRAWS = 2000
COLUMNS = ("name", "cases", "figure", "value", "low", "high")


def area(estimate: np.ndarray, dice: np.ndarray) -> float:
    """Return the probability that a case of the worst quarter is ranked below one of the others."""
    worst = rankdata(dice, method="ordinal") <= max(1, len(dice) // 4)
    ranks = rankdata(-estimate)
    count = worst.sum()
    return float((ranks[worst].sum() - count * (count + 1) / 2) / (count * (len(dice) - count)))


def read(quality: Path, scores: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return by case: mean estimate, mean Dice, and the part of classes above their bound (NaN: no bound)."""
    with quality.open() as file:
        found = {(row["case"], row["label"]): row for row in csv.DictReader(file)}
    by_case: dict[str, list[tuple[float, float, float]]] = {}
    with scores.open() as file:
        for row in csv.DictReader(file):
            own = found.get((row["case"], row["label"]))
            if own is None or not row["dice"] or math.isnan(float(row["dice"])):
                continue
            dice, lower = float(row["dice"]), float(own["dice_lower"] or "nan")
            kept = math.nan if math.isnan(lower) else float(dice >= lower)
            by_case.setdefault(row["case"], []).append((float(own["dice_estimated"] or "nan"), dice, kept))
    means = np.array([np.mean(rows, axis=0) for rows in by_case.values()])
    return means[:, 0], means[:, 1], means[:, 2]


def with_interval(figure: Callable[[np.ndarray], float], cases: int) -> tuple[float, float, float]:
    """Return a figure of all cases, and the 2.5th and 97.5th percentile over draws of cases."""
    generator = np.random.default_rng(0)
    drawn = [figure(generator.integers(0, cases, cases)) for _ in range(DRAWS)]
    low, high = np.nanpercentile(drawn, [2.5, 97.5])
    return figure(np.arange(cases)), float(low), float(high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("quality", type=Path)
    parser.add_argument("scores", type=Path)
    parser.add_argument("--name", required=True)
    parser.add_argument("-o", "--output", type=Path, required=True)
    words = parser.parse_args()
    estimate, dice, kept = read(words.quality, words.scores)
    figures: dict[str, Callable[[np.ndarray], float]] = {
        "spearman": lambda index: float(spearmanr(estimate[index], dice[index])[0]),
        "area_worst_quarter": lambda index: area(estimate[index], dice[index]),
        "estimated_minus_true": lambda index: float((estimate - dice)[index].mean()),
    }
    if not np.isnan(kept).any():
        figures["coverage"] = lambda index: float(kept[index].mean())
    rows = []
    if words.output.exists():
        with words.output.open() as file:
            rows = [row for row in csv.DictReader(file) if row["name"] != words.name]
    for name, figure in figures.items():
        found = with_interval(figure, len(dice))
        value, low, high = ("" if math.isnan(x) else f"{x:.4g}" for x in found)
        rows.append(dict(zip(COLUMNS, (words.name, len(dice), name, value, low, high), strict=True)))
        print(f"{name:<22} {value} [{low}, {high}]")
    write_table(words.output, COLUMNS, rows)


if __name__ == "__main__":
    main()
