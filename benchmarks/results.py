"""From the runs of a protocol to committed scores, and from committed scores to docs/results.md.

    python benchmarks/results.py collect runs/la2018-small
    python benchmarks/results.py page > docs/results.md

`collect` copies each run's scores.csv, the few facts that name it, and the last row of its log, without any path, to
benchmarks/results/PROTOCOL/RUN/. `page` writes the tables from those; the reading in words stands in
benchmarks/results/PROTOCOL/reading.md and is copied in.
"""

import csv
import json
import shutil
import sys
import tomllib
from pathlib import Path

from semivox.tables import headline, markdown_table, sentence, summary_tables

HERE = Path(__file__).parent
RESULTS = HERE / "results"
TABLES = {
    "steps.csv": "The time of a step, methods interleaved in one run (`python benchmarks/speed/steps.py -o "
    "benchmarks/results/steps.csv`); `supervised` takes 4 labelled crops, the others 2 and 2:",
    "gradients-la2018-small.csv": "Gradient norm of each term over the student without heads, mean of 10 batches at "
    "mid-run (`python benchmarks/gradients.py RUN DATA -o benchmarks/results/gradients-la2018-small.csv`):",
}


def collect(runs: Path) -> None:
    """Copy the scores of a protocol's finished runs."""
    for scores in sorted(runs.glob("*/scores.csv")):
        target = RESULTS / runs.name / scores.parent.name
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(scores, target / "scores.csv")
        facts = json.loads(scores.with_suffix(".json").read_text())
        prediction = facts["prediction"]
        kept = {key: prediction[key] for key in ("method", "group", "seed", "split", "weights", "options", "versions")}
        own = {key: facts[key] for key in ("unit", "tolerance", "hd95", "scored")}
        (target / "scores.json").write_text(json.dumps({**own, "prediction": kept}, indent=1) + "\n")
        rows = (scores.parent / "run" / "log.jsonl").read_text().splitlines()
        (target / "last_row.json").write_text(rows[-1] + "\n")
        print(target)


def page() -> str:
    """Return docs/results.md."""
    lines = ["# Results", "", "Made by `python benchmarks/results.py page` from `benchmarks/results`.", ""]
    lines += [(RESULTS / "reading.md").read_text().strip(), ""]
    for protocol in sorted(path for path in RESULTS.iterdir() if path.is_dir()):
        file = HERE / f"{protocol.name}.toml"
        title = tomllib.loads(file.read_text())["bench"]["title"]
        tables = summary_tables(sorted(protocol.glob("*/scores.csv")))
        lines += [f"## {title}", "", f"`semivox bench benchmarks/{file.name}`", "", headline(tables), ""]
        lines += [markdown_table(tables)]
        for label in tables.labels if len(tables.labels) > 1 else ():
            lines += [f"Class {label}:", "", markdown_table(tables, label=label)]
        lines += [f"- {sentence(c)}" for c in tables.comparisons if (c.metric, c.label) == (tables.metrics[0], None)]
        lines += [f"- {note}" for note in tables.notes]
        lines += ["", collapse_table(protocol)]
        reading = protocol / "reading.md"
        lines += [reading.read_text().strip(), ""] if reading.exists() else []
    lines += ["## What a step costs, and which term trains", ""]
    for file, words in TABLES.items():
        lines += [words, "", table(RESULTS / file), ""]
    return "\n".join(lines).rstrip() + "\n"


def table(file: Path) -> str:
    """Return a CSV file as a Markdown table."""
    head, *rows = csv.reader(file.read_text().splitlines())
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def collapse_table(protocol: Path) -> str:
    """Return what the last log row of each contrastive run says of collapse, or nothing."""
    rows = []
    for file in sorted(protocol.glob("*/last_row.json")):
        shown = json.loads(file.read_text())["shown"]
        if "slice_rank" in shown:
            names = ("slice_variance", "slice_rank", "bottleneck_variance", "bottleneck_rank")
            rows.append(f"| {file.parent.name} | {' | '.join(f'{shown[name]:.4g}' for name in names)} |")
    if not rows:
        return ""
    head = "| Run, last batch | Slice variance | Slice rank | Bottleneck variance | Bottleneck rank |"
    return "\n".join([head, "|---|---:|---:|---:|---:|", *rows, ""])


if __name__ == "__main__":
    if sys.argv[1:2] == ["collect"] and len(sys.argv) == 3:
        collect(Path(sys.argv[2]))
    elif sys.argv[1:] == ["page"]:
        print(page(), end="")
    else:
        sys.exit(__doc__)
