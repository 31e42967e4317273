"""Second opinions on a scan: the masks of other nets, or of the same net on mirrored copies."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from semivox.data.volume import Volume
from semivox.files import file_digest
from semivox.prediction.predictor import Options, Predictor

Mask = NDArray[np.generic]


class Opinions:
    """What gives further masks of the scans of a folder of masks.

    Args:
        runs: run folders; those that made the masks are no second opinion, unless there is no other.
        weights: digests of the checkpoints that made the masks.
        device: "auto", "cpu" or "cuda".
        trust: run the runs' own copies of methods that semivox does not ship.

    Attributes:
        first: the predictor of the first run.
        mirrored: the one run that made the masks is its own second opinion.
        count: how many opinions there are on every scan.
    """

    def __init__(
        self, runs: Sequence[Path], weights: Sequence[str], *, device: str = "auto", trust: bool = False
    ) -> None:
        members = Predictor(runs, device=device, trust=trust).apart()
        self.first = members[0]
        others = [member for member in members if file_digest(member.checkpoint) not in weights]
        self._members = others or members
        self.mirrored = not others and len(members) == 1
        self.count = len(self._members)

    def masks(self, volume: Volume, case: str) -> list[Mask]:
        """Return the masks (X, Y, Z) of a scan, with the values of label files, in its RAS+ grid."""
        options = Options(mirror=True if self.mirrored else None)
        return [member.predict(volume, case=case, options=options) for member in self._members]


def agreement(mask: Mask, others: Sequence[Mask], value: int) -> float:
    """Return the mean Dice of a class between a mask and others; NaN where none of them has it."""
    own = mask == value
    pairs = [(int((own & (other == value)).sum()), int(own.sum() + (other == value).sum())) for other in others]
    found = [2 * both / total for both, total in pairs if total]
    return float(np.mean(found)) if found else float("nan")
