"""The demo: phantom scans, supervised against semi-supervised, one report; minutes on two cores, nothing downloaded."""

import csv
import io
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from semivox.data.dataset import read_dataset
from semivox.data.phantom import write_phantom
from semivox.data.splitting import make_split, write_split
from semivox.errors import RunError
from semivox.files import write_atomic
from semivox.prediction.files import predict
from semivox.reporting.report import write_report
from semivox.scoring.evaluation import evaluate_masks
from semivox.training.loop import Row
from semivox.training.start import train

METHODS = ("supervised", "simcvd")
LABELLED, UNLABELLED, HELD_OUT = 4, 20, 12


def demo(
    output: Path | str,
    *,
    device: str = "auto",
    say: Callable[[str], None] = lambda text: None,
    on_progress: Callable[[str, Row, int], None] = lambda name, row, total: None,
) -> Path:
    """Make phantom scans, train with and without the unlabelled ones, predict, score, and compare.

    Args:
        output: folder of everything: data, runs, masks, scores.csv, report.html.
        device: "auto", "cpu" or "cuda".
        say: called with a line for every step of the way.
        on_progress: called with the method's name, every row of its log and its number of steps.

    Returns:
        The path of report.html.

    Raises:
        RunError: `output` holds something else already.
        KeyboardInterrupt: a signal stopped a training behind a checkpoint; the same call goes on.
    """
    output = Path(output)
    data, split_file = output / "data", output / "split.json"
    if output.exists() and any(output.iterdir()) and not data.exists():
        raise RunError(f"{output} holds other files: name an empty or a new folder with -o")
    started = time.monotonic()
    say(f"{LABELLED} labelled, {UNLABELLED} unlabelled and {HELD_OUT} held-out phantom scans: {data}")
    if not split_file.exists():
        write_phantom(data, labelled=LABELLED, unlabelled=UNLABELLED, held_out=HELD_OUT)
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
    _join(dict(zip(METHODS, scores, strict=True)), output / "scores.csv")
    report = write_report(scores, output / "report.html", control=METHODS[0], title="semivox demo: phantom atria")
    say(f"done in {time.monotonic() - started:.0f} s")
    return report


def _join(tables: dict[str, Path], output: Path) -> None:
    """Write the rows of several score tables as one, with the method first."""
    rows = [
        {"method": method, **row}
        for method, scores in tables.items()
        for row in csv.DictReader(scores.read_text().splitlines())
    ]
    text = io.StringIO()
    table = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    write_atomic(output, lambda file: file.write(text.getvalue().encode()))
