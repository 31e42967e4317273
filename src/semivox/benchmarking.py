"""A protocol: methods, label budgets and seeds run one after another, scored, and compared in one report.

A protocol file is TOML with one ``[bench]`` table::

    [bench]
    title = "Left atrium, 8 labelled"
    data = "la2018"            # a folder, or its name below SEMIVOX_DATA
    config = "la2018-small"
    held_out = 20              # the last 20 cases with a label
    control = "supervised"

    [[bench.run]]
    method = "simcvd"
    labelled = 8               # the first 8
    seeds = [0, 1]
    label = "simcvd, no dropout"             # optional: how the report calls it
    set = { "method.alpha_dropout" = 0.0 }   # optional

What is done is skipped, what was cut is resumed; a job that another protocol has left there is refused.
"""

import json
import os
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from semivox.building import make_method_config
from semivox.config import flatten, for_method, nest, read_config, resolve_config, validated
from semivox.data.dataset import Dataset, read_dataset
from semivox.data.splitting import make_split, write_split
from semivox.errors import ConfigError, RunError
from semivox.evaluation import evaluate_masks
from semivox.loop import Row
from semivox.prediction import predict
from semivox.reporting import write_report
from semivox.run import write_atomic
from semivox.training import train


class RunSpec(BaseModel):
    """One row of a protocol: a method at a label budget, with its seeds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str
    labelled: int = Field(ge=1)
    seeds: tuple[int, ...] = (0,)
    label: str = ""
    set: dict[str, Any] = {}


class Protocol(BaseModel):
    """The ``[bench]`` table of a protocol file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    data: str
    config: str
    held_out: int = Field(ge=1)
    control: str = "supervised"
    unit: str | None = None
    run: tuple[RunSpec, ...] = Field(min_length=1)


@dataclass(frozen=True)
class Job:
    """One training with its prediction and scores.

    Attributes:
        folder: where run, masks and scores go.
        label: how the report calls it.
        labelled: number of labelled cases.
        spec: the protocol's row.
        seed: of weights, crops and views.
    """

    folder: Path
    label: str
    labelled: int
    spec: RunSpec
    seed: int

    @property
    def settings(self) -> dict[str, Any]:
        """What the row sets over the protocol's config."""
        return nest({"seed": self.seed, "label": self.label, **self.spec.set})

    @property
    def scores(self) -> Path:
        """The job's last file: where it exists, the job is done."""
        return self.folder / "scores.csv"


def read_protocol(path: Path) -> Protocol:
    """Return a protocol.

    Raises:
        ConfigError: no such file, no TOML, or an unknown key.
    """
    if not path.is_file():
        raise ConfigError(f"there is no protocol file {path}")
    try:
        values = tomllib.loads(path.read_text())
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"protocol {path} is not valid TOML: {error}") from None
    if set(values) != {"bench"}:
        raise ConfigError(f"protocol {path}: expected one [bench] table, found {sorted(values)}")
    table = values["bench"]
    if isinstance(table.get("run"), list):  # row by row, so that a wrong key is compared with those of a row
        table["run"] = [validated(RunSpec, row, where=f"{path}, row {i + 1}") for i, row in enumerate(table["run"])]
    return validated(Protocol, table, where=str(path))


def jobs_of(protocol: Protocol, output: Path) -> list[Job]:
    """Return a protocol's jobs in order: all rows with their first seed, then with their second, and so on.

    Raises:
        ConfigError: two rows with the same label, budget and seed.
    """
    rounds = max(len(spec.seeds) for spec in protocol.run)
    jobs = [
        Job(output / _folder_name(spec, spec.seeds[i]), spec.label or spec.method, spec.labelled, spec, spec.seeds[i])
        for i in range(rounds)
        for spec in protocol.run
        if i < len(spec.seeds)
    ]
    folders = [job.folder for job in jobs]
    twice = {folder.name for folder in folders if folders.count(folder) > 1}
    if twice:
        raise ConfigError(f"the protocol names '{min(twice)}' twice: give one of the rows another label")
    return jobs


def bench(
    protocol_file: Path,
    *,
    output: Path | None = None,
    cache: Path | None = None,
    device: str = "auto",
    on_job: Callable[[Job, int, int], None] | None = None,
    on_row: Callable[[Row, int], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> Path:
    """Run a protocol to its end and write one report.

    Args:
        protocol_file: the protocol.
        output: folder of runs, masks, scores and report; by default ``runs/NAME`` after the file.
        cache: folder of prepared arrays.
        device: "auto", "cpu" or "cuda".
        on_job: called with (job, number, all) before each job that is not done.
        on_row: called with every row of the logs and the steps of all stages.
        on_note: called with what a new run should know and goes on without.

    Returns:
        The report's path.

    Raises:
        ConfigError: the protocol or the data folder cannot be used, or `output` holds runs of another protocol.
        KeyboardInterrupt: a signal stopped a training behind a checkpoint; the same call goes on.
    """
    protocol = read_protocol(protocol_file)
    output = output or Path("runs") / protocol_file.stem
    data = find_data(protocol.data)
    dataset = read_dataset(data)
    jobs = jobs_of(protocol, output)
    for job in jobs:  # every row, before the first hour of work
        _check(job, protocol)
    for labelled in sorted({job.labelled for job in jobs}):
        write_split(make_split(dataset, labelled=labelled, held_out=protocol.held_out), _split_file(output, labelled))
    for number, job in enumerate(jobs):
        if job.scores.exists():
            continue
        if on_job:
            on_job(job, number, len(jobs))
        _do(job, protocol, dataset, cache=cache, device=device, on_row=on_row, on_note=on_note)
    scores = [job.scores for job in jobs]
    return write_report(scores, output / "report.html", control=protocol.control, title=protocol.title)


def find_data(name: str) -> Path:
    """Return a data folder: a path, or a name below the folder that SEMIVOX_DATA names.

    Raises:
        ConfigError: neither exists.
    """
    candidates = [Path(name), Path(os.environ.get("SEMIVOX_DATA", ".")) / name]
    for candidate in candidates:
        if (candidate / "dataset.json").exists():
            return candidate
    raise ConfigError(
        f"there is no data folder '{name}' (with a dataset.json) here or below SEMIVOX_DATA: set SEMIVOX_DATA to the "
        "folder that holds it"
    )


def _check(job: Job, protocol: Protocol) -> None:
    """Refuse a row that no run can follow, and a folder that another row has filled."""
    layers = [
        ("method", {"method": {"name": job.spec.method}}),
        (protocol.config, for_method(read_config(protocol.config), job.spec.method)),
        ("set", job.settings),
    ]
    make_method_config(resolve_config(layers)[0])
    before, now = _read_record(job), _record(job, protocol)
    for key in sorted(before.keys() | now.keys()):
        if before and before.get(key) != now.get(key):
            raise ConfigError(
                f"{job.folder} was run with {key} = {before.get(key)}, the protocol has {now.get(key)}: "
                "name another folder with -o, or give the row another label"
            )


def _record(job: Job, protocol: Protocol) -> dict[str, Any]:
    """Return what a job's result depends on, under dotted keys."""
    return flatten(
        {
            "data": protocol.data,
            "held_out": protocol.held_out,
            "labelled": job.labelled,
            "method": job.spec.method,
            "config": for_method(read_config(protocol.config), job.spec.method),
            "set": job.settings,
        }
    )


def _read_record(job: Job) -> dict[str, Any]:
    file = job.folder / "job.json"
    try:
        found: dict[str, Any] = json.loads(file.read_text()) if file.exists() else {}
    except (OSError, ValueError) as error:
        raise RunError(f"{file} cannot be read ({error}): delete {job.folder} to run the job anew") from None
    return found


def _do(
    job: Job,
    protocol: Protocol,
    dataset: Dataset,
    *,
    cache: Path | None,
    device: str,
    on_row: Callable[[Row, int], None] | None,
    on_note: Callable[[str], None] | None,
) -> None:
    """Train, predict and score one job."""
    job.folder.mkdir(parents=True, exist_ok=True)
    record = json.dumps(_record(job, protocol), indent=1)
    write_atomic(job.folder / "job.json", lambda file: file.write(record.encode()))
    split_file = _split_file(job.folder.parent, job.labelled)
    outcome = train(
        dataset.folder,
        output=job.folder / "run",
        method=job.spec.method,
        split=split_file,
        config=protocol.config,
        settings=job.settings,
        resume=True,
        cache=cache,
        device=device,
        on_row=on_row,
        on_note=on_note,
    )
    if not outcome.finished:
        raise KeyboardInterrupt
    predict([outcome.run], [dataset.folder], output=job.folder / "masks", held_out=True, device=device)
    evaluate_masks(job.folder / "masks", dataset.folder / "labelsTr", job.scores, cases=split_file, unit=protocol.unit)


def _split_file(output: Path, labelled: int) -> Path:
    return output / f"split-{labelled}.json"


def _folder_name(spec: RunSpec, seed: int) -> str:
    words = "".join(letter if letter.isalnum() else "-" for letter in spec.label or spec.method)
    return f"{words}-{spec.labelled}-seed{seed}"
