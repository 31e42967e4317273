r"""Protocol files: which methods, label budgets and seeds `bench` runs, and on which held-out cases it scores them.

A protocol file is TOML with one ``[bench]`` table::

    [bench]
    title = "Left atrium, 8 labelled"
    data = "la2018"            # a folder, or its name below SEMIVOX_DATA
    config = "la2018-small"
    held_out = 20              # the last 20 cases with a label
    control = "supervised"

    [[bench.run]]
    method = "simcvd"          # or the file of one's own, as for train --method; bench then asks for --trust
    labelled = 8               # the first 8
    seeds = [0, 1]
    label = "simcvd, no dropout"             # optional: how the report calls it
    set = { "method.alpha_dropout" = 0.0 }   # optional

Names may stand instead of numbers, and several groups of held-out cases are then scored and reported each on its own::

    [bench]
    patients = 'patient\d+'    # the names below are those of patients, not of cases
    further_controls = ["mean_teacher"]      # the methods are compared with these, too

    [bench.held_out]
    val = ["patient002", "patient019"]
    tail = ["patient098"]

    [[bench.run]]
    labelled = ["patient099", "patient038"]
"""

import re
import tomllib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, PlainValidator
from pydantic_core import PydanticCustomError

from semivox.config.keys import validated
from semivox.config.toml import nest
from semivox.data.dataset import Dataset
from semivox.data.patients import patient_of
from semivox.data.splitting import Split, make_split
from semivox.errors import ConfigError, nearest
from semivox.methods import own_name

Names = tuple[str, ...]
Groups = dict[str, Names]


def _number_or(expected: str, read: Callable[[Any], Any]) -> PlainValidator:
    """Return a validator that takes a whole number from 1 on, or what `read` makes of a value; else it says so."""

    def validate(value: Any) -> Any:
        found = value if type(value) is int and value > 0 else read(value)
        if not found:
            raise PydanticCustomError("number_or", f"input should be a whole number of at least 1, or {expected}")
        return found

    return PlainValidator(validate)


def _names(value: Any) -> Names | None:
    """Return a list of names, each once; None where it is none."""
    if not isinstance(value, list | tuple) or not all(isinstance(name, str) for name in value):
        return None
    return tuple(value) if len(set(value)) == len(value) else None


def _groups(value: Any) -> Groups | None:
    """Return lists of names by the group's name, no name in two of them; None where there is anything else."""
    if not isinstance(value, dict) or not all(re.fullmatch(r"[\w-]+", group) for group in value):
        return None
    found = {group: names for group, listed in value.items() if (names := _names(listed))}
    return found if len(found) == len(value) and _names([*chain(*found.values())]) else None


class RunSpec(BaseModel):
    """One row of a protocol: a method at a label budget, with its seeds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str
    labelled: Annotated[int | Names, _number_or("a list of names, each once", _names)]
    seeds: tuple[int, ...] = (0,)
    label: str = ""
    set: dict[str, Any] = {}

    @property
    def name(self) -> str:
        """What configs and reports call the method."""
        return own_name(self.method)

    @property
    def budget(self) -> int:
        """How many cases, or patients, are labelled."""
        return self.labelled if isinstance(self.labelled, int) else len(self.labelled)


class Protocol(BaseModel):
    """The ``[bench]`` table of a protocol file."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    title: str
    data: str
    config: str
    held_out: Annotated[int | Groups, _number_or("a table of lists of names, each name once", _groups)]
    patients: str | None = None
    control: str = "supervised"
    further_controls: tuple[str, ...] = ()
    unit: str | None = None
    run: tuple[RunSpec, ...] = Field(min_length=1)

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups of held-out cases; one without a name where they are counted."""
        return ("",) if isinstance(self.held_out, int) else tuple(self.held_out)


@dataclass(frozen=True)
class Job:
    """One training with its prediction and scores.

    Attributes:
        folder: where run, masks and scores go.
        label: how the report calls it.
        spec: the protocol's row.
        seed: of weights, crops and views.
        groups: names of the groups of held-out cases.
    """

    folder: Path
    label: str
    spec: RunSpec
    seed: int
    groups: tuple[str, ...] = ("",)

    @property
    def settings(self) -> dict[str, Any]:
        """What the row sets over the protocol's config."""
        return nest({"seed": self.seed, "label": self.label, **self.spec.set})

    @property
    def scores(self) -> dict[str, Path]:
        """The job's last files, by group: where all exist, the job is done."""
        return {group: self.folder / with_group("scores", group, ".csv") for group in self.groups}

    @property
    def done(self) -> bool:
        """Whether the job is scored."""
        return all(file.exists() for file in self.scores.values())


def with_group(stem: str, group: str, ending: str) -> str:
    """Return a file's name for a group of held-out cases: ``scores-val.csv``, or ``scores.csv`` for the nameless."""
    return f"{stem}-{group}{ending}" if group else f"{stem}{ending}"


def read_protocol(path: Path) -> Protocol:
    """Return a protocol.

    Raises:
        ConfigError: no such file, no TOML, an unknown key, or a further control that no row is.
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
    protocol = validated(Protocol, table, where=str(path))
    names = {name for spec in protocol.run for name in (spec.label or spec.name, spec.name)}
    for control in protocol.further_controls:
        if control not in names:
            raise ConfigError(f"protocol {path}: no row is the further control '{control}': {nearest(control, names)}")
    return protocol


def jobs_of(protocol: Protocol, output: Path) -> list[Job]:
    """Return a protocol's jobs in order: all rows with their first seed, then with their second, and so on.

    Raises:
        ConfigError: two rows with the same label, budget and seed.
    """
    rounds = max(len(spec.seeds) for spec in protocol.run)
    jobs = [
        Job(output / _folder_name(spec, spec.seeds[i]), spec.label or spec.name, spec, spec.seeds[i], protocol.groups)
        for i in range(rounds)
        for spec in protocol.run
        if i < len(spec.seeds)
    ]
    folders = [job.folder for job in jobs]
    twice = {folder.name for folder in folders if folders.count(folder) > 1}
    if twice:
        raise ConfigError(f"the protocol names '{min(twice)}' twice: give one of the rows another label")
    return jobs


def cases_of(names: Iterable[str], dataset: Dataset, patients: str | None) -> list[str]:
    """Return the labelled cases of the named patients, sorted; without `patients` the names are those of cases.

    Raises:
        ConfigError: a patient of that name has no labelled case; the message names the nearest.
    """
    known: dict[str, list[str]] = {}
    for case in dataset.labelled:
        known.setdefault(patient_of(case, patients), []).append(case)
    found = []
    for name in names:
        if name not in known:
            what = "case" if patients is None else "patient"
            raise ConfigError(f"{dataset.folder}: no {what} '{name}' with a label: {nearest(name, known)}")
        found += known[name]
    return sorted(found)


def split_of(protocol: Protocol, labelled: int | Names, dataset: Dataset) -> Split:
    """Return the split of the rows with these labels; all groups of the protocol are held out.

    Raises:
        ConfigError: an unknown name.
        DatasetError: the data set cannot be split so.
    """
    held_out, patients = protocol.held_out, protocol.patients
    return make_split(
        dataset,
        labelled=labelled if isinstance(labelled, int) else cases_of(labelled, dataset, patients),
        held_out=held_out if isinstance(held_out, int) else cases_of(chain(*held_out.values()), dataset, patients),
        patients=patients,
    )


def groups_of(protocol: Protocol, split: Split, dataset: Dataset) -> dict[str, list[str]]:
    """Return the held-out cases by group."""
    if isinstance(protocol.held_out, int):
        return {"": list(split.held_out)}
    return {group: cases_of(names, dataset, protocol.patients) for group, names in protocol.held_out.items()}


def _folder_name(spec: RunSpec, seed: int) -> str:
    words = "".join(letter if letter.isalnum() else "-" for letter in spec.label or spec.name)
    return f"{words}-{spec.budget}-seed{seed}"
