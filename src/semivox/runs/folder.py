"""The run folder: configuration, split, recipe, log and checkpoints of one training, enough to predict and to resume.

::

    RUN/config.toml        every value, with its source
        run.json           method, data folder, recipe, command, versions
        split.json         the lists of cases
        start.pt           the nets that it began from, with `train --start`
        log.jsonl          one row every ``log_every`` steps
        checkpoints/       the last two, and the ends of stages that later ones start from
        tensorboard/ or mlflow/  the same log, with `train --track`
        pseudo/            pseudo labels, where a method's stages relabel
        lock               held by the process that trains into the folder
"""

import json
import math
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semivox.config.keys import Config, config_text, resolve_config
from semivox.errors import RunError, SemivoxError
from semivox.files import append_line, refuse_no_folder, remove_unfinished, unwritable, write_atomic
from semivox.runs.facts import read_facts

KEPT = 2
GO_ON = "go on with --resume"


@dataclass(frozen=True)
class RunFolder:
    """A run folder on disk.

    Attributes:
        path: the folder.
        config: the resolved config.
        facts: what run.json holds: method, data, unlabelled, classes, recipe, command, versions.
    """

    path: Path
    config: Config
    facts: Mapping[str, Any]

    @property
    def split_file(self) -> Path:
        """Where the split lies."""
        return self.path / "split.json"

    @property
    def log_file(self) -> Path:
        """Where the log lies."""
        return self.path / "log.jsonl"

    @property
    def checkpoints(self) -> Path:
        """The folder of the checkpoints."""
        return self.path / "checkpoints"

    def latest(self) -> Path | None:
        """Return the newest checkpoint, or None."""
        found = sorted(self.checkpoints.glob("step_*.pt"))
        return found[-1] if found else None

    def log_rows(self) -> list[dict[str, Any]]:
        """Return the rows of the log; a last row that a crash cut short is left out.

        Raises:
            RunError: the log cannot be read, or another line is no row of one.
        """
        try:
            lines = self.log_file.read_text(encoding="utf-8").splitlines() if self.log_file.exists() else []
        except (OSError, UnicodeDecodeError) as error:
            raise RunError(f"{self.log_file} cannot be read ({error}); restore it, or remove it and go on") from None
        rows = [_log_row(line) for line in lines]
        if rows and rows[-1] is None:
            rows.pop()
        if None in rows:
            raise RunError(
                f"{self.log_file}, line {rows.index(None) + 1} is damaged, expected a JSON object with a total_step; "
                "restore the file, or remove the line and go on"
            )
        return [row for row in rows if row is not None]

    def append_log(self, row: Mapping[str, Any]) -> None:
        """Add a row to the log."""
        append_line(self.log_file, json.dumps(row), then=GO_ON)

    def cut_log(self, total_step: int) -> None:
        """Drop the rows of steps that a resumed run will take again."""
        rows = [json.dumps(row) + "\n" for row in self.log_rows() if row["total_step"] < total_step]
        write_atomic(self.log_file, lambda file: file.write("".join(rows).encode()), then=GO_ON)

    def save_checkpoint(self, state: Mapping[str, Any], *, name: str | None = None) -> Path:
        """Write a checkpoint atomically and keep the last two.

        Args:
            state: tensors and plain numbers only.
            name: of a checkpoint that is kept beside the numbered ones.

        Raises:
            RunError: the disk is full or read-only; the earlier checkpoints are untouched.
        """
        import torch

        target = self.checkpoints / (f"{name}.pt" if name else f"step_{state['total_step']:08d}.pt")
        write_atomic(target, lambda file: torch.save(dict(state), file), then=GO_ON)
        for old in sorted(self.checkpoints.glob("step_*.pt"))[:-KEPT]:
            old.unlink(missing_ok=True)
        remove_unfinished(self.checkpoints, age=-1)  # the run is locked: they are of killed processes
        return target


def create_run(
    path: Path, *, config: Config, sources: Mapping[str, str], facts: Mapping[str, Any]
) -> RunFolder:
    """Make a run folder around a split that is written already; run.json comes last and makes it a run.

    Raises:
        RunError: the folder holds a run already, or cannot be written.
    """
    refuse_run(path)
    run = RunFolder(path, config, dict(facts))
    try:
        run.checkpoints.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise unwritable(path, error) from error
    write_atomic(path / "config.toml", lambda file: file.write(config_text(config, sources).encode()))
    write_atomic(path / "run.json", lambda file: file.write(json.dumps(facts, indent=1).encode()))
    return run


def refuse_run(path: Path) -> None:
    """Refuse a folder in which a run lies already.

    Raises:
        RunError: it does, or checkpoints of one do, which a new run would go on from, or folds; or it is no folder.
    """
    refuse_no_folder(path)
    if (path / "run.json").exists():
        raise RunError(f"{path} holds a run already: continue it with --resume, or name another folder with -o")
    if any((path / "checkpoints").glob("*.pt")):
        raise RunError(f"{path} holds checkpoints, but no run.json: remove the folder, or name another with -o")
    if any(path.glob("fold_*/run.json")):
        raise RunError(f"{path} holds the folds of a cross-validation: give --folds, or name another folder with -o")


def open_run(path: Path) -> RunFolder:
    """Return the run in a folder.

    Raises:
        RunError: the folder holds no run, or its files are damaged.
    """
    import tomllib

    config_file = path / "config.toml"
    try:
        facts = read_facts(path / "run.json")
        values = tomllib.loads(config_file.read_text(encoding="utf-8"))
        config, _ = resolve_config([(str(config_file), values)])
    except (FileNotFoundError, NotADirectoryError) as error:
        raise RunError(
            f"{path} is no run folder: '{Path(error.filename).name}' is missing; give the folder that train -o wrote"
        ) from None
    except SemivoxError:
        raise
    except (OSError, ValueError, RecursionError) as error:  # no TOML, no UTF-8, deep nesting
        raise RunError(f"{config_file} is damaged ({error}); restore it or train again") from None
    if config.method_name != facts["method"]:
        raise RunError(
            f"{config_file} names the method '{config.method_name}', run.json names '{facts['method']}': one of them "
            "is damaged; restore it or train again"
        )
    return RunFolder(path, config, facts)


def _log_row(line: str) -> dict[str, Any] | None:
    """Return a row of a log; None where the line is none."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return row if isinstance(row, dict) and type(row.get("total_step")) is int else None


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return a checkpoint's tensors and numbers, on the CPU.

    Raises:
        RunError: the file is truncated, altered or no checkpoint.
    """
    import torch

    try:
        with zipfile.ZipFile(path) as archive:
            altered = archive.testzip()  # torch passes over the checksums
        state = None if altered else torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        altered, state = (str(error).splitlines() or [type(error).__name__])[0], None
    if not isinstance(state, dict):
        reason = f"damaged: {altered}" if altered else f"found {type(state).__name__}, expected tensors by name"
        raise RunError(f"checkpoint {path} cannot be read ({reason}); delete it and resume from the one before")
    return state


def parse_budget(text: str) -> float:
    """Return the seconds of a time such as ``90s``, ``30m``, ``2h`` or ``1.5d``.

    Raises:
        RunError: no such time.
    """
    units = {"s": 1, "m": 60, "h": 3600, "d": 86400}
    try:
        seconds = float(text[:-1]) * units[text[-1:]]
    except (KeyError, ValueError):
        seconds = math.nan
    if not (seconds > 0 and math.isfinite(seconds)):
        raise RunError(f"--budget takes a number with s, m, h or d, such as 2h; found '{text}'")
    return seconds
