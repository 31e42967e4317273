"""Whom a long way of several trainings tells what goes on."""

from collections.abc import Callable
from dataclasses import dataclass

from semivox.training.loop import Row


@dataclass(frozen=True)
class Told:
    """Whom to tell what goes on.

    Attributes:
        say: called with a line for every step of the way.
        row: called with a run's name, every row of its log and its number of steps.
        case: called with (what is done, case, done, all) while scans are worked on.
        note: called with a sentence on everything that does not stop and should be known.
    """

    say: Callable[[str], None] = lambda text: None
    row: Callable[[str, Row, int], None] = lambda name, row, total: None
    case: Callable[[str, str, int, int], None] = lambda what, case, done, total: None
    note: Callable[[str], None] = lambda text: None
