"""Every error that semivox raises on purpose, and the words that name the nearest known name, or what went wrong.

A message says what is wrong, where (case, file, key), what was found, what was expected, and what to do.
"""

import traceback
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from pathlib import Path


class SemivoxError(Exception):
    """Anything that semivox refuses; the command line prints its message and exits with `exit_code`.

    Attributes:
        exit_code: 2 where the user can mend it.
        quiet: another process that trains along says it.
    """

    exit_code = 2
    quiet = False


class DatasetError(SemivoxError, ValueError):
    """A data folder, a split or a file in them cannot be used as it is."""


class GeometryError(SemivoxError, ValueError):
    """Shapes, spacings, directions or patches that do not fit each other."""


class ConfigError(SemivoxError, ValueError):
    """A key, a value or a combination of values that no run can follow."""


class UnknownMethodError(SemivoxError, LookupError):
    """A method, net, config or protocol was named that does not exist."""


class MethodError(SemivoxError, TypeError):
    """A method of one's own whose file, or what its ``forward`` returns, is not what a method has."""


class RunError(SemivoxError, RuntimeError):
    """A run folder, a checkpoint or a run in progress that cannot go on."""


class PredictionError(RunError):
    """Scans that were passed over, since they could not be predicted; the masks of the others are written.

    Attributes:
        failures: what went wrong, by case.
        masks: paths of the masks of all other cases, in the order of their names.
    """

    exit_code = 1

    def __init__(self, message: str, failures: Mapping[str, str], masks: Sequence[Path]) -> None:
        super().__init__(message)
        self.failures, self.masks = dict(failures), list(masks)


class FailedRunsError(RunError):
    """Runs of a protocol that failed, while the others went on.

    Attributes:
        failures: why, by the name of the run's folder.
        reports: paths of the reports, made of the others.
    """

    exit_code = 1

    def __init__(self, message: str, failures: Mapping[str, str], reports: Sequence[Path]) -> None:
        super().__init__(message)
        self.failures, self.reports = dict(failures), list(reports)


class TimeUpError(RunError):
    """A time budget that is spent; the same call goes on behind the last checkpoint."""

    exit_code = 3


class MissingExtraError(SemivoxError, ImportError):
    """An optional package is needed; the message names the extra to install."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which known name is closest to an unknown one, or list them all.

    Returns:
        A sentence such as ``did you mean 'steps'?``, or ``known: a, b, c`` when nothing is close.
    """
    known = sorted(known)
    close = get_close_matches(name, known, n=1, cutoff=0.5)
    return f"did you mean '{close[0]}'?" if close else f"known: {', '.join(known)}"


def one_line(error: BaseException) -> str:
    """Return what an error says, on one line; its kind where it says nothing."""
    return " ".join(str(error).split()) or type(error).__name__


def reason(error: BaseException) -> str:
    """Return what an error says, on one line; of one that semivox does not raise on purpose also its kind and place."""
    text = " ".join(str(error).split())
    if isinstance(error, SemivoxError):
        return text
    frames = traceback.extract_tb(error.__traceback__)
    where = f" ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {text or 'no message'}{where}"
