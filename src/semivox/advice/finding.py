"""What a trial found of the unlabelled scans: they help, they do not, or it cannot be told; with the reasons."""

from dataclasses import dataclass
from typing import Literal

from semivox.scoring.comparison import Comparison, compare, paired_scores
from semivox.scoring.scores import Group
from semivox.scoring.verdict import BETTER, SEEDS, WORSE

Word = Literal["helps", "does not help", "cannot be told"]
WORTH = 0.02
"""Dice that a gain must have to be worth the trouble: where the whole interval lies below it, unlabelled scans do not
help."""
FEWEST = 6
"""Cases, or patients, from which a paired test can tell anything: of five that all improve, p is 1/16."""


@dataclass(frozen=True)
class Finding:
    """The paired difference in Dice, with minus without unlabelled scans, and the word for it.

    Attributes:
        word: "helps", "does not help" (or harms: the difference says) or "cannot be told".
        comparison: the difference, its interval and its test.
        better: cases with more Dice.
    """

    word: Word
    comparison: Comparison
    better: int

    @property
    def sentence(self) -> str:
        """What was found, for people who read no statistics."""
        found = self.comparison
        size = f"{abs(found.difference):.3f}"
        interval = f"95 % interval {found.low:+.3f} to {found.high:+.3f}"
        means = f"{found.mean:.3f} with them, {found.control_mean:.3f} without"
        if self.word == "helps":
            return (
                f"Unlabelled scans help here: on scans that training did not see, Dice is {size} higher ({interval}; "
                f"{means}), in {self.better} of {found.cases} cases."
            )
        if self.word == "does not help" and found.verdict == WORSE:
            return (
                f"Unlabelled scans harm here: on scans that training did not see, Dice is {size} lower ({interval}; "
                f"{means}), and higher in {self.better} of {found.cases} cases."
            )
        if self.word == "does not help":
            return (
                f"Unlabelled scans do not help here: Dice changes by {found.difference:+.3f} ({interval}; {means}), "
                f"less than the {WORTH} that would be worth it."
            )
        return f"Whether unlabelled scans help here cannot be told with {found.cases} labels: {self._why(interval)}"

    def _why(self, interval: str) -> str:
        found = self.comparison
        change = f"Dice changes by {found.difference:+.3f} ({interval})"
        if found.cases < FEWEST:
            return f"{change}, and a paired test needs {FEWEST}."
        if found.seeds < SEEDS:
            return f"{change}, seen once: {SEEDS} draws are needed."
        if found.confounders:
            return f"{change}, and the two sides differ in more: {', '.join(found.confounders)}."
        if found.low <= 0:
            return f"{change}, so that a gain and a loss both agree with what was seen."
        return f"{change}, but the test over cases does not agree (p = {found.p:.2f})."


def find(method: Group, control: Group) -> Finding:
    """Return what is found between two groups of cross-validations of the same cases and draws."""
    comparison = compare(method, control, "dice")
    better = sum(mine > theirs for mine, theirs in paired_scores(method, control, "dice").values())
    return Finding(_word(comparison), comparison, better)


def _word(found: Comparison) -> Word:
    """Return the word; a difference that reports would call better or worse is told, and one too small to matter."""
    if found.cases < FEWEST or found.confounders:
        return "cannot be told"
    if found.verdict == BETTER:
        return "helps"
    small = found.seeds >= SEEDS and found.high < WORTH
    return "does not help" if found.verdict == WORSE or small else "cannot be told"
