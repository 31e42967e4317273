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

Several label budgets, each with several draws of the cases that are labelled::

    [bench]
    draws = 3                  # draw 0 takes the first cases; within a draw, smaller budgets lie within larger ones
    validation = 1             # of every budget, so many cases are scored instead of trained on

    [[bench.run]]
    labelled = [2, 4, 8]

Held-out cases (or patients) that the reports describe by themselves, too::

    [bench.subgroups]
    turned = ["patient019", "patient098"]
"""

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import chain
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, PlainValidator
from pydantic_core import PydanticCustomError

from semivox.config.keys import validated
from semivox.config.toml import flatten, nest
from semivox.errors import ConfigError, nearest
from semivox.methods import own_name

Names = tuple[str, ...]
Groups = dict[str, Names]
VALIDATION = "validation"
"""The group of the cases that are taken out of the label budget to be scored."""


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


def _budgets_or_names(value: Any) -> tuple[int, ...] | Names | None:
    """Return a list of whole numbers from 1 on, each once, or one of names; None where it is neither."""
    numbers = isinstance(value, list | tuple) and all(type(number) is int and number > 0 for number in value)
    if not numbers:
        return _names(value)
    return tuple(value) if len(set(value)) == len(value) else None


def _groups(value: Any) -> Groups | None:
    """Return lists of names by the group's name, no name in two of them; None where there is anything else."""
    if not isinstance(value, dict) or not all(re.fullmatch(r"[\w-]+", group) for group in value):
        return None
    found = {group: names for group, listed in value.items() if (names := _names(listed))}
    return found if len(found) == len(value) and _names([*chain(*found.values())]) else None


class RunSpec(BaseModel):
    """One row of a protocol: a method at one or several label budgets, with its seeds."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    method: str
    labelled: Annotated[
        int | tuple[int, ...] | Names, _number_or("a list of such, or a list of names, each once", _budgets_or_names)
    ]
    seeds: tuple[int, ...] = (0,)
    label: str = ""
    set: dict[str, Any] = {}

    @property
    def name(self) -> str:
        """What configs and reports call the method."""
        return own_name(self.method)

    @property
    def budgets(self) -> tuple[int | Names, ...]:
        """What is labelled: a number of cases (or patients) or several numbers, or one list of their names."""
        if isinstance(self.labelled, int):
            return (self.labelled,)
        numbers = tuple(number for number in self.labelled if isinstance(number, int))
        return numbers or (tuple(str(name) for name in self.labelled),)


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
    draws: int = Field(1, ge=1)
    validation: int = Field(0, ge=0)
    subgroups: dict[str, Annotated[Names, Field(min_length=1)]] = {}
    equal: Literal["steps", "time"] = "steps"
    run: tuple[RunSpec, ...] = Field(min_length=1)

    @property
    def groups(self) -> tuple[str, ...]:
        """Names of the groups of cases that are scored; the held-out ones have none where they are counted."""
        named = ("",) if isinstance(self.held_out, int) else tuple(self.held_out)
        return (*named, VALIDATION) if self.validation else named


@dataclass(frozen=True)
class Job:
    """One training with its prediction and scores.

    Attributes:
        folder: where run, masks and scores go.
        label: how the report calls it.
        spec: the protocol's row.
        labelled: its label budget: how many cases, or patients, or which.
        draw: which draw of the labelled cases; 0 takes the first ones.
        seed: of weights, crops and views.
        groups: names of the groups of cases that are scored.
        pace: further settings, by dotted keys, that bring it to its control's time; see `semivox.benchmarking.pace`.
    """

    folder: Path
    label: str
    spec: RunSpec
    labelled: int | Names
    draw: int
    seed: int
    groups: tuple[str, ...] = ("",)
    pace: Mapping[str, Any] = field(default_factory=dict)

    @property
    def settings(self) -> dict[str, Any]:
        """What the row sets over the protocol's config."""
        return nest(flatten({"seed": self.seed, "label": self.label, **self.spec.set}) | dict(self.pace))

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
    for wrong in _contradictions(protocol):
        raise ConfigError(f"protocol {path}: {wrong}")
    return protocol


def _contradictions(protocol: Protocol) -> Iterator[str]:
    """Yield what the keys of a protocol, each right by itself, make impossible together."""
    names = {name for spec in protocol.run for name in (spec.label or spec.name, spec.name)}
    for control in protocol.further_controls:
        if control not in names:
            yield f"no row is the further control '{control}': {nearest(control, names)}"
    if not isinstance(protocol.held_out, int) and VALIDATION in protocol.held_out:
        yield f"the group '{VALIDATION}' is that of the key {VALIDATION}: give the held-out group another name"
    for number, spec in enumerate(protocol.run, 1):
        budgets = [budget_size(budget) for budget in spec.budgets]
        if protocol.draws > 1 and not all(isinstance(budget, int) for budget in spec.budgets):
            yield f"row {number} names its labelled cases, and draws = {protocol.draws}: only numbers can be drawn"
        if min(budgets) <= protocol.validation:
            yield (
                f"row {number} has {min(budgets)} labelled, of which validation = {protocol.validation} takes all: "
                "lower it, or label more"
            )


def jobs_of(protocol: Protocol, output: Path) -> list[Job]:
    """Return a protocol's jobs in order: all rows and draws with their first seed, then with their second, and so on.

    Raises:
        ConfigError: two rows with the same label, budget and seed.
    """
    rounds = max(len(spec.seeds) for spec in protocol.run)
    jobs = [
        _job(protocol, output, spec, labelled, draw, spec.seeds[i])
        for i in range(rounds)
        for draw in range(protocol.draws)
        for spec in protocol.run
        if i < len(spec.seeds)
        for labelled in spec.budgets
    ]
    folders = [job.folder for job in jobs]
    twice = {folder.name for folder in folders if folders.count(folder) > 1}
    if twice:
        raise ConfigError(f"the protocol names '{min(twice)}' twice: give one of the rows another label")
    return jobs


def budget_size(labelled: int | Names) -> int:
    """Return how many cases, or patients, a label budget has."""
    return labelled if isinstance(labelled, int) else len(labelled)


def _job(protocol: Protocol, output: Path, spec: RunSpec, labelled: int | Names, draw: int, seed: int) -> Job:
    label = spec.label or spec.name
    words = "".join(letter if letter.isalnum() else "-" for letter in label)
    drawn = f"-draw{draw}" if draw else ""
    folder = output / f"{words}-{budget_size(labelled)}{drawn}-seed{seed}"
    return Job(folder, label, spec, labelled, draw, seed, protocol.groups)
