"""Scans that could not be predicted: passed over, told, and listed in failed.csv beside the masks."""

import csv
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from semivox.errors import ConfigError, PredictionError, RunError, one_line
from semivox.files import in_turn, write_table

COLUMNS = ("case", "file", "error")
Row = dict[str, str]


class Failures:
    """The scans of one prediction that failed.

    Args:
        on_note: called with a sentence for each.
    """

    def __init__(self, on_note: Callable[[str], None]) -> None:
        self.on_note = on_note
        self.rows: dict[str, Row] = {}
        self.cause: Exception | None = None

    @contextmanager
    def noted(self, case: str, files: Sequence[Path]) -> Iterator[None]:
        """Note what goes wrong with a case in this block, and go on behind it.

        What would stop every other case too is raised: the disk, the device or the run (`RunError`, `ConfigError`).
        """
        try:
            yield
        except (RunError, ConfigError):
            raise
        except Exception as error:  # whatever a reader or a net makes of a strange scan; MemoryError, too, is its size
            text = one_line(error)
            self.cause = self.cause or error
            self.rows[case] = {"case": case, "file": str(files[0]), "error": text}
            self.on_note(f"case '{case}' is passed over: {text}")

    def write(self, output: Path, done: Sequence[str]) -> None:
        """Write failed.csv; with no failure, there is no file. What failed in earlier calls and is not `done` stays.

        Raises:
            RunError: the file cannot be written.
        """
        file = output / "failed.csv"
        with in_turn(output):
            rows = {row["case"]: row for row in _read(file) if row["case"] not in done} | self.rows
            if not rows:
                file.unlink(missing_ok=True)
                return
            write_table(file, COLUMNS, (rows[case] for case in sorted(rows)))

    def raise_together(self, masks: Sequence[Path], output: Path) -> None:
        """Raise what went wrong, a line for each case, if anything did.

        Raises:
            PredictionError: some scans failed.
        """
        if not self.rows:
            return
        total = len(masks) + len(self.rows)
        head = f"{len(self.rows)} of {total} scans could not be predicted, {len(masks)} masks are there; the same "
        lines = [head + f"command tries them again; see {output / 'failed.csv'}:"]
        lines += [f"  {row['case']}: {row['error']}" for row in self.rows.values()]
        errors = {case: row["error"] for case, row in self.rows.items()}
        raise PredictionError("\n".join(lines), errors, masks) from self.cause


def _read(file: Path) -> list[Row]:
    """Return the rows of failed.csv; none where there is no such file, or someone else's."""
    if not file.is_file():
        return []
    with file.open(encoding="utf-8", errors="replace", newline="") as handle:
        table = csv.DictReader(handle)
        known = {*COLUMNS} <= {*(table.fieldnames or ())}
        return [{key: row[key] or "" for key in COLUMNS} for row in table] if known else []
