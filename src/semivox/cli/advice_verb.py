"""The verb on advice: parses its words, calls one public function and prints what is advised."""

from pathlib import Path
from typing import Annotated

import typer

from semivox.cli.arguments import Cache, ConfigName, Data, Device, DryRun, Output, SplitFile, TimeForAll


def advise(
    data: Data,
    output: Output = Path("advice"),
    split: SplitFile = None,
    config: ConfigName = None,
    folds: Annotated[int | None, typer.Option(help="parts of each cross-validation; else 3")] = None,
    draws: Annotated[int, typer.Option(min=1, help="how often cases are dealt into parts; 3 for a verdict")] = 5,
    budget: TimeForAll = None,
    dry_run: DryRun = False,
    cache: Cache = None,
    device: Device = "auto",
) -> None:
    """Find out whether unlabelled scans help here, what more labels would bring, and which scans are unlike."""
    from semivox.advice.advise import advise as run_advise
    from semivox.advice.advise import outlined
    from semivox.cli.console import Console, told_on
    from semivox.runs.folder import parse_budget

    seconds = parse_budget(budget) if budget else None
    if dry_run:
        print(outlined(data, split=split, config=config, folds=folds, draws=draws, seconds=seconds, device=device))
        return
    with Console() as console:
        found = run_advise(
            data,
            output=output,
            split=split,
            config=config,
            folds=folds,
            draws=draws,
            seconds=seconds,
            cache=cache,
            device=device,
            told=told_on(console),
        )
    print(*found.sentences, output / "advice.md", sep="\n")
