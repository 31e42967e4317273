"""From agreement to an estimate of Dice, and to a bound below which it seldom lies.

Two nets that learnt apart agree best where both are right, so the Dice between their masks ranks scans as the Dice with
the truth does; but they err alike, too, and it is the larger of both. By how much is known of scans that have a label
and were predicted out of fold. The bound is that of split conformal prediction (Vovk et al., 2005; Lei et al., JASA
2018): if scans are exchangeable with n calibration cases, the ceil((n + 1) c)-th smallest excess is passed with a
probability of at most 1 - c. So n cases cannot promise more than n / (n + 1).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median


@dataclass(frozen=True)
class Calibration:
    """What is known of scans with a label.

    Attributes:
        excess: by class value, agreement minus true Dice of every calibration case.
    """

    excess: Mapping[int, Sequence[float]] = field(default_factory=dict)

    def cases(self, value: int) -> int:
        """Return how many calibration cases a class has."""
        return len(self.excess.get(value, ()))

    def estimate(self, value: int, agreement: float) -> float:
        """Return the Dice that is likely: the agreement less its median excess; without cases, as it is."""
        found = self.excess.get(value, ())
        return _within(agreement - median(found)) if found else agreement

    def lower(self, value: int, agreement: float, coverage: float) -> float:
        """Return what the Dice lies above with a probability of `coverage`; NaN where too few cases promise it."""
        found = sorted(self.excess.get(value, ()))
        rank = math.ceil(round((len(found) + 1) * coverage, 9))
        return _within(agreement - found[rank - 1]) if rank <= len(found) else math.nan


def cases_for(coverage: float) -> int:
    """Return how many calibration cases a coverage takes: the least n with n / (n + 1) >= coverage."""
    return math.ceil(round(coverage / (1 - coverage), 9))


def _within(dice: float) -> float:
    return min(max(dice, 0.0), 1.0)
