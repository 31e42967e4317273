"""What made the scores: the runs behind them, their scans, dates, times, commands, configs and logs."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semivox.data.splitting import Split, read_split
from semivox.errors import DatasetError
from semivox.files import read_object
from semivox.reporting.curves import Log
from semivox.reporting.gallery import seed_text, without_folders
from semivox.scoring.scores import Scores


@dataclass(frozen=True)
class RunDetails:
    """What made one table of scores; "" and None where nothing says it.

    Attributes:
        group, seed: of the run.
        draw: which draw of the labelled scans; 0 are the first ones.
        labelled, unlabelled: names of the scans that it was trained on.
        started: day and time at which its training began.
        seconds: how long its steps took, roughly; preparation and relabelling are not in it.
        commands: texts by verb.
        config: the config file.
        facts: further texts by name.
    """

    group: str
    seed: int | None
    draw: int | None
    labelled: tuple[str, ...] | None
    unlabelled: tuple[str, ...] | None
    started: str
    seconds: float | None
    commands: Mapping[str, str]
    config: str
    facts: Mapping[str, str]

    def record(self) -> dict[str, object]:
        """Return the run's line of the table of runs."""
        scans = {"labelled": self.labelled, "unlabelled": self.unlabelled}
        counts = {name: None if cases is None else len(cases) for name, cases in scans.items()}
        names = {f"{name}_scans": " ".join(cases or ()) for name, cases in scans.items()}
        run: dict[str, object] = {"method": self.group, "seed": self.seed, "draw": self.draw}
        return {**run, **counts, "started": self.started, "seconds": self.seconds, **names}


def run_details(run: Scores) -> RunDetails:
    """Return what made one table of scores.

    Raises:
        SemivoxError: a file of a run folder is damaged.
    """
    prediction = run.prediction
    commands = {"train": prediction.get("train_command"), "predict": prediction.get("command")}
    commands["evaluate"] = run.info.get("command")
    facts = {
        "split": prediction.get("split"),
        "run folder": ", ".join(folder.name for folder in _run_folders(run)),
        "steps of the weights": _steps_text(prediction),
        "unit of distances": run.info.get("unit"),
        "tolerance of NSD": run.info.get("tolerance"),
        "definition of HD95": run.info.get("hd95"),
        "options of predict": _given(prediction.get("options")),
        "versions": prediction.get("versions"),
    }
    splits = [read_split(file) for folder in _run_folders(run) if (file := folder / "split.json").is_file()]
    return RunDetails(
        group=run.group,
        seed=run.seed,
        draw=run.draw,
        labelled=_union(splits, "labelled"),
        unlabelled=_union(splits, "unlabelled"),
        started=", ".join(filter(None, map(_started, _run_folders(run)))),
        seconds=sum(map(_seconds, read_logs(run))) or None,
        commands={verb: str(text) for verb, text in commands.items() if text},
        config=_config_text(run),
        facts={name: _plain(value) for name, value in facts.items() if value},
    )


def run_name(details: RunDetails) -> str:
    """Return what a run is called in words."""
    return f"{details.group}, {seed_text(details.seed)}"


def time_text(seconds: float | None) -> str:
    """Return a time for people, such as ``1 h 05 min``; a dash where unknown."""
    if seconds is None:
        return "–"
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60:02d} min"


def read_logs(run: Scores) -> Iterator[Log]:
    """Yield the log of every run whose weights made the masks; a last line that a crash cut short is left out."""
    for folder in _run_folders(run):
        rows: list[Mapping[str, Any]] = []
        file = folder / "log.jsonl"
        for line in file.read_text(encoding="utf-8").splitlines() if file.is_file() else ():
            try:
                rows.append(json.loads(line))
            except ValueError:
                break
        if rows:
            yield rows


def _run_folders(run: Scores) -> list[Path]:
    named = run.prediction.get("run")
    found = [run.locate(path) for path in (named if isinstance(named, list) else [named])]
    return [path for path in found if path is not None]


def _union(splits: Sequence[Split], name: str) -> tuple[str, ...] | None:
    """Return the cases that any of the splits lists; None where there is no split."""
    return tuple(sorted({case for split in splits for case in getattr(split, name)})) if splits else None


def _started(folder: Path) -> str:
    """Return when a run's training began, in UTC; "" where run.json does not say it."""
    if not (folder / "run.json").is_file():
        return ""
    facts = read_object(folder / "run.json", advice="restore it, or predict from another run", error=DatasetError)
    return str(facts.get("started") or "").replace("T", " ").replace("+00:00", " UTC")


def _seconds(log: Log) -> float:
    """Return how long the steps of a log took: of every stage the mean time of a step, times its steps."""
    last: dict[str, float] = {}
    for line in log:
        step, mean = line.get("step"), line.get("seconds")
        if isinstance(step, int | float) and isinstance(mean, int | float):
            last[str(line.get("stage"))] = mean * (step + 1)
    return sum(last.values())


def _given(options: Any) -> Any:
    """Return the options that were given: None stands for what the config says."""
    known = options if isinstance(options, dict) else {}
    return {name: value for name, value in known.items() if value is not None}


def _steps_text(prediction: Mapping[str, Any]) -> str:
    """Return how far the weights of each averaged run had come, such as ``3000 of 6000: not at the end``."""
    counts = [prediction.get(key) for key in ("step", "steps")]
    if not all(isinstance(count, list) for count in counts):
        return ""
    text = ", ".join(f"{step} of {steps}" for step, steps in zip(*counts, strict=False))
    return text if prediction.get("finished") else f"{text}: not at the end"


def _config_text(run: Scores) -> str:
    """Return the config as the run folder has it, else as scores.json has it; folders are left out of its paths."""
    for folder in _run_folders(run):
        if (folder / "config.toml").is_file():
            return without_folders((folder / "config.toml").read_text(encoding="utf-8"))
    config = run.prediction.get("config")
    return without_folders(json.dumps(config, indent=2)) if config else ""


def _plain(value: object) -> str:
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {_plain(item)}" for key, item in value.items())
    return without_folders(str(value))
