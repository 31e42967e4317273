"""From published tables to docs/published.md: what papers print under pinned protocols, beside semivox's own scores.

    python benchmarks/published.py > docs/published.md

benchmarks/published/PROTOCOL.csv has a row for every published figure, with the rule that chose its weights; its
last column names the method of semivox that stands for it. The column "semivox" is filled from the committed scores in
benchmarks/results/PROTOCOL, by the runs of that method and label budget, and from nothing else.
"""

import csv
from pathlib import Path

from semivox.benchmarking.protocols import Protocol, read_protocol, with_group
from semivox.reporting.tables import summary_tables

HERE = Path(__file__).parent
PUBLISHED, RESULTS = HERE / "published", HERE / "results"
HEAD = (
    "Labelled", "Method", "Printed by", "Dice", "Jaccard", "HD95", "ASD", "Weights chosen", "Remark", "semivox: Dice",
)  # fmt: skip
SECTIONS = {
    "la2018": (
        "Left atrium",
        "80 scans to learn from, 20 to test. SimCVD and ARCO print other figures for the same methods.",
    ),
    "acdc": (
        "ACDC",
        "Labelled are patients, of 70; Dice is the mean of the three classes. ARCO's first budget has 23 of the 32 "
        "slices of its patient.",
    ),
    "pancreas": (
        "Pancreas-CT",
        "62 scans to learn from, 20 to test, by three lists that do not compare: SimCVD's, MC-Net's and CoraNet's.",
    ),
}


def page() -> str:
    """Return docs/published.md."""
    made = "Made by `python benchmarks/published.py` from `benchmarks/published` and `benchmarks/results`."
    lines = ["# Published figures", "", f"{made} [Start](index.md).", "", text("preface.md"), ""]
    for name, (title, note) in SECTIONS.items():
        lines += [f"## {title}", "", f"`semivox bench benchmarks/{name}.toml`", "", note, "", table(name), ""]
    return "\n".join([*lines, text("sources.md")]) + "\n"


def text(file: str) -> str:
    """Return a file of words."""
    return (PUBLISHED / file).read_text().strip()


def table(name: str) -> str:
    """Return the published rows of a protocol as a Markdown table, with semivox's own Dice where it is committed."""
    protocol = read_protocol(HERE / f"{name}.toml")
    with (PUBLISHED / f"{name}.csv").open(newline="") as file:
        rows = [[*row[:-1], own_dice(name, protocol, row[-1], row[0])] for row in list(csv.reader(file))[1:]]
    lines = [HEAD, ["---:", "---", "---", *["---:"] * 4, "---", "---", "---:"], *rows]
    return "\n".join(f"| {' | '.join(cell or '–' for cell in line)} |" for line in lines)


def own_dice(name: str, protocol: Protocol, method: str, labelled: str) -> str:
    """Return the mean Dice in per cent of a method's committed runs of a label budget; nothing where there is none."""
    scores = with_group("scores", protocol.groups[0], ".csv")
    runs = f"{method.replace('_', '-')}-{labelled}-seed*" if method else ""
    files = sorted((RESULTS / name).glob(f"{runs}/{scores}")) if runs else []
    if not files:
        return ""
    tables = summary_tables(files, control=None)
    (group,) = tables.groups
    return f"{100 * tables.summary(group, tables.metrics[0]).mean:.2f} ({len(files)} seeds)"


if __name__ == "__main__":
    print(page(), end="")
