"""From the runs of a protocol to committed scores, and from committed scores to docs/results.md.

    python benchmarks/results.py collect runs/la2018-small
    python benchmarks/results.py page > docs/results.md

`collect` copies each run's scores (scores.csv, or scores-GROUP.csv for each group of held-out cases), the few facts
that name it, and the last row of its log, without any path, to benchmarks/results/PROTOCOL/RUN/. `page` writes the
tables from those, each group by itself; the reading in words stands in benchmarks/results/PROTOCOL/reading.md and is
copied in.
"""

import csv
import json
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from sampling.page import section

from semivox.benchmarking.protocols import Protocol, read_protocol, with_group
from semivox.reporting.curves import COLLAPSE
from semivox.reporting.headline import first_comparisons, full_sentence, headline, learned_nothing
from semivox.reporting.tables import (
    Tables,
    find_controls,
    markdown_table,
    metric_name,
    p_text,
    score_text,
    summary_tables,
)
from semivox.scoring.comparison import Comparison, compare_all
from semivox.scoring.frequency import class_shares
from semivox.scoring.likeness import group_scores
from semivox.scoring.scores import read_scores

HERE = Path(__file__).parent
RESULTS = HERE / "results"
KEPT = (
    "method", "group", "seed", "split", "patients", "weights", "options", "versions", "config", "step", "steps",
    "finished",
)  # fmt: skip
TABLES = {
    "demo.csv": "What `semivox demo` says of five phantoms, each with other patients (`python benchmarks/demo.py "
    "runs/demo -o benchmarks/results/demo.csv`): mean Dice on the held-out scans, the paired difference with its 95 % "
    "interval, and CPU seconds. The settings were chosen on the seeds 10 and 11. Of seed 3 the interval lies above 0, "
    "but Wilcoxon's p is not below .05, so the headline shows no difference:",
    "steps.csv": "The time of a step, methods interleaved in one run (`python benchmarks/speed/steps.py -o "
    "benchmarks/results/steps.csv`); `supervised` takes 4 labelled crops, the others 2 and 2:",
    "quality.csv": "Quality without labels: estimates of `semivox quality` with `supervised` as second opinion, held "
    "against the labels afterwards, one seed each (`benchmarks/quality.py` has the commands). The left atrium by "
    "la2018-hour, the hippocampus by `semivox run --budget 20m` with 4 labels; scans whose labels no run saw:",
    "../../src/semivox/planning/steps-2d.csv": "Every method on slices: the mean of its stages, each by its share of "
    "the steps, and how far three steps of its last stage raise the resident peak (the command stands in "
    "`benchmarks/speed/steps.py`):",
    "../../src/semivox/planning/steps-3d.csv": "The same on volumes:",
    "steps-finetune.csv": "The time of a step in the last stage of ARCO and MONA on slices (the command stands in "
    "`benchmarks/speed/steps.py`):",
    "memory-finetune.csv": "Growth of the resident peak over three of these steps, each method in a fresh process:",
    "patches.csv": "A crop of 112 x 112 x 80 with its label, reading alone, beside what the line of UA-MT reads and "
    "MONAI's cache; the machine was busy (`python benchmarks/speed/patches.py -o "
    "benchmarks/results/patches.csv`):",
    "gradients-la2018-small.csv": "Gradient norm of each term over the student without heads, mean of 10 batches at "
    "mid-run (`python benchmarks/gradients.py RUN DATA -o benchmarks/results/gradients-la2018-small.csv`):",
    "alive-acdc-3-arco.csv": "ARCO, mended, in the middle of its run of acdc-3-3000 (`python benchmarks/alive.py RUN "
    "DATA --at 1500 -o benchmarks/results/alive-acdc-3-arco.csv`): gradients as parts of the supervised one's, the "
    "cosine between class means, unlabelled anchors of each class in a batch, and both nets' Dice on the 20 held-out "
    "patients. The teacher is still behind its student here; at the end of the run they are level (.708 and .710):",
    "alive-acdc-3-arco-99.csv": "The same with `method.ema_decay = 0.99`, a shorter average: the teacher is better, "
    "and still behind. That run ended at .757 and .699 (val and train-tail), the one above at .740 and .681: one seed "
    "each, no difference shown:",
    "alive-la2018-small-simcvd.csv": "SimCVD whose contrast reads the maps alone, on LA with 8 scans (`semivox train "
    "DATA --config la2018-small --method simcvd --set method.slices=maps --set method.weight_contrast=0.05`, then "
    "`python benchmarks/alive.py RUN DATA --at 500 -o benchmarks/results/alive-la2018-small-simcvd.csv`). With another "
    "volume's maps the contrast rises by .086 of chance, where .1 was the aim:",
    "alive-la2018-small-simcvd-10.csv": "The same with `method.weight_contrast=0.1`: .098 of chance, at twice the "
    "share of the gradient:",
}


def collect(runs: Path) -> None:
    """Copy the scores of a protocol's finished runs."""
    for scores in sorted(runs.glob("*/scores*.csv")):
        target = RESULTS / runs.name / scores.parent.name
        target.mkdir(parents=True, exist_ok=True)
        shutil.copy(scores, target / scores.name)
        facts = json.loads(scores.with_suffix(".json").read_text())
        prediction = facts["prediction"]
        kept = {key: prediction[key] for key in KEPT if key in prediction}
        own = {key: facts[key] for key in ("unit", "tolerance", "hd95", "scored")}
        (target / f"{scores.stem}.json").write_text(json.dumps({**own, "prediction": kept}, indent=1) + "\n")
        rows = (scores.parent / "run" / "log.jsonl").read_text().splitlines()
        (target / "last_row.json").write_text(rows[-1] + "\n")
        print(target / scores.name)


def page() -> str:
    """Return docs/results.md."""
    lines = ["# Results", "", "Made by `python benchmarks/results.py page` from `benchmarks/results`.", ""]
    folders = sorted(path for path in RESULTS.iterdir() if (HERE / f"{path.name}.toml").exists())
    lines += [overview(folders), "", (RESULTS / "reading.md").read_text().strip(), ""]
    for folder in folders:
        file = HERE / f"{folder.name}.toml"
        protocol = read_protocol(file)
        lines += [f"## {protocol.title}", "", f"`semivox bench benchmarks/{file.name}`", ""]
        for group in protocol.groups:
            lines += [f"### Scored on {group}", ""] if group else []
            lines += scored(sorted(folder.glob(with_group("*/scores", group, ".csv"))), protocol)
        lines += [collapse_table(folder)]
        reading = folder / "reading.md"
        lines += [reading.read_text().strip(), ""] if reading.exists() else []
    lines += [section()]
    lines += ["## The demo, what a step costs, and which term trains", ""]
    for name, words in TABLES.items():
        lines += [words, "", table(RESULTS / name), ""]
    return "\n".join(lines).rstrip() + "\n"


def overview(folders: Sequence[Path]) -> str:
    """Return all methods of all protocols in one Markdown table: mean, difference from the control, seeds, word."""
    lines = [["Data and labels", "Method", "Dice", "Paired difference [95 %]", "Seeds", "Verdict"]]
    lines += [["---", "---", "---:", "---:", "---:", "---"]]
    for folder in folders:
        protocol = read_protocol(HERE / f"{folder.name}.toml")
        for group in protocol.groups:
            title = f"{protocol.title}, {group}" if group else protocol.title
            files = sorted(folder.glob(with_group("*/scores", group, ".csv")))
            lines += [[title, *row] for row in overview_rows(summary_tables(files, control=protocol.control))]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def overview_rows(tables: Tables) -> list[list[str]]:
    """Return the overview's cells of one group of held-out cases, a row per method."""
    first, rows = tables.metrics[0], []
    for name in tables.groups:
        mean = score_text(tables.summary(name, first).mean, first)
        c = tables.comparison(name, first)
        runs = sum(run.group == name and run.metric == first for run in tables.runs)
        word = ("**neither has learned yet**" if learned_nothing(c) else f"**{c.verdict}**") if c else "–"
        rows.append([name, mean, interval_text(c) if c else "–", str(c.seeds if c else runs), word])
    return rows


def scored(files: Sequence[Path], protocol: Protocol) -> list[str]:
    """Return the lines on one group of held-out cases: all classes, each class, differences from controls."""
    tables = summary_tables(files, control=protocol.control)
    lines = [headline(tables), "", markdown_table(tables)]
    if len(tables.labels) > 1:
        lines += ["Dice by class, with its share of the foreground, the rarest first:", "", tail_table(tables, files)]
        for label in tables.labels:
            few = [name for name in tables.metrics if name.startswith(("dice", "hd95"))]
            lines += [f"Class {label}:", "", markdown_table(tables, label=label, metrics=few)]
    if protocol.further_controls:
        name = metric_name(tables.metrics[0])
        words = "with its 95 % interval, Holm's p and verdict"
        lines += [f"Paired difference of {name} from further controls, {words}:", ""]
        lines += [controls_table(tables, files, protocol.further_controls), ""]
    lines += [f"- {full_sentence(tables, c)}" for c in first_comparisons(tables)]
    return [*lines, *(f"- {note}" for note in tables.notes), ""]


def controls_table(tables: Tables, files: Sequence[Path], controls: Sequence[str]) -> str:
    """Return the differences of all groups from several controls as a Markdown table, a column per control."""
    by_name = {group.name: group for group in group_scores([read_scores(file) for file in files])}
    columns = []
    for control in controls:
        pairs = [(by_name[name], by_name[other]) for name, other in find_controls([*by_name.values()], control).items()]
        columns.append({c.group: difference_text(c) for c in compare_all(pairs, tables.metrics[0])})
    lines = [["Method", *(f"minus {control}" for control in controls)], ["---", *["---:"] * len(controls)]]
    lines += [[name, *(found.get(name, "–") for found in columns)] for name in tables.groups]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def difference_text(c: Comparison) -> str:
    """Return a paired difference with its interval, corrected p and verdict."""
    return f"{interval_text(c)}, {p_text(c.p_holm)}, {c.verdict}"


def interval_text(c: Comparison) -> str:
    """Return a paired difference with its interval."""
    value, low, high = (score_text(v, c.metric, signed=True) for v in (c.difference, c.low, c.high))
    return f"{value} [{low}, {high}]"


def tail_table(tables: Tables, files: Sequence[Path]) -> str:
    """Return the Dice of each class as a Markdown table, the rarest class first."""
    shares = class_shares(files)
    head = ["Method", *(f"{label} ({100 * share:.1f} %)" for label, share in shares.items())]
    lines = [head, ["---", *["---:"] * len(shares)]]
    for group in tables.groups:
        means = [tables.summary(group, tables.metrics[0], label).mean for label in shares]
        lines.append([group, *(score_text(mean, tables.metrics[0]) for mean in means)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def table(file: Path) -> str:
    """Return a CSV file as a Markdown table."""
    head, *rows = csv.reader(file.read_text().splitlines())
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows))


def collapse_table(protocol: Path) -> str:
    """Return what the last log row of each contrastive run says of collapse and banks, or nothing."""
    by_names: dict[tuple[str, ...], list[str]] = {}
    for file in sorted(protocol.glob("*/last_row.json")):
        shown = json.loads(file.read_text())["shown"]
        names = tuple(name for name in shown if name.rpartition("_")[2] in COLLAPSE)
        if names:
            cells = " | ".join(f"{shown[name]:.4g}" for name in names)
            by_names.setdefault(names, []).append(f"| {file.parent.name} | {cells} |")
    lines = []
    for names, rows in by_names.items():
        head = " | ".join(name.replace("_", " ").capitalize() for name in names)
        lines += [f"| Run, last batch | {head} |", "|---" + "|---:" * len(names) + "|", *rows, ""]
    return "\n".join(lines)


if __name__ == "__main__":
    if sys.argv[1:2] == ["collect"] and len(sys.argv) == 3:
        collect(Path(sys.argv[2]))
    elif sys.argv[1:] == ["page"]:
        print(page(), end="")
    else:
        sys.exit(__doc__)
