r"""How often `semivox advise` gives which word where the truth is known, with cases and draws of the labels random.

    python benchmarks/statistics/advice.py -o benchmarks/results/statistics/advice.csv

A difference in Dice is the truth, a part of its case, a part of its draw and a rest, all normal; `spread` is the
standard deviation of a difference, of whose variance `CASE` is the case's, `DRAW` the draw's. Where the truth is 0,
"helps" is a false word, where it is .05, "does not help" is.
"""

import argparse
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from semivox.advice.finding import find
from semivox.files import write_table
from semivox.scoring.scores import Group, Row, Scores

CASE, DRAW = 0.4, 0.1
TRIALS = 40


def group(name: str, table: np.ndarray) -> Group:
    """Return scores (draws, cases) as cross-validations."""
    runs = []
    for draw, scores in enumerate(table):
        rows = tuple(Row(f"{n}", "", 1, False, {"dice": float(dice)}, {}) for n, dice in enumerate(scores))
        made = {"method": name, "group": name, "seed": draw, "draw": draw, "labelled": 4}
        runs.append(Scores(Path(f"{name}-{draw}/scores.csv"), rows, {"prediction": made}))
    return Group(name, tuple(runs))


def rows() -> Iterator[dict[str, str]]:
    """Yield a row for every truth, spread, number of cases and of draws."""
    for truth, spread, cases, draws in (
        (truth, spread, cases, draws)
        for truth in (0.0, 0.05) for spread in (0.02, 0.1) for cases in (4, 8, 16) for draws in (3, 5)
    ):  # fmt: skip
        generator = np.random.default_rng([cases, draws])
        words: Counter[str] = Counter()
        for _ in range(TRIALS):
            parts = [(DRAW, (draws, 1)), (CASE, (1, cases)), (1 - CASE - DRAW, (draws, cases))]
            noise = sum(np.sqrt(share) * generator.standard_normal(shape) for share, shape in parts)
            control = np.zeros((draws, cases))
            words[find(group("a", control + truth + spread * noise), group("b", control)).word] += 1
        told = {word: f"{words[word] / TRIALS:.3f}" for word in ("helps", "does not help", "cannot be told")}
        yield {"truth": str(truth), "spread": str(spread), "cases": str(cases), "draws": str(draws), **told}


def main() -> None:
    """Write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("-o", "--output", type=Path, required=True)
    output = parser.parse_args().output
    found = list(rows())
    write_table(output, list(found[0]), found)


if __name__ == "__main__":
    main()
