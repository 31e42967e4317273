"""Faults: what is wrong with a data folder, one value each, so that all of them can be shown at once."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from semivox.errors import DatasetError


@dataclass(frozen=True)
class Fault:
    """One thing that is wrong.

    Attributes:
        severity: "error" where training is impossible or would be wrong, "warning" where it may be meant.
        case: the case, or the file or folder where no case is at fault.
        what: what is wrong, naming the file.
        found: what is there.
        expected: what should be there.
        fix: what to do.
    """

    severity: Literal["error", "warning"]
    case: str
    what: str
    found: str
    expected: str
    fix: str

    def __str__(self) -> str:
        return f"{self.severity}: {self.case}: {self.what}: found {self.found}, expected {self.expected}; {self.fix}"


def sentences(faults: Iterable[Fault]) -> str:
    """Return the faults as the message of one exception, on one line."""
    return " | ".join(str(fault).removeprefix("error: ") for fault in faults)


def refuse_errors(faults: Iterable[Fault]) -> None:
    """Refuse data that have errors; warnings pass.

    Raises:
        DatasetError: with all of them.
    """
    errors = [fault for fault in faults if fault.severity == "error"]
    if errors:
        raise DatasetError(sentences(errors))
