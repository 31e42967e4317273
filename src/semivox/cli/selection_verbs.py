"""The verbs of labelling: which scans next, and corrected masks back into the data set."""

from pathlib import Path
from typing import Annotated

import typer

from semivox.cli.arguments import Data, Device, Output, Trust, file_argument, file_option
from semivox.errors import ConfigError


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
    corrected: Annotated[
        Path | None, file_argument("[CORRECTED]", "folder of corrected masks, named as their scans")
    ] = None,
    split: Annotated[Path | None, file_option("--split", help="what it holds out gets no label")] = None,
    replace: Annotated[bool, typer.Option("--replace", help="put masks in the place of labels")] = False,
    review: Annotated[Path | None, file_option("--review", help="review.json, in the place of CORRECTED")] = None,
    masks: Annotated[Path | None, file_option("--masks", help="folder of the masks that were reviewed")] = None,
    worklist: Annotated[
        Path | None, typer.Option("-o", "--output", help="for masks to be corrected; else worklist.csv")
    ] = None,
    accepted: Annotated[
        bool, typer.Option("--accepted", help="take accepted masks as labels, noted as machine-made")
    ] = False,
) -> None:
    """Copy corrected masks into labelsTr once all are found right, or do what a review of masks says."""
    if review is None:
        if corrected is None or masks or worklist or accepted:
            raise ConfigError("expected CORRECTED, or --review with --masks, to which alone -o and --accepted belong")
        from semivox.selection.corrected import add_labels as add

        for file in add(data, corrected, split=split, replace=replace):
            print(file)
        return
    if corrected is not None or masks is None or replace:
        raise ConfigError("--review takes --masks, the folder that was reviewed, and neither CORRECTED nor --replace")
    from semivox.selection.reviewed import apply_review, describe_applied

    output = worklist or Path("worklist.csv")
    print(describe_applied(apply_review(data, review, masks, worklist=output, accepted=accepted, split=split)))
