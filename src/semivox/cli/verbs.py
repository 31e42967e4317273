"""The verbs of the command line, in the order in which ``--help`` lists them."""

from collections.abc import Callable
from typing import Annotated, Any

import typer

import semivox
from semivox.cli.advice_verb import advise
from semivox.cli.curve_verb import curve
from semivox.cli.data_verbs import check, plan, prepare, split
from semivox.cli.dicom_verbs import import_
from semivox.cli.export_verb import export
from semivox.cli.run_verbs import bench, demo, predict, run, train
from semivox.cli.score_verbs import evaluate, methods, quality, report
from semivox.cli.selection_verbs import add_labels, next_scans
from semivox.cli.usage import Verb

app = typer.Typer(
    name="semivox",
    help="Semi-supervised segmentation of medical scans: a few labelled, many unlabelled.",
    epilog="""
    Exit codes: 0 done; 1 our fault, or scans or runs that failed; 2 something that you can mend; 3 the time of
    --budget is up; 130 interrupted. With --debug anywhere, an error shows where in the code it came from.
    """,
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

EXAMPLES: dict[Callable[..., Any], str] = {
    demo: "semivox demo -o demo",
    run: "semivox run DATA --budget 8h -o out",
    import_: "semivox import DICOM -o DATA",
    check: "semivox check DATA",
    split: "semivox split DATA --labelled 4 --held-out 10 -o split.json",
    advise: "semivox advise DATA --budget 4h -o advice",
    plan: "semivox plan DATA --split split.json",
    prepare: "semivox prepare DATA --split split.json",
    train: "semivox train DATA --split split.json --method simcvd -o run",
    predict: "semivox predict run DATA --held-out -o masks",
    evaluate: "semivox evaluate masks DATA --cases split.json -o scores.csv",
    report: "semivox report scores.csv -o report.html",
    quality: "semivox quality run_supervised masks -o quality.csv",
    next_scans: "semivox next run DATA --count 5 -o worklist.csv",
    add_labels: "semivox add-labels DATA corrected --split split.json",
    bench: "semivox bench benchmarks/la2018-small.toml",
    curve: "semivox curve DATA --labelled 2,4,8,16 --held-out 20 -o curve",
    export: "semivox export run -o net",
    methods: "semivox methods simcvd",
}
NAMES: dict[Callable[..., Any], str] = {import_: "import", next_scans: "next", add_labels: "add-labels"}
"""Verbs that are not called as their function."""
for verb, example in EXAMPLES.items():
    app.command(NAMES.get(verb, verb.__name__), cls=Verb, epilog=f"Example: {example}")(verb)


def _tell_version(wanted: bool) -> None:
    if wanted:
        print(f"semivox {semivox.__version__}")
        raise typer.Exit


@app.callback()
def _semivox(
    version: Annotated[bool, typer.Option("--version", help="Show the version and exit.", callback=_tell_version,
                                          is_eager=True)] = False,
) -> None:
    """Take what comes before the verb."""
