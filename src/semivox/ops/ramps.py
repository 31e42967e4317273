"""Numbers that change as training goes on: the ramp of loss weights, the warm start of a moving average, turns."""

import math
import random


def sigmoid_rampup(fraction: float) -> float:
    """Return exp(-5 (1 - fraction)^2), from .0067 at 0 through .287 at one half to 1 at 1; 1 beyond."""
    return math.exp(-5 * (1 - min(max(fraction, 0.0), 1.0)) ** 2)


def warmup_decay(step: int, decay: float) -> float:
    """Return min(1 - 1 / (step + 1), decay): a plain average of all past weights until that is as slow as `decay`."""
    return min(1 - 1 / (step + 1), decay)


def run_decay(steps: int, spans: float) -> float:
    """Return 1 - spans / steps, from 0 to .999: the decay of an average of mean age 1 / spans of a run."""
    return max(0.0, min(0.999, 1 - spans / steps))


def turns_before(step: int, longest: int, seed: int) -> int:
    """Return how many turns have ended before a step, where each takes 1 to `longest` steps, all equally likely.

    A function of its arguments alone, so that neither a resume nor another process changes whose turn it is.
    """
    draw, turns = random.Random(seed), 0
    end = draw.randint(1, longest)
    while end <= step:
        end += draw.randint(1, longest)
        turns += 1
    return turns
