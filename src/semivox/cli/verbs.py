"""The verbs of the command line, in the order in which ``--help`` lists them."""

import typer

from semivox.cli.data_verbs import check, plan, prepare, split
from semivox.cli.run_verbs import bench, demo, predict, train
from semivox.cli.score_verbs import evaluate, methods, report

app = typer.Typer(
    name="semivox",
    help="Semi-supervised segmentation of medical scans: a few labelled, many unlabelled.",
    epilog="With --debug anywhere, an error shows where in the code it came from.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

for verb in (demo, check, split, plan, prepare, train, predict, evaluate, report, bench, methods):
    app.command()(verb)
