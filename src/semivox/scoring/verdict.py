"""The one word for a paired difference, such as better, worse, seen once or no difference shown."""

import math

SEEDS = 3
"""Trainings of either side that a difference must have been seen in before it is the method's and not the seed's."""
LEVEL = 0.05
UNLIKE = "not comparable"
FEW = "too few cases"
NONE = "no difference shown"
ONCE = "seen once"
BETTER, WORSE = "better", "worse"


def verdict(
    difference: float,
    interval: tuple[float, float],
    p: float,
    *,
    seeds: int,
    higher_is_better: bool,
    comparable: bool = True,
) -> str:
    """Return the word for a difference, the compared minus its control.

    Args:
        difference: mean over the pairs.
        interval: its 95 % interval; NaN where there are too few pairs.
        p: of the paired test, corrected by Holm's method within its family.
        seeds: that both sides were trained with; below three, what else would be a difference is "seen once".
        higher_is_better: whether more of the score is better.
        comparable: whether both sides differ in nothing but what is compared.
    """
    low, high = interval
    if not comparable:
        return UNLIKE
    if math.isnan(low) or math.isnan(p):
        return FEW
    if p >= LEVEL or low <= 0 <= high:
        return NONE
    if seeds < SEEDS:
        return ONCE
    return BETTER if (difference > 0) == higher_is_better else WORSE
