"""The demo: phantom scans, supervised against semi-supervised, one report; minutes on two cores, nothing downloaded.

As in real pools, the few labelled scans cover only some of the scanners and anatomies that the unlabelled and the
held-out ones come from; the report says so, and what that costs either method.
"""

import csv
import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from statistics import mean

from semivox.data.dataset import read_dataset
from semivox.data.phantom import write_phantom
from semivox.data.splitting import make_split, read_split, write_split
from semivox.errors import RunError
from semivox.files import write_table
from semivox.prediction.files import predict
from semivox.reporting.report import write_report
from semivox.scoring.evaluation import evaluate_masks
from semivox.training.loop import Row
from semivox.training.start import train

METHODS = ("supervised", "averaged_match")
LABELLED, UNLABELLED, HELD_OUT = 4, 36, 72
SHAPE, SPACING = (48, 48, 12), (1.75, 1.75, 7.0)


def demo(
    output: Path | str,
    *,
    seed: int = 0,
    device: str = "auto",
    say: Callable[[str], None] = lambda text: None,
    on_progress: Callable[[str, Row, int], None] = lambda name, row, total: None,
) -> Path:
    """Make phantom scans, train with and without the unlabelled ones, predict, score, and compare.

    Args:
        output: folder of everything: data, runs, masks, scores.csv, report.html.
        seed: of the phantom: another seed, other patients.
        device: "auto", "cpu" or "cuda".
        say: called with a line for every step of the way.
        on_progress: called with the method's name, every row of its log and its number of steps.

    Returns:
        The path of report.html.

    Raises:
        RunError: `output` holds something else already.
        DatasetError: it holds the scans of another seed.
        KeyboardInterrupt: a signal stopped a training behind a checkpoint; the same call goes on.
    """
    output = Path(output)
    data, split_file = output / "data", output / "split.json"
    if output.exists() and any(output.iterdir()) and not data.exists():
        raise RunError(f"{output} holds other files: name an empty or a new folder with -o")
    started = time.monotonic()
    say(f"{LABELLED} labelled, {UNLABELLED} unlabelled and {HELD_OUT} held-out phantom scans: {data}")
    write_scans(data, seed)
    if not split_file.exists():
        write_split(make_split(read_dataset(data), labelled=LABELLED, held_out=HELD_OUT), split_file)
    scores = []
    for method in METHODS:
        say(f"training {method}")
        outcome = train(
            data,
            output=output / method / "run",
            method=method,
            split=split_file,
            config="demo",
            resume=True,
            cache=output / "cache",
            device=device,
            on_row=partial(on_progress, method),
            on_note=say,
        )
        if not outcome.finished:
            raise KeyboardInterrupt
        say(f"predicting and scoring {HELD_OUT} held-out scans")
        predict([outcome.run], [data], output=output / method / "masks", held_out=True, device=device)
        scores.append(output / method / "scores.csv")
        evaluate_masks(output / method / "masks", data / "labelsTr", scores[-1], cases=split_file)
    rows = _join(dict(zip(METHODS, scores, strict=True)), output / "scores.csv")
    kinds = json.loads((data / "dataset.json").read_text())["kinds"]
    notes = pool_notes(rows, kinds, read_split(split_file).labelled)
    title = "semivox demo: phantom atria"
    report = write_report(scores, output / "report.html", control=METHODS[0], title=title, notes=notes)
    say(f"done in {time.monotonic() - started:.0f} s")
    return report


def write_scans(folder: Path, seed: int = 0) -> None:
    """Write the demo's phantom scans; `folder` and errors as for `write_phantom`."""
    counts = {"labelled": LABELLED, "unlabelled": UNLABELLED, "held_out": HELD_OUT}
    write_phantom(folder, seed=seed, shape=SHAPE, spacing=SPACING, **counts)


def pool_notes(rows: Sequence[Mapping[str, str]], kinds: Mapping[str, str], labelled: Sequence[str]) -> tuple[str, str]:
    """Return what the report says of the pool: what the labelled scans cover, and each method's Dice there and beyond.

    Args:
        rows: of the scores: method, case, dice.
        kinds: scanner and anatomy of every case.
        labelled: the cases with a label to train on.
    """
    known = sorted({kinds[case] for case in labelled})
    words = (
        f"The phantom's scans are of {len(set(kinds.values()))} kinds, named by scanner and anatomy; the "
        f"{len(labelled)} labelled ones, as in many real pools, of {len(known)}: {'; '.join(known)}. "
        "The unlabelled and the held-out scans are of all kinds."
    )
    found = []
    for method in dict.fromkeys(row["method"] for row in rows):
        by_side: dict[bool, list[float]] = {True: [], False: []}
        for row in rows:
            if row["method"] == method:
                by_side[kinds[row["case"]] in known].append(float(row["dice"]))
        there, beyond = (f"{mean(values):.3f}" if values else "–" for values in by_side.values())
        found.append(f"{method} {there} and {beyond}")
    return words, f"Mean Dice on held-out scans of kinds that have a label, and of the others: {', '.join(found)}."


def _join(tables: dict[str, Path], output: Path) -> list[dict[str, str]]:
    """Write the rows of several score tables as one, with the method first, and return them."""
    rows = [
        {"method": method, **row}
        for method, scores in tables.items()
        for row in csv.DictReader(scores.read_text().splitlines())
    ]
    write_table(output, list(rows[0]), rows)
    return rows
