"""The trial behind an advice: which cross-validations, with how many steps, and what they take in time."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semivox.workflow.course import Pace, steps_in


@dataclass(frozen=True)
class Trial:
    """What is trained; whoever goes on with an advice keeps to it.

    Attributes:
        method: whose use of unlabelled scans is tried.
        control: the same without them.
        split: digest of the lists of cases.
        draws: how often the labelled cases are dealt anew into parts, each time with another seed.
        folds: parts of each cross-validation.
        cases: labelled cases, or patients, that are scored.
        labelled: cases, or patients, that a fold is trained on at least.
        fewer: so many of them for the lower point of the learning curve; 0 where there are too few for one.
        steps: of every training, and
        planned: of the training that the plan, or the config, describes.
        minutes: that all of it is expected to take.
    """

    method: str
    control: str
    split: str
    draws: int
    folds: int
    cases: int
    labelled: int
    fewer: int
    steps: int = 0
    planned: int = 0
    minutes: float = 0.0

    def trainings(self, folder: Path) -> dict[Path, dict[str, Any]]:
        """Return the folders of the cross-validations: method, draw and labelled cases (None: all), in their order."""
        kinds: dict[str, tuple[str, int | None]] = {
            self.control: (self.control, None), self.method: (self.method, None),
        }  # fmt: skip
        kinds |= {f"{self.control}-fewer": (self.control, self.fewer)} if self.fewer else {}
        return {
            folder / "runs" / f"{name}-{draw}": {"method": method, "draw": draw, "labelled": labelled}
            for draw in range(self.draws)
            for name, (method, labelled) in kinds.items()
        }

    def fitting_steps(self, seconds: float, paces: Mapping[str, Pace], labelled: int, scans: int) -> int:
        """Return how many steps of every training fill a time; see `steps_in`."""
        return steps_in(seconds, self._step(paces), besides=self._predicting(paces, labelled, scans))

    def expected_seconds(self, paces: Mapping[str, Pace], labelled: int, scans: int) -> float:
        """Return how long it takes, with `labelled` cases to predict a draw and `scans` to look at."""
        return self.steps * self._step(paces) + self._predicting(paces, labelled, scans)

    @property
    def count(self) -> int:
        """How many trainings it has."""
        return self.draws * self.folds * (3 if self.fewer else 2)

    def _step(self, paces: Mapping[str, Pace]) -> float:
        """Return the seconds of a step of every training."""
        control = paces[self.control].step * (2 if self.fewer else 1)
        return self.draws * self.folds * (paces[self.method].step + control)

    def _predicting(self, paces: Mapping[str, Pace], labelled: int, scans: int) -> float:
        control = paces[self.control].scan * (2 if self.fewer else 1)
        return self.draws * labelled * (paces[self.method].scan + control) + scans * paces[self.control].scan
