"""The 95 % interval of a mean over few cases and trainings: in closed form, so that the same scores give the same one.

Draws of the labelled cases and seeds are as random as the cases are, and all trainings are scored on the same cases. So
the two are crossed: what the trainings vary by is no less with more cases, and what the cases vary by no less with more
trainings. Each has its own reach, and the squares of the two add up (Zou & Donner 2008, "Construction of confidence
limits about effect measures"). Simulated in benchmarks/statistics/hierarchical.py, beside the bootstrap of both and
Satterthwaite's degrees of freedom.
"""

import math

import numpy as np
from numpy.typing import ArrayLike

LEVEL = 0.95


def mean_interval(values: ArrayLike, *, reach: float = 0.0) -> tuple[float, float]:
    """Return the 95 % interval of the mean of (n,) values: the wider of Student's and Hall's at either end.

    Student's t is right for differences that spread evenly. Where a few cases differ a lot, all to one side, it reaches
    too little to that side, and Hall's transformed t (1992, "On the removal of skewness by transformation") far enough;
    with heavy tails it is the other way round. Simulated in benchmarks/statistics/coverage.py, beside the bootstrap.

    Fewer than two values give (NaN, NaN). The interval of equal values is that value; of two, Student's alone.

    Args:
        values: a value per case, the mean over its trainings.
        reach: of the trainings, see `training_reach`; its square is added to that of either end.
    """
    from scipy.stats import t

    sample = np.asarray(values, dtype=np.float64)
    n = len(sample)
    if n < 2:
        return math.nan, math.nan
    if np.ptp(sample) == 0:
        return float(sample[0]) - reach, float(sample[0]) + reach
    mean, spread = float(sample.mean()), float(sample.std(ddof=1))
    student = float(t.ppf((1 + LEVEL) / 2, n - 1)) / math.sqrt(n)
    skew = _skewness(sample)
    low = max(student, _hall(student, skew, n))
    high = max(student, -_hall(-student, skew, n))
    return mean - math.hypot(low * spread, reach), mean + math.hypot(high * spread, reach)


def training_reach(table: ArrayLike) -> float:
    """Return how far the 95 % interval of a mean reaches because other trainings would have given another one.

    It is Student's t of the trainings less one, times the root of what trainings differ by over all cases alike. What
    they differ by case for case is the cases' own spread already, and is taken off: the two mean squares of a table
    with crossed rows and columns. It is 0 where that leaves nothing, and of fewer than two trainings or cases.

    By hand: rows (1, 3), (3, 5), (5, 7) differ by 2 over all cases alike, with nothing left: their means 2, 4, 6 have a
    standard deviation of 2, and the reach is 4.303 * 2 / root of 3.

    Args:
        table: (trainings, cases), the same cases in every training.
    """
    from scipy.stats import t

    values = np.asarray(table, dtype=np.float64)
    trainings, cases = values.shape
    if min(trainings, cases) < 2:
        return 0.0
    of_trainings, of_cases = values.mean(1, keepdims=True), values.mean(0, keepdims=True)
    rest = values - of_trainings - of_cases + values.mean()
    square = cases * float(of_trainings.var(ddof=1)) - float((rest**2).sum()) / ((trainings - 1) * (cases - 1))
    return float(t.ppf((1 + LEVEL) / 2, trainings - 1)) * math.sqrt(max(0.0, square) / (trainings * cases))


def _hall(reach: float, skew: float, n: int) -> float:
    """Return the studentised mean whose transformed value is `reach`: Hall's cubic, solved.

    With y the studentised mean over the root of n, and a = skew / 3, the transformed is
    y + a y^2 + a^2 y^3 / 3 + skew / (6 n), whose distribution is symmetric to the next order. Without skew it is y.
    """
    if abs(skew) < 1e-6:
        return reach
    a = skew / 3
    return float((np.cbrt(1 + 3 * a * (reach - skew / (6 * n))) - 1) / a)


def _skewness(sample: np.ndarray) -> float:
    """Return the sample skewness without its small-sample bias; 0 of fewer than three values."""
    n = len(sample)
    if n < 3:
        return 0.0
    centred = sample - sample.mean()
    return float((centred**3).mean() / (centred**2).mean() ** 1.5 * math.sqrt(n * (n - 1)) / (n - 2))
