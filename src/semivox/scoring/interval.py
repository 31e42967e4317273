"""The 95 % interval of a mean over few cases: in closed form, so that the same scores always give the same interval."""

import math

import numpy as np
from numpy.typing import ArrayLike

LEVEL = 0.95


def mean_interval(values: ArrayLike) -> tuple[float, float]:
    """Return the 95 % interval of the mean of (n,) values: the wider of Student's and Hall's at either end.

    Student's t is right for differences that spread evenly. Where a few cases differ a lot, all to one side, it reaches
    too little to that side, and Hall's transformed t (1992, "On the removal of skewness by transformation") far enough;
    with heavy tails it is the other way round. Simulated in benchmarks/statistics/coverage.py, beside the bootstrap.

    Fewer than two values give (NaN, NaN). The interval of equal values is that value; of two, Student's alone.
    """
    from scipy.stats import t

    sample = np.asarray(values, dtype=np.float64)
    n = len(sample)
    if n < 2:
        return math.nan, math.nan
    if np.ptp(sample) == 0:
        return float(sample[0]), float(sample[0])
    mean, spread = float(sample.mean()), float(sample.std(ddof=1))
    reach = float(t.ppf((1 + LEVEL) / 2, n - 1)) / math.sqrt(n)
    skew = _skewness(sample)
    low = max(reach, _hall(reach, skew, n))
    high = max(reach, -_hall(-reach, skew, n))
    return mean - low * spread, mean + high * spread


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
