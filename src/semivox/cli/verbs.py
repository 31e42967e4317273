"""The verbs of the command line: each parses its words, calls one public function and prints what came back."""

from pathlib import Path
from typing import Annotated

import typer

from semivox.cli.arguments import (
    Cache,
    ConfigName,
    Data,
    Device,
    Method,
    Output,
    Settings,
    SplitFile,
    Unlabelled,
    file_argument,
    file_option,
    number_or_names,
)

app = typer.Typer(
    name="semivox",
    help="Semi-supervised segmentation of medical scans: a few labelled, many unlabelled.",
    epilog="With --debug anywhere, an error shows where in the code it came from.",
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.command()
def demo(
    output: Annotated[Path, typer.Option("-o", "--output", help="where everything goes")] = Path("demo"),
    device: Device = "auto",
) -> None:
    """Make a phantom data set, train with and without unlabelled scans, and compare: minutes on two cores."""
    from semivox.benchmarking.demonstration import demo as run_demo
    from semivox.cli.console import Console

    with Console() as console:
        report = run_demo(
            output,
            device=device,
            say=console.say,
            on_progress=lambda name, row, total: console.row(row, total=total, name=name),
        )
    print(report)


@app.command()
def check(
    data: Data,
    split: SplitFile = None,
    unlabelled: Unlabelled = None,
    labelled: Annotated[int | None, typer.Option(help="labelled cases that are wanted at least")] = None,
) -> int:
    """Read every file of a folder and report every fault at once."""
    from semivox.data.checking import check_dataset
    from semivox.data.splitting import read_split

    faults = check_dataset(data, split=read_split(split) if split else None, unlabelled=unlabelled, labelled=labelled)
    for fault in faults:
        print(fault)
    errors = sum(fault.severity == "error" for fault in faults)
    print(f"{errors} errors, {len(faults) - errors} warnings")
    return 2 if errors else 0


@app.command()
def split(
    data: Data,
    output: Output,
    labelled: Annotated[int | None, typer.Option(help="number of labelled cases; else all")] = None,
    labelled_list: Annotated[Path | None, file_option(help="file with one labelled case a line")] = None,
    held_out: Annotated[int | None, typer.Option(help="number of held-out cases; else none")] = None,
    held_out_list: Annotated[Path | None, file_option(help="file with one held-out case a line")] = None,
    patients: Annotated[str | None, typer.Option(help="regular expression: equal matches are one patient")] = None,
    seed: Annotated[int | None, typer.Option(help="draw at random; else the first and the last in order")] = None,
) -> None:
    """Say which cases are labelled, unlabelled and held out."""
    from semivox.data.dataset import read_dataset
    from semivox.data.splitting import make_split, write_split

    lists = make_split(
        read_dataset(data),
        labelled=number_or_names("--labelled", labelled, labelled_list),
        held_out=number_or_names("--held-out", held_out, held_out_list) or 0,
        patients=patients,
        seed=seed,
    )
    write_split(lists, output)
    counts = f"{len(lists.labelled)} labelled, {len(lists.unlabelled)} unlabelled, {len(lists.held_out)} held out"
    print(f"{counts}: {output}")


@app.command()
def plan(
    data: Data,
    split: SplitFile = None,
    method: Annotated[str, typer.Option(help="see `semivox methods`")] = "mean_teacher",
    memory: Annotated[str | None, typer.Option(help="of the device, such as 10GB; else what it has")] = None,
    unlabelled: Unlabelled = None,
    cache: Cache = None,
    device: Device = "auto",
) -> None:
    """Choose spacing, patch, net, batch and steps, and predict memory, disk and time."""
    from semivox.methods import method_class, method_module
    from semivox.planning.plan import parse_memory, plan_dataset

    made = plan_dataset(
        data,
        split=split,
        method=method,
        memory=parse_memory(memory),
        unlabelled=unlabelled,
        device=device,
        needs=method_class(method_module(method)).needs,  # a plan knows methods by name only
        cache=cache,
    )
    print(made.text())


@app.command()
def prepare(
    data: Data,
    split: SplitFile = None,
    config: ConfigName = None,
    settings: Settings = [],  # noqa: B006
    method: Method = None,
    unlabelled: Unlabelled = None,
    cache: Cache = None,
) -> None:
    """Crop, resample and normalise the pool once, into the cache."""
    from semivox.cli.console import Console, size
    from semivox.training.start import prepare as run_prepare

    with Console() as console:
        folder, count = run_prepare(
            data,
            split=split,
            config=config,
            settings=settings,
            method=method,
            unlabelled=unlabelled,
            cache=cache,
            on_prepared=lambda case, done, total: console.show("prepared", done, total, case),
            on_note=lambda note: console.say(f"note: {note}"),
        )
    print(f"{folder}: {size(count)}")


@app.command()
def train(
    data: Data,
    output: Output,
    method: Method = None,
    split: SplitFile = None,
    config: ConfigName = None,
    settings: Settings = [],  # noqa: B006
    resume: Annotated[bool, typer.Option("--resume", help="go on from the last checkpoint")] = False,
    budget: Annotated[str | None, typer.Option(help="stop behind a checkpoint after a time such as 2h")] = None,
    unlabelled: Unlabelled = None,
    cache: Cache = None,
    device: Device = "auto",
) -> int:
    """Train a method into a run folder."""
    from semivox.cli.console import Console
    from semivox.runs.folder import parse_budget
    from semivox.training.start import train as run_train

    with Console() as console:
        outcome = run_train(
            data,
            output=output,
            method=method,
            split=split,
            config=config,
            settings=settings,
            resume=resume,
            seconds=parse_budget(budget) if budget else None,
            unlabelled=unlabelled,
            cache=cache,
            device=device,
            on_row=lambda row, total: console.row(row, total=total),
            on_prepared=lambda case, done, total: console.show("prepared", done, total, case),
            on_note=lambda note: console.say(f"note: {note}"),
        )
    if outcome.rank == 0:  # under torchrun, one process speaks for all
        if not outcome.finished and not outcome.interrupted:
            print("the time is spent; the same command with --resume goes on")
        print(outcome.run)
    return 130 if outcome.interrupted else 0


@app.command()
def predict(
    paths: Annotated[list[Path], file_argument("RUN... SCANS...: run folders, then files or folders of scans")],
    output: Output,
    held_out: Annotated[bool, typer.Option("--held-out", help="SCANS is the data folder: its held-out cases")] = False,
    probabilities: Annotated[bool, typer.Option("--probabilities", help="also write class probabilities")] = False,
    uncertainty: Annotated[bool, typer.Option("--uncertainty", help="also write the entropy, in [0, 1]")] = False,
    step_size: Annotated[float | None, typer.Option(help="distance of windows as a part of the patch")] = None,
    mirror: Annotated[bool | None, typer.Option("--mirror/--no-mirror", help="average over mirrored windows")] = None,
    largest_component: Annotated[bool | None, typer.Option("--largest-component/--all-components")] = None,
    device: Device = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="make masks anew that exist")] = False,
) -> None:
    """Write masks, each in its scan's own grid; several runs are averaged."""
    from semivox.cli.console import Console
    from semivox.errors import ConfigError
    from semivox.prediction.files import Options
    from semivox.prediction.files import predict as run_predict

    runs = [path for path in paths if (path / "run.json").exists()]
    scans = [path for path in paths if path not in runs]
    if not runs or not scans:
        found = "no run folder (with a run.json)" if not runs else "run folders alone"
        raise ConfigError(f"predict takes RUN... SCANS...; found {found} in {', '.join(map(str, paths))}")
    with Console() as console:
        masks = run_predict(
            runs,
            scans,
            output=output,
            held_out=held_out,
            probabilities=probabilities,
            uncertainty=uncertainty,
            options=Options(step_size, mirror, largest_component),
            device=device,
            overwrite=overwrite,
            on_case=lambda case, done, total: console.show("predicted", done, total, case),
            on_note=lambda note: console.say(f"note: {note}"),
        )
    print(f"{len(masks)} masks: {output}")


@app.command()
def evaluate(
    masks: Annotated[Path, file_argument("folder of masks")],
    labels: Annotated[Path, file_argument("folder of labels, or of the data set")],
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


@app.command()
def report(
    scores: Annotated[list[Path], file_argument("scores.csv of every run")],
    output: Output = Path("report.html"),
    control: Annotated[str, typer.Option(help="the method that others are compared with")] = "supervised",
    images: Annotated[Path | None, file_option(help="folder of the scans, if scores.json knows none")] = None,
) -> None:
    """Write one offline HTML file that compares runs."""
    from semivox.reporting.report import write_report

    print(write_report(scores, output, control=control, images=images))


@app.command()
def bench(
    protocol: Annotated[Path, file_argument("protocol file, such as benchmarks/la2018-small.toml")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="else runs/NAME")] = None,
    cache: Cache = None,
    device: Device = "auto",
) -> None:
    """Run a protocol's methods and seeds one after another; what is done is skipped, what was cut goes on."""
    from semivox.benchmarking.bench import bench as run_bench
    from semivox.cli.console import Console

    with Console() as console:
        reports = run_bench(
            protocol,
            output=output,
            cache=cache,
            device=device,
            on_job=lambda job, number, total: console.say(f"[{number + 1}/{total}] {job.folder.name}"),
            on_row=lambda row, total: console.row(row, total=total),
            on_note=console.say,
        )
        print(*reports, sep="\n")


@app.command()
def methods(name: Annotated[str | None, typer.Argument(help="show its card and its fields")] = None) -> None:
    """List the methods, or show one's card and config."""
    from semivox.cli.cards import describe_method, describe_methods

    print(describe_method(name) if name else describe_methods())
