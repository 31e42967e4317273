"""Many runs of a protocol: methods, label budgets and seeds one after another, scored, and compared in reports.

What is done is skipped, what was cut is resumed; a job that another protocol has left there is refused.
"""

import json
import math
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from semivox.benchmarking.own_methods import load_own_methods
from semivox.benchmarking.protocols import Job, Protocol, jobs_of, read_protocol, with_group
from semivox.benchmarking.splits import Deal, deal_jobs
from semivox.config.keys import for_method, read_config, resolve_config
from semivox.config.toml import flatten
from semivox.data.dataset import Dataset, read_dataset
from semivox.errors import ConfigError, TimeUpError
from semivox.files import read_object, refuse_no_folder, write_atomic
from semivox.methods import OwnMethod
from semivox.prediction.files import predict
from semivox.reporting.report import write_report
from semivox.runs.building import make_method_config
from semivox.scoring.evaluation import evaluate_masks
from semivox.training.loop import Row
from semivox.training.start import train


def bench(
    protocol_file: Path | str,
    *,
    output: Path | str | None = None,
    seconds: float | None = None,
    cache: Path | str | None = None,
    device: str = "auto",
    trust: bool = False,
    on_job: Callable[[Job, int, int], None] | None = None,
    on_row: Callable[[Row, int], None] | None = None,
    on_note: Callable[[str], None] | None = None,
) -> tuple[Path, ...]:
    """Run a protocol to its end and write a report for each group of held-out cases.

    Args:
        protocol_file: the protocol.
        output: folder of runs, masks, scores and reports; by default ``runs/NAME`` after the file.
        seconds: time budget of the trainings; the one that it ends stops behind a checkpoint.
        cache: folder of prepared arrays.
        device: "auto", "cpu" or "cuda".
        trust: run the methods that the protocol names and semivox does not ship.
        on_job: called with (job, number, all) before each job that is not done.
        on_row: called with every row of the logs and the steps of all stages.
        on_note: called with what a new run should know and goes on without.

    Returns:
        The reports' paths.

    Raises:
        ConfigError: the protocol or the data folder cannot be used, or `output` holds runs of another protocol.
        TimeUpError: the time is up; the same call goes on.
        RunError: a method that semivox does not ship may not run without `trust`.
        KeyboardInterrupt: a signal stopped a training behind a checkpoint; the same call goes on.
    """
    deadline = math.inf if seconds is None else time.monotonic() + seconds
    protocol = read_protocol(Path(protocol_file))
    output = Path(output) if output else Path("runs") / Path(protocol_file).stem
    data = find_data(protocol.data)
    dataset = read_dataset(data)
    refuse_no_folder(output)
    jobs = jobs_of(protocol, output)
    own = load_own_methods(jobs, trust=trust)
    for job in jobs:  # every row, before the first hour of work
        _check(job, protocol, own.get(job.spec.method))
    deals = deal_jobs(protocol, jobs, dataset)
    for number, job in enumerate(jobs):
        if job.done:
            continue
        if on_job:
            on_job(job, number, len(jobs))
        method, left = own.get(job.spec.method), deadline - time.monotonic()
        _do(
            job, protocol, dataset, deals[job.folder], method,
            seconds=left, cache=cache, device=device, on_row=on_row, on_note=on_note,
        )  # fmt: skip
    return tuple(_report(group, jobs, protocol, output) for group in protocol.groups)


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


def _check(job: Job, protocol: Protocol, own: OwnMethod | None = None) -> None:
    """Refuse a row that no run can follow, and a folder that another row has filled."""
    layers = [
        ("method", {"method": {"name": job.spec.name} | ({"sha256": own.digest} if own else {})}),
        (protocol.config, for_method(read_config(protocol.config), job.spec.name)),
        ("set", job.settings),
    ]
    make_method_config(resolve_config(layers)[0])
    before, now = _read_record(job), _record(job, protocol, own)
    for key in sorted(before.keys() | now.keys()):
        if before and before.get(key) != now.get(key):
            raise ConfigError(
                f"{job.folder} was run with {key} = {before.get(key)}, the protocol has {now.get(key)}: "
                "name another folder with -o, or give the row another label"
            )


def _record(job: Job, protocol: Protocol, own: OwnMethod | None) -> dict[str, Any]:
    """Return what a job's result depends on, under dotted keys."""
    return flatten(
        ({"method_file": own.digest} if own else {})
        | {
            "data": protocol.data,
            "held_out": _plain(protocol.held_out),
            "labelled": _plain(job.labelled),
            "patients": protocol.patients,
            "method": job.spec.method,
            "config": for_method(read_config(protocol.config), job.spec.name),
            "set": job.settings,
        }
        | ({"draw": job.draw} if job.draw else {})  # not 0: jobs of before know no draws
        | ({"validation": protocol.validation} if protocol.validation else {})
    )


def _plain(value: Any) -> Any:
    """Return what JSON gives back for a number, names, or names by group."""
    return json.loads(json.dumps(value))


def _read_record(job: Job) -> dict[str, Any]:
    """Return what a job was run with before; nothing where it was not."""
    try:
        return read_object(job.folder / "job.json", advice=f"delete {job.folder} to run the job anew")
    except FileNotFoundError:
        return {}


def _do(
    job: Job,
    protocol: Protocol,
    dataset: Dataset,
    deal: Deal,
    own: OwnMethod | None,
    *,
    seconds: float,
    cache: Path | str | None,
    device: str,
    on_row: Callable[[Row, int], None] | None,
    on_note: Callable[[str], None] | None,
) -> None:
    """Train, predict and score one job."""
    job.folder.mkdir(parents=True, exist_ok=True)
    record = json.dumps(_record(job, protocol, own), indent=1)
    write_atomic(job.folder / "job.json", lambda file: file.write(record.encode()))
    outcome = train(
        dataset.folder,
        output=job.folder / "run",
        method=own or job.spec.method,
        split=deal.split,
        config=protocol.config,
        settings=job.settings,
        resume=True,
        seconds=seconds,
        cache=cache,
        device=device,
        on_row=on_row,
        on_note=on_note,
    )
    if outcome.interrupted:
        raise KeyboardInterrupt
    if not outcome.finished:
        raise TimeUpError("the time is up: the same command goes on where it was")
    predict([outcome.run], [dataset.folder], output=job.folder / "masks", held_out=True, device=device)
    for group, cases in deal.groups.items():
        scores = job.scores[group]
        evaluate_masks(job.folder / "masks", dataset.folder / "labelsTr", scores, cases=cases, unit=protocol.unit)


def _report(group: str, jobs: Sequence[Job], protocol: Protocol, output: Path) -> Path:
    """Return the path of one group's report."""
    return write_report(
        [job.scores[group] for job in jobs],
        output / with_group("report", group, ".html"),
        control=protocol.control,
        further_controls=protocol.further_controls,
        subgroups=protocol.subgroups,
        title=f"{protocol.title}: {group}" if group else protocol.title,
    )
