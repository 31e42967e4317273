r"""How often a 95 % interval holds the truth where cases, seeds and draws of the labelled cases are all random.

    python benchmarks/statistics/hierarchical.py -o benchmarks/results/statistics/hierarchical.csv

Every training is scored on the same cases. A score, or a paired difference, is the sum of a part of its case, a part of
its training and a rest; the three columns of parts are shares of the variance. As the committed Dice of runs with two
or three seeds have it (the same analysis of variance as `semivox.scoring.interval`), differences from the control are

    .4  .1  .5    ACDC with 3 patients, LA with 2 scans: what a case gains differs from seed to seed
    .4  .25 .35   ACDC with 1 patient: all cases rise and fall together, too
    0   0   1     LA with 8, Hippocampus: neither case nor seed has a part of its own

and a mean of one method, where the case leads, .6 .05 .35; with .25 .5 .25, the trainings lead. Shapes are those of
cases and rest: normal, skewed (an exponential), heavy-tailed (Student's t with 3 degrees). The mean is 0. In "3 draws
of 2 seeds", two thirds of the training's part are the draw's. Columns, each a share of the trials that hold 0:

    over_cases     the interval over cases alone, trainings averaged: as it was
    percentile     bootstrap of cases and trainings (Owen's pigeonhole)
    satterthwaite  t with the variance and the degrees of freedom of the crossed table
    semivox        `mean_interval(..., reach=training_reach(...))`; over draws where there are three
    wider          how wide it is, as a multiple of the one over cases alone
    as_seeds       semivox, were all trainings taken for seeds: equal to it but for draws
"""

import argparse
import csv
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from scipy import stats

from semivox.scoring.interval import mean_interval, training_reach

PARTS = ((0.6, 0.05, 0.35), (0.4, 0.1, 0.5), (0.4, 0.25, 0.35), (0.0, 0.0, 1.0), (0.25, 0.5, 0.25))
CASES = (6, 20)
DESIGNS = {"3 seeds": (1, 3), "5 seeds": (1, 5), "3 draws of 2 seeds": (3, 2)}
RESAMPLED = 400
DRAWN = 2 / 3
"""Share of the draw in the trainings' part, where there are several draws."""
Shape = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
SHAPES: dict[str, Shape] = {
    "normal": lambda random, size: random.normal(size=size),
    "skewed": lambda random, size: random.exponential(size=size) - 1,
    "heavy-tailed": lambda random, size: random.standard_t(3, size=size) / np.sqrt(3),
}
Ends = tuple[np.ndarray, np.ndarray]


def tables(
    random: np.random.Generator, draw: Shape, parts: tuple[float, float, float], design: tuple[int, int],
    cases: int, trials: int,
) -> np.ndarray:  # fmt: skip
    """Return (trials, draws, seeds, cases) scores of mean 0 and spread 1."""
    draws, seeds = design
    drawn = DRAWN if draws > 1 else 0.0
    of_case, of_training, rest = np.sqrt(parts)
    training = np.sqrt(drawn) * random.normal(size=(trials, draws, 1, 1))
    training = training + np.sqrt(1 - drawn) * random.normal(size=(trials, draws, seeds, 1))
    own = of_case * draw(random, (trials, 1, 1, cases)) + rest * draw(random, (trials, draws, seeds, cases))
    return own + of_training * training


def resampled(random: np.random.Generator, table: np.ndarray) -> Ends:
    """Return the percentile intervals of (trials, trainings, cases) where both are resampled, alike in all trials."""
    _, trainings, cases = table.shape
    rows = random.multinomial(trainings, [1 / trainings] * trainings, size=RESAMPLED) / trainings
    columns = random.multinomial(cases, [1 / cases] * cases, size=RESAMPLED) / cases
    means = np.einsum("bt,ntc,bc->nb", rows, table, columns, optimize=True)
    low, high = np.percentile(means, [2.5, 97.5], axis=1)
    return low, high


def satterthwaite(table: np.ndarray) -> Ends:
    """Return Student's intervals of (trials, trainings, cases) with the crossed table's variance and freedom."""
    _, trainings, cases = table.shape
    by_case, by_training, mean = table.mean(1), table.mean(2), table.mean((1, 2))
    left = table - by_case[:, None] - by_training[..., None] + mean[:, None, None]
    free = (cases - 1) * (trainings - 1)
    rest = (left**2).sum((1, 2)) / free
    of_cases, of_trainings = trainings * by_case.var(1, ddof=1), cases * by_training.var(1, ddof=1)
    more = np.maximum(0, of_trainings - rest)
    spread = (more > 0) * (of_trainings**2 / (trainings - 1) + rest**2 / free)
    degrees = np.maximum(trainings - 1, (of_cases + more) ** 2 / (of_cases**2 / (cases - 1) + spread))
    reach = stats.t.ppf(0.975, degrees) * np.sqrt((of_cases + more) / (trainings * cases))
    return mean - reach, mean + reach


def own(table: np.ndarray, *, trainings: bool = True) -> Ends:
    """Return semivox' intervals of (trials, trainings, cases)."""
    found = [mean_interval(one.mean(0), reach=training_reach(one) if trainings else 0.0) for one in table]
    low, high = np.array(found).T
    return low, high


def rows(trials: int) -> Iterator[dict[str, str | int | float]]:
    """Return a row per parts, shape, number of cases and design."""
    for parts in PARTS:
        for name, draw in SHAPES.items():
            for cases in CASES:
                for design, (draws, seeds) in DESIGNS.items():
                    random = np.random.default_rng([cases, draws, seeds])
                    table = tables(random, draw, parts, (draws, seeds), cases, trials)
                    every = table.reshape(trials, draws * seeds, cases)
                    units = table.mean(2) if draws > 1 else every
                    ends = {"over_cases": own(units, trainings=False), "percentile": resampled(random, units),
                            "satterthwaite": satterthwaite(units), "semivox": own(units)}  # fmt: skip
                    width = {kind: float(np.mean(high - low)) for kind, (low, high) in ends.items()}
                    ends["as_seeds"] = own(every) if draws > 1 else ends["semivox"]
                    held = {kind: float(np.mean((low <= 0) & (high >= 0))) for kind, (low, high) in ends.items()}
                    wider = width["semivox"] / width["over_cases"]
                    told = dict(zip(("of_case", "of_training", "rest"), parts, strict=True))
                    yield {"shape": name, "cases": cases, "trainings": design, **told, **held, "wider": wider}


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--trials", type=int, default=1000)
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
