"""What the verbs of the command line share: arguments that name files, which must exist, and options of training."""

import sys
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from semivox.errors import ConfigError, DatasetError


def existing(given: Any) -> Any:
    """Return a path, or a list of them, or None, as it is.

    Raises:
        DatasetError: a path does not exist; the nearest name beside it is named.
    """
    for path in given if isinstance(given, list) else [given]:
        if path is None or path.exists():
            continue
        folder = path.absolute().parent
        names = sorted(other.name for other in folder.iterdir()) if folder.is_dir() else []
        close = get_close_matches(path.name, names, n=1, cutoff=0.6)
        hint = f"did you mean '{close[0]}'?" if close else f"nothing in {folder} has such a name; check the path"
        raise DatasetError(f"there is no '{path}': {hint}")
    return given


def file_argument(name: str, help: str) -> Any:
    """Return a positional argument that names files."""
    return typer.Argument(metavar=name, help=help, callback=existing, show_default=False)


def file_option(*words: str, help: str) -> Any:
    """Return an option that names a file."""
    return typer.Option(*words, help=help, callback=existing)


def leave_out_of_command(tree: Path) -> None:
    """Take the path of a DICOM tree out of the command that runs and masks keep: such folders bear patients' names."""
    sys.argv = [sys.argv[0], *("DICOM" if Path(word) == tree else word for word in sys.argv[1:])]


def number_or_names(option: str, number: int | None, file: Path | None) -> int | list[str] | None:
    """Return how many cases are wanted, or which: those that a file lists, one a line.

    Raises:
        ConfigError: both are given.
        DatasetError: the file cannot be read, or names no case.
    """
    from semivox.data.splitting import read_names

    if number is not None and file is not None:
        raise ConfigError(f"found both {option} {number} and {option}-list {file}, expected one of them: leave one out")
    return read_names(file) if file else number


Data = Annotated[Path, file_argument("DATA", "nnU-Net or Medical Decathlon folder")]
SplitFile = Annotated[Path | None, file_option("--split", help="lists of cases, as `split` writes them")]
Unlabelled = Annotated[Path | None, file_option("--unlabelled", help="folder of further unlabelled scans")]
Cache = Annotated[Path | None, typer.Option("--cache", help="folder of prepared arrays; else SEMIVOX_CACHE")]
ConfigName = Annotated[str | None, typer.Option("--config", help="shipped config or TOML file; else the plan")]
Settings = Annotated[list[str], typer.Option("--set", help="key=value; wins over the config")]
Device = Annotated[Literal["auto", "cpu", "cuda"], typer.Option("--device")]
Method = Annotated[
    str | None, typer.Option("--method", help="see `semivox methods`, by default averaged_match; or path/own.py")
]
Trust = Annotated[bool, typer.Option("--trust", help="run the method's file that a run or protocol brings along")]
Track = Annotated[
    Literal["tensorboard", "mlflow"] | None, typer.Option("--track", help="the log also in files of its own in the run")
]
Output = Annotated[Path, typer.Option("-o", "--output", show_default=False)]
TimeForAll = Annotated[str | None, typer.Option("--budget", help="time for all, such as 8h; chooses steps")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="say what would be done, and its cost, alone")]
Budget = Annotated[str | None, typer.Option("--budget", help="stop behind a checkpoint after a time such as 2h")]
