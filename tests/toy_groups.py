"""Groups of runs with given scores, without a file."""

from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from semivox.scoring.scores import Group, Row, Scores


def group(name: str, table: ArrayLike) -> Group:
    """Return cross-validations (draws, cases) of Dice as a group."""
    runs = [
        Scores(
            Path(f"{name}-{draw}/scores.csv"),
            tuple(Row(f"case_{n}", "ball", 1, False, {"dice": float(dice)}, {}) for n, dice in enumerate(scores)),
            {"prediction": {"method": name, "group": name, "seed": draw, "draw": draw, "labelled": 4}},
        )
        for draw, scores in enumerate(np.atleast_2d(table))
    ]
    return Group(name, tuple(runs))
