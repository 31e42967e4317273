"""The verb on label budgets: parses its words, calls one public function and prints what labels are worth."""

from typing import Annotated

import typer

from semivox.cli.arguments import Budget, Cache, ConfigName, Data, Device, Output, Trust
from semivox.errors import ConfigError


def curve(
    data: Data,
    output: Output,
    labelled: Annotated[str, typer.Option(help="numbers of labelled cases, such as 2,4,8,16")],
    methods: Annotated[str, typer.Option(help="the control and others, with commas")] = "supervised,averaged_match",
    config: ConfigName = None,
    held_out: Annotated[int, typer.Option(help="the last N in the order of names are scored")] = 20,
    seeds: Annotated[str, typer.Option(help="of the runs, with commas")] = "0,1,2",
    draws: Annotated[int, typer.Option(min=1, help="choices of the labelled cases")] = 1,
    steps: Annotated[int | None, typer.Option(min=1, help="of every run; else the config's")] = None,
    patients: Annotated[str | None, typer.Option(help="regular expression that finds the patient in a name")] = None,
    budget: Budget = None,
    cache: Cache = None,
    device: Device = "auto",
    trust: Trust = False,
) -> None:
    """Train with several numbers of labels, and say how many labels of the control a method's are worth."""
    from semivox.benchmarking.curve import curve as run_curve
    from semivox.cli.console import Console
    from semivox.runs.folder import parse_budget

    with Console() as console:
        found = run_curve(
            data,
            labelled=_numbers("--labelled", labelled, least=1),
            output=output,
            methods=[word.strip() for word in methods.split(",") if word.strip()],
            config=config,
            held_out=held_out,
            seeds=_numbers("--seeds", seeds, least=0),
            draws=draws,
            steps=steps,
            patients=patients,
            seconds=parse_budget(budget) if budget else None,
            cache=cache,
            device=device,
            trust=trust,
            on_job=lambda job, number, total: console.say(f"[{number + 1}/{total}] {job.folder.name}"),
            on_row=lambda row, total: console.row(row, total=total),
            on_note=console.note,
        )
    print(*found.sentences, output / "curve.html", sep="\n")


def _numbers(option: str, text: str, *, least: int) -> list[int]:
    """Return the whole numbers of an option, each once.

    Raises:
        ConfigError: there is anything else in it.
    """
    words = [word.strip() for word in text.split(",")]
    numbers = [int(word) for word in words if word.isdecimal() and int(word) >= least]
    if not numbers or len({*numbers}) < len(words):
        raise ConfigError(f"{option}: found '{text}', expected whole numbers from {least} on, each once, such as 2,4,8")
    return numbers
