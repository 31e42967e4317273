r"""How often a 95 % interval of a mean paired difference holds the true one, and how often a verdict is wrong.

    python benchmarks/statistics/coverage.py -o benchmarks/results/statistics/coverage.csv

A case's difference is half the case's and half the seeds' by variance, and the seeds are averaged, as `report` does.
Both parts come from one shape: normal, skewed (an exponential), heavy-tailed (Student's t with 3 degrees), or real
(the committed differences of Dice from the controls per case, centred and scaled by comparison, resampled). Their mean
is 0: there is no difference, and what lies beside 0 is false. Columns, each a share of the trials:

    percentile, bca, t, hall, semivox   the interval holds 0 (semivox: the wider of t and hall at either end)
    false_percentile                    "better" or "worse" by the percentile interval alone, as it once was
    false_word                          by `semivox.scoring`: Wilcoxon's p < .05, and semivox' interval beside 0
    found                               the same, where the true difference is half a standard deviation
"""

import argparse
import csv
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from scipy import stats

from semivox.scoring.comparison import paired_scores, wilcoxon_p
from semivox.scoring.interval import mean_interval
from semivox.scoring.likeness import group_scores
from semivox.scoring.scores import read_scores
from semivox.scoring.verdict import SEEDS, verdict

RESULTS = Path(__file__).parents[1] / "results"
CASES, AVERAGED = (6, 10, 20, 40), (3, 5)
DRAWS = 2000
Shape = Callable[[np.random.Generator, tuple[int, ...]], np.ndarray]
Ends = tuple[np.ndarray, np.ndarray]


def real_differences() -> np.ndarray:
    """Return all committed paired differences of Dice from the controls, with mean 0 and spread 1 by comparison."""
    found = []
    for folder in sorted({path.parent for path in RESULTS.glob("*/supervised-*-seed0")}):
        for name in sorted({path.name for path in folder.glob("*/scores*.csv")}):
            groups = {group.name: group for group in group_scores([*map(read_scores, folder.glob(f"*/{name}"))])}
            control = groups.pop("supervised")
            for group in groups.values():
                difference = np.subtract(*np.array([*paired_scores(group, control, "dice").values()]).T)
                found.append((difference - difference.mean()) / difference.std())
    return np.concatenate(found)


def shapes() -> dict[str, Shape]:
    """Return draws of mean 0 and spread 1 by the name of their shape."""
    real = real_differences()
    return {
        "normal": lambda random, size: random.normal(size=size),
        "skewed": lambda random, size: random.exponential(size=size) - 1,
        "heavy-tailed": lambda random, size: random.standard_t(3, size=size) / np.sqrt(3),
        "real": lambda random, size: random.choice(real, size=size),
    }


def bootstrap_ends(samples: np.ndarray) -> dict[str, Ends]:
    """Return the percentile and BCa intervals of (trials, n) samples' means; all trials share their draws."""
    trials, n = samples.shape
    weights = np.random.default_rng(0).multinomial(n, [1 / n] * n, size=DRAWS) / n
    centred = samples - samples.mean(1, keepdims=True)
    means = np.sort(weights @ centred.T, axis=0)  # (draws, trials)
    below = ((means < 0).mean(0) + (means <= 0).mean(0)) / 2
    bias = stats.norm.ppf(np.clip(below, 1 / DRAWS, 1 - 1 / DRAWS))
    acceleration = (centred**3).sum(1) / (6 * (centred**2).sum(1) ** 1.5)  # the jackknife's, of a mean

    def corrected(p: float) -> np.ndarray:
        z = bias + stats.norm.ppf(p)
        place = stats.norm.cdf(bias + z / (1 - acceleration * z)) * DRAWS
        return means[np.clip(place.astype(int), 0, DRAWS - 1), np.arange(trials)]

    centre = samples.mean(1)
    low, high = np.percentile(means, [2.5, 97.5], axis=0)
    return {"percentile": (centre + low, centre + high),
            "bca": (centre + corrected(0.025), centre + corrected(0.975))}  # fmt: skip


def closed_ends(samples: np.ndarray) -> dict[str, Ends]:
    """Return the intervals in closed form of (trials, n) samples' means: Student's, Hall's, and semivox' own."""
    n = samples.shape[1]
    mean, spread = samples.mean(1), samples.std(1, ddof=1)
    reach = stats.t.ppf(0.975, n - 1) / np.sqrt(n)
    skew = stats.skew(samples, axis=1, bias=False)
    hall = [(np.cbrt(1 + skew * (y - skew / (6 * n))) - 1) * 3 / skew for y in (reach, -reach)]
    own = np.array([mean_interval(sample) for sample in samples]).T
    return {"t": (mean - reach * spread, mean + reach * spread),
            "hall": (mean - hall[0] * spread, mean - hall[1] * spread),
            "semivox": (own[0], own[1])}  # fmt: skip


def share_said(samples: np.ndarray, ends: Ends) -> float:
    """Return the share of (trials, n) samples that semivox calls better or worse, were each compared alone."""
    said = [
        verdict(sample.mean(), (low, high), wilcoxon_p(sample), seeds=SEEDS, higher_is_better=True)
        for sample, low, high in zip(samples, *ends, strict=True)
    ]
    return float(np.mean([word in ("better", "worse") for word in said]))


def rows(trials: int) -> Iterator[dict[str, str | int | float]]:
    """Return a row per shape, number of cases and number of seeds averaged."""
    for name, draw in shapes().items():
        for n in CASES:
            for seeds in AVERAGED:
                random = np.random.default_rng([n, seeds])
                samples = (draw(random, (trials, n)) + draw(random, (trials, n, seeds)).mean(-1)) / np.sqrt(2)
                ends = bootstrap_ends(samples) | closed_ends(samples)
                held = {kind: float(np.mean((low <= 0) & (high >= 0))) for kind, (low, high) in ends.items()}
                shift = np.sqrt((1 + 1 / seeds) / 2) / 2
                moved = (ends["semivox"][0] + shift, ends["semivox"][1] + shift)
                yield {"shape": name, "cases": n, "seeds": seeds, **held,
                       "false_percentile": 1 - held["percentile"],
                       "false_word": share_said(samples, ends["semivox"]),
                       "found": share_said(samples + shift, moved)}  # fmt: skip


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    parser.add_argument("--trials", type=int, default=2000)
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
