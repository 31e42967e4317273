"""Every error that semivox raises on purpose, and the words that name the nearest known name.

A message says what is wrong, where (case, file, key), what was found, what was expected, and what to do.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class SemivoxError(Exception):
    """Anything that semivox refuses; the command line prints its message on one line and exits with 2.

    Attributes:
        quiet: another process that trains along says it.
    """

    quiet = False


class DatasetError(SemivoxError, ValueError):
    """A data folder, a split or a file in them cannot be used as it is."""


class GeometryError(SemivoxError, ValueError):
    """Shapes, spacings, directions or patches that do not fit each other."""


class ConfigError(SemivoxError, ValueError):
    """A key, a value or a combination of values that no run can follow."""


class UnknownMethodError(SemivoxError, LookupError):
    """A method, net, config or protocol was named that does not exist."""


class RunError(SemivoxError, RuntimeError):
    """A run folder, a checkpoint or a run in progress that cannot go on."""


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
