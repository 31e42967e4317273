"""The lock of a protocol: what its runs depend on, written before the first of them, so that no two kinds are mixed.

::

    lock.json    code           versions, and a digest of every room of semivox that computes
                 data           size, time and SHA-256 of every file that the jobs' splits name
                 jobs           by folder: all that its result depends on, the digest of its split, and one of it all
                 step_seconds   of rows that are compared at equal time: the measured seconds of a step, by stage
"""

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import semivox
from semivox.benchmarking.tasks import Task
from semivox.data.dataset import Dataset
from semivox.data.payload import ENDINGS, find_payload
from semivox.errors import ConfigError, RunError
from semivox.files import file_digest, read_object, write_atomic
from semivox.methods import list_methods
from semivox.training.provenance import versions

FILE = "lock.json"
ROOMS = ("config", "data", "nets", "ops", "planning", "prediction", "runs", "scoring", "training")
"""The rooms whose code decides a result; methods are locked one by one, reports may change."""
GONE = "no such file"
_ADVICE = "restore it, or name another folder with -o"


class Lock:
    """The lock of a folder of runs.

    Args:
        folder: of the runs; this process alone works in it.
        dataset: the protocol's.

    Raises:
        RunError: the file is there, but damaged.
    """

    def __init__(self, folder: Path, dataset: Dataset) -> None:
        self.file, self.dataset = folder / FILE, dataset
        self.known = _read(self.file)
        self.code: dict[str, str] = {}

    @property
    def step_seconds(self) -> dict[str, dict[str, float]]:
        """The measured seconds of a step by row and stage."""
        found: dict[str, dict[str, float]] = self.known["step_seconds"]
        return found

    def refuse_changes(self, tasks: Sequence[Task], *, code_anew: bool = True) -> dict[str, Any]:
        """Refuse to go on where the code, the data or what a job is has changed; return what they are now.

        What was not locked before, such as a further row, is no change.

        Args:
            tasks: all of the protocol's.
            code_anew: look at the files of the code again, which other processes load; this one keeps what it has.

        Raises:
            ConfigError: the message names what changed, what it was and what it is.
        """
        if code_anew or not self.code:
            self.code = code_version(task.job.spec.name for task in tasks)
        now = {
            "code": self.code,
            "data": data_version(tasks, self.dataset, self.known["data"]),
            "jobs": {task.name: _entry(task) for task in tasks},
        }
        changes = [*_changes(self.known, now)]
        if changes:
            what, before, after = changes[0]
            more = f" (and {len(changes) - 1} more changes)" if len(changes) > 1 else ""
            raise ConfigError(
                f"{self.file.parent} was begun with {what} = {before}, now it is {after}{more}: runs of both would be "
                "mixed in one report. Put it back, or name another folder with -o"
            )
        return now

    def add(self, tasks: Sequence[Task]) -> None:
        """Lock the tasks, beside what is locked already.

        Raises:
            ConfigError: as `refuse_changes`.
            RunError: the file cannot be written.
        """
        now = self.refuse_changes(tasks)
        self._write({section: self.known[section] | now.get(section, {}) for section in self.known})

    def add_step_seconds(self, row: str, seconds: Mapping[str, float]) -> None:
        """Keep the measured seconds of a row's step, by stage.

        Raises:
            RunError: the file cannot be written.
        """
        self._write(self.known | {"step_seconds": self.step_seconds | {row: dict(seconds)}})

    def _write(self, content: dict[str, Any]) -> None:
        if content != self.known or not self.file.exists():
            text = json.dumps(content, indent=1) + "\n"
            write_atomic(self.file, lambda file: file.write(text.encode()))
            self.known = content


def code_version(methods: Iterable[str]) -> dict[str, str]:
    """Return the versions of what computes, and digests of semivox's own files by room; of methods, those in use."""
    root = Path(semivox.__file__).parent
    shipped = list_methods()
    files = {room: sorted((root / room).rglob("*.py")) for room in ROOMS} | {"types": [root / "types.py"]}
    files["methods"] = [path for path in sorted((root / "methods").glob("*.py")) if path.stem not in shipped]
    files |= {f"methods/{name}": [root / "methods" / f"{name}.py"] for name in sorted({*methods}) if name in shipped}
    packages = {name: version for name, version in versions().items() if name != "python"}
    return packages | {f"code of {name}": _digest(paths) for name, paths in files.items()}


def _digest(paths: Sequence[Path]) -> str:
    found = hashlib.sha256()
    for path in paths:
        found.update(f"{path.name} {file_digest(path)}\n".encode())
    return found.hexdigest()[:16]


def data_version(tasks: Iterable[Task], dataset: Dataset, known: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Return size, time and SHA-256 of every file of the tasks' cases; what kept size and time is not read again."""
    names = {name for task in tasks for name in (*task.deal.split.pool, *task.deal.split.held_out)}
    files = {dataset.folder / "dataset.json"}
    for case in map(dataset.case, names):
        own = [*case.images, *([case.label] if case.label else [])]
        files |= {*own, *(find_payload(path).file for path in own if path.suffix.lower() in ENDINGS)}
    inside = {path: path.relative_to(dataset.folder) if path.is_relative_to(dataset.folder) else path for path in files}
    return {str(inside[path]): _file_version(path, known.get(str(inside[path]), {})) for path in sorted(files)}


def _file_version(path: Path, known: Mapping[str, Any]) -> dict[str, Any]:
    try:
        found = path.stat()
        state = {"bytes": found.st_size, "time_ns": found.st_mtime_ns}
        same = state == {key: known.get(key) for key in state}
        return {"sha256": known["sha256"] if same else file_digest(path), **state}
    except FileNotFoundError:
        return {"sha256": GONE}


def _entry(task: Task) -> dict[str, Any]:
    """Return all that a job's result depends on beside code and data, with its own digest."""
    found = {**task.record(), "split": task.deal.split.digest, "unit": task.protocol.unit}
    return {**found, "sha256": hashlib.sha256(json.dumps(found, sort_keys=True).encode()).hexdigest()}


def _changes(known: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield what is not as it was, what it was, and what it is; a job's own digest last, if nothing else."""
    for what, before, after in _pairs(known["code"], now["code"]):
        if before != after:
            yield what, before, after
    for what, before, after in _pairs(known["data"], now["data"]):
        if before["sha256"] != after["sha256"]:
            yield f"the content of {what}", before["sha256"][:16], after["sha256"][:16]
    for job, before, after in _pairs(known["jobs"], now["jobs"]):
        for key in (key for key in sorted(before.keys() | after.keys()) if key != "sha256"):
            if before.get(key) != after.get(key):
                yield f"{key} of {job}", before.get(key), after.get(key)


def _pairs(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[tuple[str, Any, Any]]:
    """Yield what both have: its name and the two values."""
    return ((name, before[name], after[name]) for name in before if name in after)


def _read(file: Path) -> dict[str, Any]:
    """Return the sections of a lock; empty ones where there is none."""
    sections = ("code", "data", "jobs", "step_seconds")
    try:
        found = read_object(file, advice=_ADVICE)
    except FileNotFoundError:
        return {section: {} for section in sections}
    if {*found} != {*sections} or not all(isinstance(section, dict) for section in found.values()):
        raise RunError(f"{file} is damaged, expected a JSON object with {', '.join(sections)}; {_ADVICE}")
    for section, is_whole in (("data", _is_file), ("jobs", _is_table), ("step_seconds", _are_times)):
        for name, value in found[section].items():
            if not is_whole(value):
                raise RunError(f"{file} is damaged at '{name}'; {_ADVICE}")
    return found


def _is_table(value: Any) -> bool:
    return isinstance(value, dict)


def _is_file(value: Any) -> bool:
    return isinstance(value, dict) and isinstance(value.get("sha256"), str)


def _are_times(value: Any) -> bool:
    numbers = value.values() if isinstance(value, dict) else ()
    return bool(numbers) and all(isinstance(time, int | float) and 0 < time < 1e9 for time in numbers)
