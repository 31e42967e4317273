"""The verbs on runs: each parses its words, calls one public function and prints what came back."""

import math
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from semivox.cli.arguments import (
    Budget,
    Cache,
    ConfigName,
    Data,
    Device,
    DryRun,
    Method,
    Output,
    Settings,
    SplitFile,
    TimeForAll,
    Track,
    Trust,
    Unlabelled,
    file_argument,
    file_option,
    leave_out_of_command,
)


def demo(
    output: Annotated[Path, typer.Option("-o", "--output", help="where everything goes")] = Path("demo"),
    seed: Annotated[int, typer.Option(help="another one, other patients")] = 0,
    device: Device = "auto",
) -> None:
    """Make a phantom data set, train with and without unlabelled scans, and compare: minutes on two cores."""
    from semivox.benchmarking.demonstration import demo as run_demo
    from semivox.cli.console import Console

    with Console() as console:
        report = run_demo(
            output,
            seed=seed,
            device=device,
            say=console.say,
            on_progress=lambda name, row, total: console.row(row, total=total, name=name),
        )
    print(report)


def run(
    data: Annotated[Path | None, file_argument("[DATA]", "nnU-Net or Decathlon folder, or DICOM")] = None,
    output: Output = Path("out"),
    images: Annotated[Path | None, file_option("--images", help="in place of DATA: a folder of scans, and")] = None,
    labels: Annotated[Path | None, file_option("--labels", help="the labels there are, named as their scans")] = None,
    budget: TimeForAll = None,
    members: Annotated[int, typer.Option("--members", min=1, help="runs that are averaged into the masks")] = 1,
    folds: Annotated[int, typer.Option("--folds", min=0, help="cross-validate too, for Dice with a bound")] = 0,
    dry_run: DryRun = False,
    cache: Cache = None,
    device: Device = "auto",
) -> None:
    """From a folder to ranked masks: check, plan, train, predict, estimate quality, and a page to look at."""
    from semivox.cli.console import Console, told_on
    from semivox.exchange.frames import is_tree
    from semivox.runs.folder import parse_budget
    from semivox.workflow.run import planned
    from semivox.workflow.run import run as run_all

    if data is not None and is_tree(data):
        leave_out_of_command(data)

    seconds = parse_budget(budget) if budget else None
    if dry_run:
        print(planned(data, images=images, labels=labels, members=members, folds=folds, seconds=seconds, device=device))
        return
    with Console() as console:
        page = run_all(
            data,
            output=output,
            images=images,
            labels=labels,
            seconds=seconds,
            members=members,
            folds=folds,
            cache=cache,
            device=device,
            told=told_on(console),
        )
    print(page)


def train(
    data: Data,
    output: Output,
    method: Method = None,
    split: SplitFile = None,
    folds: Annotated[int | None, typer.Option(help="cross-validate: so many runs, out-of-fold scores")] = None,
    config: ConfigName = None,
    settings: Settings = [],  # noqa: B006
    start: Annotated[Path | None, file_option("--start", help="begin from the weights of this run")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="go on from the last checkpoint")] = False,
    trust: Trust = False,
    budget: Budget = None,
    unlabelled: Unlabelled = None,
    cache: Cache = None,
    device: Device = "auto",
    track: Track = None,
) -> int:
    """Train a method into a run folder; with --folds, cross-validate it on the labelled cases."""
    from semivox.cli.console import Console
    from semivox.errors import TimeUpError
    from semivox.runs.folder import parse_budget

    with Console() as console:
        outcome = _training(folds, console)(
            data,
            output=output,
            method=method,
            split=split,
            config=config,
            settings=settings,
            start=start,
            resume=resume,
            trust=trust,
            seconds=parse_budget(budget) if budget else None,
            unlabelled=unlabelled,
            cache=cache,
            device=device,
            track=track,
            on_start=console.facts,
            on_row=lambda row, total: console.row(row, total=total),
            on_prepared=lambda case, done, total: console.show("prepared", done, total, case),
            on_note=console.note,
        )
    if outcome.rank != 0:  # under torchrun, one process speaks for all; it kills them where another fails first
        return 0
    if folds and outcome.finished:
        print(outcome.describe())
    print(outcome.scores if folds and outcome.finished else outcome.run)
    if outcome.interrupted and not outcome.finished:
        return 130
    if not outcome.finished:
        raise TimeUpError(f"the time is up: the same command with --resume goes on with {outcome.run}")
    return 0


def _training(folds: int | None, console: Any) -> Callable[..., Any]:
    """Return what trains: one run, or one a fold."""
    from semivox.benchmarking.cross_validation import cross_validate
    from semivox.training.start import train as run_train

    if folds is None:
        return run_train
    return partial(
        cross_validate,
        folds=folds,
        on_fold=lambda number, total: console.say(f"fold {number + 1} of {total}"),
        on_case=lambda case, done, total: console.show("predicted", done, total, case),
    )


def predict(
    paths: Annotated[
        list[Path], file_argument("RUN... SCANS...", "run folders, then files or folders of scans, or one of DICOM")
    ],
    output: Output,
    held_out: Annotated[bool, typer.Option("--held-out", help="SCANS is the data folder: its held-out cases")] = False,
    probabilities: Annotated[bool, typer.Option("--probabilities", help="also write class probabilities")] = False,
    uncertainty: Annotated[bool, typer.Option("--uncertainty", help="also write the entropy, in [0, 1]")] = False,
    step_size: Annotated[float | None, typer.Option(help="distance of windows as a part of the patch")] = None,
    mirror: Annotated[bool | None, typer.Option("--mirror/--no-mirror", help="average over mirrored windows")] = None,
    largest_component: Annotated[bool | None, typer.Option("--largest-component/--all-components")] = None,
    device: Device = "auto",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="make masks anew that exist")] = False,
    trust: Trust = False,
) -> None:
    """Write masks, each in its scan's own grid, of DICOM series also as DICOM SEG; several runs are averaged."""
    from semivox.cli.console import Console
    from semivox.errors import ConfigError
    from semivox.prediction.files import Options
    from semivox.runs.folds import is_run

    runs = [path for path in paths if is_run(path)]
    scans = [path for path in paths if path not in runs]
    if not runs or not scans:
        found = "no run folder (with a run.json)" if not runs else "run folders alone"
        raise ConfigError(f"predict takes RUN... SCANS...; found {found} in {', '.join(map(str, paths))}")
    with Console(every=3) as console:  # a scan may take minutes: each is named when its turn comes
        masks = _predicting(scans, held_out=held_out)(
            runs,
            output=output,
            probabilities=probabilities,
            uncertainty=uncertainty,
            options=Options(step_size, mirror, largest_component),
            device=device,
            overwrite=overwrite,
            trust=trust,
            on_case=lambda case, done, total: console.show("predicted", done, total, case),
            on_note=console.note,
        )
    print(f"{len(masks)} masks: {output}")


def _predicting(scans: Sequence[Path], *, held_out: bool) -> Callable[..., list[Path]]:
    """Return what predicts scans, or the series of a DICOM tree, by runs.

    Raises:
        ConfigError: a DICOM tree is not alone.
    """
    from semivox.errors import ConfigError
    from semivox.exchange.frames import is_tree
    from semivox.exchange.segmenting import predict_dicom
    from semivox.prediction.files import predict as run_predict

    trees = [path for path in scans if is_tree(path)]
    if not trees:
        return partial(run_predict, scans=scans, held_out=held_out)
    if len(scans) > 1 or held_out:
        found = f"{len(scans)} of them" if len(scans) > 1 else "--held-out"
        raise ConfigError(f"{trees[0]}: found DICOM with {found}, expected one folder of DICOM alone; split the call")
    leave_out_of_command(trees[0])
    return partial(predict_dicom, tree=trees[0])


def bench(
    protocol: Annotated[Path, file_argument("PROTOCOL", "protocol file, such as benchmarks/la2018-small.toml")],
    output: Annotated[Path | None, typer.Option("-o", "--output", help="else runs/NAME")] = None,
    budget: Budget = None,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="runs side by side, which share the threads")] = 1,
    cache: Cache = None,
    device: Device = "auto",
    trust: Trust = False,
) -> None:
    """Run a protocol's methods, budgets, draws and seeds; what is done is skipped, what was cut goes on."""
    from semivox.benchmarking.bench import bench as run_bench
    from semivox.cli.console import Console
    from semivox.errors import FailedRunsError
    from semivox.runs.folder import parse_budget

    with Console() as console:
        try:
            reports: Sequence[Path] = run_bench(
                protocol,
                output=output,
                seconds=parse_budget(budget) if budget else None,
                jobs=jobs,
                cache=cache,
                device=device,
                trust=trust,
                on_job=lambda job, number, total: console.say(f"[{number + 1}/{total}] {job.folder.name}"),
                on_done=lambda job, why, left, seconds: _tell_done(console, job.folder.name, why, left, seconds),
                on_row=lambda row, total: console.row(row, total=total, name=row["job"] if jobs > 1 else "step"),
                on_note=console.note,
            )
        except FailedRunsError as error:
            print(*error.reports, sep="\n")
            raise
        print(*reports, sep="\n")


def _tell_done(console: Any, name: str, why: str, left: int, seconds: float) -> None:
    """Say what became of a run of a protocol, and what is left."""
    from semivox.cli.console import duration

    console.drop(name)
    if why:
        console.say(f"{name} failed, the others go on: {why}")
    if left:
        console.say(f"{left} left" if math.isnan(seconds) else f"{left} left, about {duration(seconds)}")
