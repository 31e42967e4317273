"""The verbs on folders of scans: each parses its words, calls one public function and prints what came back."""

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
    file_option,
    number_or_names,
)
from semivox.errors import ConfigError


def check(
    data: Data,
    split: SplitFile = None,
    unlabelled: Unlabelled = None,
    labelled: Annotated[int | None, typer.Option(help="labelled cases that are wanted at least")] = None,
) -> int:
    """Read every file of a folder and report every fault at once."""
    from semivox.cli.console import Console
    from semivox.data.checking import check_dataset

    with Console() as console:
        faults = check_dataset(
            data,
            split=split,
            unlabelled=unlabelled,
            labelled=labelled,
            progress=lambda case, done, total: console.show("checking", done + 1, total, case),
            on_start=console.facts,
        )
    for fault in faults:
        print(fault)
    errors = sum(fault.severity == "error" for fault in faults)
    print(f"{errors} errors, {len(faults) - errors} warnings")
    return 2 if errors else 0


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
    from semivox.data.leaks import split_leaks
    from semivox.data.listing import unlisted_fault
    from semivox.data.splitting import make_split, write_split

    if output.exists():
        raise ConfigError(
            f"{output} is there already, and what was trained by it would not fit another split: name a new file "
            "with -o, or remove it"
        )
    dataset = read_dataset(data)
    lists = make_split(
        dataset,
        labelled=number_or_names("--labelled", labelled, labelled_list),
        held_out=number_or_names("--held-out", held_out, held_out_list) or 0,
        patients=patients,
        seed=seed,
    )
    write_split(lists, output)
    counts = f"{len(lists.labelled)} labelled, {len(lists.unlabelled)} unlabelled, {len(lists.held_out)} held out"
    print(f"{counts}: {output}")
    for fault in (*unlisted_fault(dataset.unlisted), *split_leaks(lists, dataset)):
        print(fault)


def plan(
    data: Data,
    split: SplitFile = None,
    method: Annotated[str, typer.Option(help="see `semivox methods`")] = "averaged_match",
    memory: Annotated[str | None, typer.Option(help="of the device, such as 10GB; else what it has")] = None,
    unlabelled: Unlabelled = None,
    cache: Cache = None,
    device: Device = "auto",
    budget: Annotated[str | None, typer.Option(help="time such as 2h that the steps are chosen for")] = None,
) -> None:
    """Choose spacing, patch, net, batch and steps, and predict memory, disk and time."""
    from semivox.methods import method_class, method_module
    from semivox.planning.plan import parse_memory, plan_dataset
    from semivox.runs.folder import parse_budget

    made = plan_dataset(
        data,
        split=split,
        method=method,
        memory=parse_memory(memory),
        unlabelled=unlabelled,
        device=device,
        needs=method_class(method_module(method)).needs,  # a plan knows methods by name only
        cache=cache,
        seconds=parse_budget(budget) if budget else None,
    )
    print(made.text())


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
            on_note=console.note,
        )
    print(f"{folder}: {size(count)}")
