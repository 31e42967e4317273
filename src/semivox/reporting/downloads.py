"""The tables of a report as files: CSV, inside the page itself too, with all digits that its cells round away."""

import csv
import io
import math
from collections.abc import Iterable, Mapping
from typing import Any
from urllib.parse import quote


def csv_uri(records: Iterable[object]) -> str:
    """Return a data URI of `csv_text`."""
    content = csv_text(records).encode("utf-8", "backslashreplace")
    return "data:text/csv;charset=utf-8," + quote(content, safe=" ,/:;+()")


def csv_text(records: Iterable[object]) -> str:
    """Return a CSV file with a row per record; what is undefined is an empty cell.

    Args:
        records: mappings with the same keys, or values of one dataclass; a nested mapping becomes columns of its own.
    """
    rows = [_flat(record) for record in records]
    text = io.StringIO(newline="")
    table = csv.DictWriter(text, list(dict.fromkeys(name for row in rows for name in row)), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return text.getvalue()


def _flat(record: object) -> dict[str, Any]:
    """Return the cells of a record by column, with the verdict of a comparison, which is no field of it."""
    if not isinstance(record, Mapping):
        record = vars(record) | ({"verdict": record.verdict} if hasattr(record, "verdict") else {})
    flat: dict[str, Any] = {}
    for name, value in record.items():
        nested = value if isinstance(value, Mapping) else {name: value}
        flat |= {column: _cell(item) for column, item in nested.items()}
    return flat


def _cell(value: object) -> object:
    undefined = value is None or (isinstance(value, float) and math.isnan(value))
    return "" if undefined else value
