"""What a training step of each method costs, as benchmarks/speed/steps.py measured it: the tables beside this file."""

import csv
from functools import cache
from pathlib import Path
from typing import NamedTuple

USUAL = "mean_teacher"
"""The method whose cost a method of one's own is counted with: a student, a teacher and two streams."""


class StepCost(NamedTuple):
    """A step of a method, relative to one of `supervised` with as many crops."""

    time: float
    """mean over the method's stages, each by its share of the steps."""
    memory: float
    """what the last stage adds to the memory of a process at rest."""


BASE = StepCost(time=1.0, memory=1.0)
"""`supervised`."""


@cache
def step_costs(dims: int) -> dict[str, StepCost]:
    """Return the cost of every shipped method by name, on slices (`dims` 2) or volumes (3)."""
    with (Path(__file__).parent / f"steps-{dims}d.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    base = next(float(row["growth_mb"]) for row in rows if row["method"] == "supervised")
    return {row["method"]: StepCost(float(row["ratio_to_first"]), float(row["growth_mb"]) / base) for row in rows}


def step_cost(method: str, dims: int) -> StepCost:
    """Return the cost of a method; one that the table does not know, one's own, counts as `USUAL`."""
    costs = step_costs(dims)
    return costs.get(method, costs[USUAL])
