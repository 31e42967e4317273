"""The advice as a page for people, advice.md, and as numbers, advice.json."""

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from semivox.advice.domain import LEVEL, Look
from semivox.advice.finding import WORTH, Finding
from semivox.advice.labels import MoreLabels
from semivox.advice.trial import Trial
from semivox.files import write_atomic
from semivox.scoring.comparison import Summary

PAGE, NUMBERS = "advice.md", "advice.json"


@dataclass(frozen=True)
class Advice:
    """What is advised, and why.

    Attributes:
        finding: whether unlabelled scans help.
        labels: what more labels would bring; None where there are too few to tell.
        looks: how every scan compares with the labelled ones.
        scores: mean Dice of each method and number of labels.
        trial: what was trained.
    """

    finding: Finding
    labels: MoreLabels | None
    looks: tuple[Look, ...]
    scores: tuple[Summary, ...]
    trial: Trial

    @property
    def unlike(self) -> tuple[Look, ...]:
        """The unlabelled scans that are unlike the labelled ones."""
        return tuple(look for look in self.looks if look.reasons and not look.labelled)

    @property
    def sentences(self) -> tuple[str, ...]:
        """The advice: on unlabelled scans, on more labels, on scans that are unlike, and on a trial that was short."""
        more = self.labels.sentence if self.labels else "What more labels would bring cannot be told with so few."
        scans = sum(not look.labelled for look in self.looks)
        unlike = f"None of the {scans} unlabelled scans looks unlike the labelled ones." if not self.unlike else (
            f"{len(self.unlike)} of the {scans} unlabelled scans look unlike the labelled ones: what is said above was "
            "measured on labelled scans, and says nothing of scans like these. Label some of them."
        )
        return self.finding.sentence, more, unlike, *self._short()

    def _short(self) -> tuple[str, ...]:
        """Return a sentence where the trial's trainings were shorter than those that it is to speak for."""
        steps, planned = self.trial.steps, self.trial.planned
        if steps >= planned:
            return ()
        return (
            f"All this was seen after {steps} steps, where a training here takes {planned}: what unlabelled scans "
            "bring may come later; give the trial more time to be surer.",
        )


def write_advice(advice: Advice, folder: Path) -> Path:
    """Write advice.json and advice.md into a folder, and return the page.

    Raises:
        RunError: the folder cannot be written.
    """
    numbers = json.dumps(_plain(_numbers(advice)), indent=1)
    write_atomic(folder / NUMBERS, lambda file: file.write(f"{numbers}\n".encode()))
    write_atomic(folder / PAGE, lambda file: file.write(_page(advice).encode()))
    return folder / PAGE


def _numbers(advice: Advice) -> dict[str, Any]:
    found = advice.finding
    return {
        "verdict": found.word,
        "sentences": list(advice.sentences),
        "difference": asdict(found.comparison),
        "better": found.better,
        "labels": asdict(advice.labels) if advice.labels else None,
        "scores": [asdict(summary) for summary in advice.scores],
        "scans": [asdict(look) for look in advice.looks],
        "trial": asdict(advice.trial),
    }


def _page(advice: Advice) -> str:
    trial, found = advice.trial, advice.finding.comparison
    lines = ["# Do unlabelled scans help here?", ""]
    for sentence in advice.sentences:
        lines += [sentence, ""]
    lines += ["## How it was found", ""]
    lines += [
        f"The labelled cases were dealt into {trial.folds} parts, {_times(trial.draws)}. Each part was predicted by "
        f"nets that had seen none of its scans: {trial.method} with the unlabelled scans, {trial.control} without, "
        f"{trial.steps} steps each. So it holds for {trial.labelled} labels and as many steps; unlabelled scans bring "
        f"less with more labels, and other steps may change it. The interval is over {found.over}; the difference is "
        "paired by case. \"Helps\" asks for an interval above 0 and a paired test below .05, \"does not help\" for an "
        f"interval below {WORTH}.",
        "",
        "| trained | cases | Dice | 95 % interval |",
        "|---|---|---|---|",
        *(f"| {s.group} | {s.cases} | {s.mean:.3f} | {s.low:.3f} to {s.high:.3f} |" for s in advice.scores),
        "",
        "## Scans that look unlike the labelled ones",
        "",
        f"A scan is named where one of its traits lies beyond what {LEVEL:.1%} of scans like the labelled ones would "
        "have; a labelled scan is compared with the other labelled ones. With few labelled scans, little is named.",
        "",
    ]
    named = [look for look in advice.looks if look.reasons]
    if not named:
        return "\n".join([*lines, "None.", ""])
    lines += ["| scan | label | what is unlike |", "|---|---|---|"]
    lines += [_row(look) for look in named]
    return "\n".join([*lines, ""])


def _row(look: Look) -> str:
    more = f"; and {len(look.reasons) - 3} more" if len(look.reasons) > 3 else ""
    return f"| {look.case} | {'yes' if look.labelled else 'no'} | {'; '.join(look.reasons[:3])}{more} |"


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times anew"


def _plain(value: Any) -> Any:
    """Return values that JSON has a word for: NaN becomes null, infinity the text "more"."""
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else "more"
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return [_plain(item) for item in value] if isinstance(value, Sequence) and not isinstance(value, str) else value
