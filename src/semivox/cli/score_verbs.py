"""The verbs on masks, scores and methods: each calls one public function and prints what came back."""

from pathlib import Path
from typing import Annotated

import typer

from semivox.cli.arguments import (
    Device,
    Output,
    Trust,
    file_argument,
    file_option,
)


def evaluate(
    masks: Annotated[Path, file_argument("MASKS", "folder of masks")],
    labels: Annotated[Path, file_argument("LABELS", "folder of labels, or of the data set")],
    output: Output,
    cases: Annotated[Path | None, file_option(help="split.json: score every held-out case, missing ones too")] = None,
    unit: Annotated[str | None, typer.Option(help="mm or voxel; pictures have pixels")] = None,
    tolerance: Annotated[float, typer.Option(help="of NSD, in the unit")] = 2.0,
    hd95: Annotated[str, typer.Option(help="pooled (medpy) or max (of the two directions, MONAI)")] = "pooled",
) -> None:
    """Score masks against labels: one row per case and label."""
    from semivox.scoring.evaluation import evaluate_masks
    from semivox.scoring.summary import describe_evaluation

    rows = evaluate_masks(masks, labels, output, cases=cases, unit=unit, tolerance=tolerance, hd95=hd95)
    print(describe_evaluation(output, rows))


def report(
    scores: Annotated[list[Path], file_argument("SCORES...", "scores.csv of every run")],
    output: Output = Path("report.html"),
    control: Annotated[str, typer.Option(help="the method that others are compared with")] = "supervised",
    images: Annotated[Path | None, file_option(help="folder of the scans, if scores.json knows none")] = None,
) -> None:
    """Write one offline HTML file that compares runs."""
    from semivox.reporting.report import write_report

    print(write_report(scores, output, control=control, images=images))


def quality(
    paths: Annotated[list[Path], file_argument("RUN... MASKS", "run folders, and the folder of masks at the end")],
    output: Output = Path("quality.csv"),
    out_of_fold: Annotated[
        list[Path], file_option("--out-of-fold", help="cross-validation to calibrate by; once for each method")
    ] = [],  # noqa: B006
    coverage: Annotated[float, typer.Option(help="probability that the Dice lies above the bound")] = 0.8,
    device: Device = "auto",
    trust: Trust = False,
) -> None:
    """Estimate each mask's Dice without its label, by second opinions: the worst masks first."""
    from semivox.cli.console import Console
    from semivox.errors import ConfigError
    from semivox.quality.estimate import describe_quality, estimate_quality

    if len(paths) < 2:
        raise ConfigError(f"quality takes RUN... MASKS; found {paths[0]} alone: name run folders and a folder of masks")
    with Console(every=3) as console:
        rows = estimate_quality(
            paths[:-1],
            paths[-1],
            output=output,
            out_of_fold=out_of_fold,
            coverage=coverage,
            device=device,
            trust=trust,
            on_case=lambda case, done, total: console.show("compared", done, total, case),
            on_note=console.note,
        )
    print(describe_quality(rows))
    print(output)


def methods(
    name: Annotated[str | None, typer.Argument(help="show its card and its fields")] = None,
    family: Annotated[str | None, typer.Option(help="list one family alone, such as contrast")] = None,
) -> None:
    """List the methods with paper, stages, nets and cost, or show one's card and config."""
    from semivox.cli.cards import describe_method, describe_methods

    print(describe_method(name) if name else describe_methods(family))
