"""How common each class is: its share of the foreground in the truth of the scored cases.

Contrastive methods promise most for the classes of few voxels, the tail; a mean over classes hides whether that holds.
"""

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path


def class_shares(scores: Sequence[Path]) -> dict[str, float]:
    """Return each class's share of the foreground, in [0, 1], the rarest class first.

    A case that several tables score counts once. Nothing is returned where a table does not say how large the truth
    is, where tables use different units, or where no case has foreground.

    Args:
        scores: scores.csv files, with a column ``truth_ml`` or ``truth_voxels``.
    """
    sizes: dict[tuple[str, str], float] = {}
    columns = set()
    for path in scores:
        with Path(path).open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                column = next((name for name in row if name and name.startswith("truth_")), "")
                columns.add(column)
                sizes[row["case"], row.get("name") or row["label"]] = float(row.get(column) or 0)
    totals: Counter[str] = Counter()
    for (_, label), size in sizes.items():
        totals[label] += size  # type: ignore[assignment]
    everything = sum(totals.values())
    if len(columns) != 1 or "" in columns or not everything:
        return {}
    return {label: size / everything for label, size in sorted(totals.items(), key=lambda item: item[1])}
