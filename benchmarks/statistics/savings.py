r"""How often the interval of what labels are worth holds the truth, beside the bootstrap of the inverted curve.

    python benchmarks/statistics/savings.py -o benchmarks/results/statistics/savings.csv

The control has .5, .6, .7, .8 Dice with 2, 4, 8, 16 labels, a method .65: worth 5.66 labels. To that, every score adds
a part of its case (standard deviation .1, the same with all labels and methods), of its training (.03, of its own with
each number of labels and method) and a rest (.05), as on ACDC. Columns, the first two shares of the trials:

    bootstrap       cases and trainings are resampled, the curve inverted in each resample, and the middle 95 % taken
    semivox         `semivox.scoring.efficiency.worth_interval`
    wide_bootstrap, wide_semivox    how wide they are, in doublings of labels, the median
"""

import argparse
import csv
import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from semivox.scoring.efficiency import labels_for, worth_interval

BUDGETS, MEANS, SCORE, TRUTH = (2, 4, 8, 16), (0.5, 0.6, 0.7, 0.8), 0.65, 4 * math.sqrt(2)
OF_CASE, OF_TRAINING, REST = 0.1, 0.03, 0.05
RESAMPLED = 200


def resampled(random: np.random.Generator, scores: np.ndarray) -> tuple[float, float]:
    """Return the percentile interval of what the first of (1 + B, trainings, cases) scores is worth in the others'."""
    _, trainings, cases = scores.shape
    found = []
    for _ in range(RESAMPLED):
        rows, columns = random.integers(trainings, size=trainings), random.integers(cases, size=cases)
        mine, *theirs = scores[:, rows][:, :, columns].mean((1, 2))
        found.append(labels_for(float(mine), BUDGETS, theirs))
    low, high = np.quantile(found, [0.025, 0.975], method="inverted_cdf")  # no mean with what is infinite
    return float(low), float(high)


def rows(trials: int) -> Iterator[dict[str, str | int | float]]:
    """Return a row per number of cases and of seeds."""
    for cases in (6, 20):
        for seeds in (3, 5):
            random = np.random.default_rng([cases, seeds])
            ends: dict[str, list[tuple[float, float]]] = {"bootstrap": [], "semivox": []}
            for _ in range(trials):
                scores = np.array([SCORE, *MEANS])[:, None, None] + OF_CASE * random.normal(size=cases)
                scores = scores + OF_TRAINING * random.normal(size=(5, seeds, 1))
                scores = scores + REST * random.normal(size=(5, seeds, cases))
                ends["bootstrap"].append(resampled(random, scores))
                ends["semivox"].append(worth_interval(scores[0], BUDGETS, scores[1:]))
            held = {name: float(np.mean([low <= TRUTH <= high for low, high in own])) for name, own in ends.items()}
            wide = {f"wide_{name}": float(np.median([np.log2(max(high, 1) / max(low, 1)) for low, high in own]))
                    for name, own in ends.items()}  # fmt: skip
            yield {"cases": cases, "seeds": seeds, **held, **wide}


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--trials", type=int, default=200)
    arguments = parser.parse_args()
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    with arguments.output.open("w", newline="") as file:
        writer = None
        for row in rows(arguments.trials):
            if writer is None:
                writer = csv.DictWriter(file, list(row), lineterminator="\n")
                writer.writeheader()
            writer.writerow({key: f"{value:.3f}" if isinstance(value, float) else value for key, value in row.items()})
            file.flush()


if __name__ == "__main__":
    main()
