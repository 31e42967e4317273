"""What more labels would bring, read off the labelled-only curve between two points and drawn on beyond them.

The curve is a straight line over the logarithm of the number of labels, as in `semivox.scoring.efficiency`: every
doubling brings as much as the last one that was seen. Real curves flatten, so that what is said of many more labels is
rather too good; the sentence says that it is drawn on.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from semivox.scoring.comparison import per_case
from semivox.scoring.efficiency import labels_for, worth_interval
from semivox.scoring.interval import mean_interval, training_reach
from semivox.scoring.scores import Group
from semivox.scoring.trainings import by_training

DOUBLINGS = 4
"""How far the curve is drawn on; what needs more is "more than" that."""
Array = NDArray[np.float64]


@dataclass(frozen=True)
class MoreLabels:
    """What more labels would bring without unlabelled scans, and how many bring a gain.

    Attributes:
        fewer, labelled: labels of the two points, and
        fewer_dice, dice: mean Dice there.
        doubling, low, high: Dice that twice as many labels bring, with its 95 % interval.
        gain: Dice that is to be gained.
        more, least, most: further labels for it, with the 95 % interval; infinite beyond `limit`.
        limit: further labels up to which the curve is drawn on.
        for_method: whether the gain is what unlabelled scans bring.
    """

    fewer: int
    labelled: int
    fewer_dice: float
    dice: float
    doubling: float
    low: float
    high: float
    gain: float
    more: float
    least: float
    most: float
    limit: int
    for_method: bool

    @property
    def sentence(self) -> str:
        """What more labels bring, for people who read no statistics."""
        bring = (
            f"Twice as many labels bring {self.doubling:+.3f} Dice (95 % interval {self.low:+.3f} to {self.high:+.3f})"
            f", if the labelled-only curve goes on as from {self.fewer} to {self.labelled} labels"
        )
        what = "as much as the unlabelled scans" if self.for_method else f"{self.gain:.2f} Dice more"
        if not math.isfinite(self.more):
            return f"{bring}; {what} would take more than {self.limit} further labels, as far as that shows."
        return f"{bring}; {what} would take about {self.more:.0f} further labels ({self._range()})."

    def _range(self) -> str:
        most = f"{math.ceil(self.most)}" if math.isfinite(self.most) else f"more than {self.limit}"
        return f"95 % interval {math.floor(self.least)} to {most}"


def more_labels(
    control: Group, fewer: Group, counts: tuple[int, int], *, method: Group | None = None, gain: float = 0.0
) -> MoreLabels | None:
    """Return what more labels would bring; None where no case was scored by all.

    Args:
        control: cross-validations without unlabelled scans.
        fewer: the same with fewer labels.
        counts: labels of `fewer` and `control`.
        method: cross-validations with unlabelled scans, whose gain is to be had by labels; None: `gain` is.
        gain: in Dice.
    """
    groups = [fewer, control, *([method] if method else [])]
    _, units = by_training(*groups)
    scores = [[per_case(group, "dice") for group in unit] for unit in units or [tuple(groups)]]
    cases = sorted(set.intersection(*({*found} for unit in scores for found in unit)))
    if not cases:
        return None
    table = np.array([[[found[case] for case in cases] for found in unit] for unit in scores])  # (T, groups, C)
    low, full = table[:, 0], table[:, 1]
    slope = (full - low) / math.log2(counts[1] / counts[0])
    wanted = table[:, 2] if method else full + gain
    budgets = [*counts, *(counts[1] * 2**k for k in range(1, DOUBLINGS + 1))]
    curve = np.stack([low, full, *(full + k * slope for k in range(1, DOUBLINGS + 1))])
    ends = mean_interval(slope.mean(0), reach=training_reach(slope))
    reached = labels_for(float(wanted.mean()), budgets, curve.mean((1, 2)))
    least, most = worth_interval(wanted, budgets, curve)
    here = counts[1]
    return MoreLabels(
        fewer=counts[0], labelled=here, fewer_dice=float(low.mean()), dice=float(full.mean()),
        doubling=float(slope.mean()), low=ends[0], high=ends[1], gain=float((wanted - full).mean()),
        more=max(0.0, reached - here), least=max(0.0, min(least, reached) - here),
        most=max(0.0, max(most, reached) - here), limit=budgets[-1] - here, for_method=method is not None,
    )  # fmt: skip
