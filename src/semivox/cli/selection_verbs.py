"""The verbs of labelling: which scans next, and corrected masks back into the data set."""

from pathlib import Path
from typing import Annotated

import typer

from semivox.cli.arguments import Data, Device, Output, Trust, file_argument, file_option


def next_scans(
    run: Annotated[Path, file_argument("RUN", "run folder")],
    data: Data,
    output: Output = Path("worklist.csv"),
    count: Annotated[int, typer.Option("--count", min=1, help="scans wanted")] = 5,
    strategy: Annotated[str, typer.Option("--strategy", help="random, uncertainty, typical or mixed")] = "random",
    quality: Annotated[Path | None, file_option("--quality", help="quality.csv: how doubtful each scan is")] = None,
    device: Device = "auto",
    trust: Trust = False,
) -> None:
    """Write a worklist of scans to label next, with their present masks to be corrected."""
    from semivox.cli.console import Console
    from semivox.selection.worklist import next_scans as choose

    with Console(every=3) as console:
        chosen = choose(
            run,
            data,
            output=output,
            count=count,
            strategy=strategy,
            quality=quality,
            device=device,
            trust=trust,
            on_case=lambda what, case, done, total: console.show(what, done, total, case),
        )
    for rank, choice in enumerate(chosen, 1):
        print(f"{rank}  {choice.case}  {choice.reason}")
    print(f"{output}; masks to correct: {output.with_suffix('')}")


def add_labels(
    data: Data,
    corrected: Annotated[Path, file_argument("CORRECTED", "folder of corrected masks, named as their scans")],
    split: Annotated[Path | None, file_option("--split", help="what it holds out gets no label")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="put masks in the place of labels")] = False,
) -> None:
    """Copy corrected masks into labelsTr, once all of them are found right."""
    from semivox.selection.corrected import add_labels as add

    for file in add(data, corrected, split=split, replace=replace):
        print(file)
