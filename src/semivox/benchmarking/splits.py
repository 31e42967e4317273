"""Splits of a protocol: which cases each job labels, by number, by name, or drawn; and who is scored in which group.

Draw 0 takes the first cases, in the order of their names; draw 1 and every further one take them in an order of their
own, which its number decides. Within a draw, a smaller budget lies within every larger one.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import NamedTuple

from semivox.benchmarking.protocols import VALIDATION, Job, Names, Protocol
from semivox.data.dataset import Dataset
from semivox.data.patients import patient_of
from semivox.data.splitting import Split, grouped_by_patient, image_hashes, make_split
from semivox.errors import ConfigError, nearest


class Deal(NamedTuple):
    """The cases of a job.

    Attributes:
        split: labelled, unlabelled and held out; all groups are held out.
        groups: the held-out cases by group, as they are scored.
    """

    split: Split
    groups: Mapping[str, Sequence[str]]


def deal_jobs(protocol: Protocol, jobs: Iterable[Job], dataset: Dataset) -> dict[Path, Deal]:
    """Return the cases of every job by its folder; each held-out image is read once, for its hash.

    Raises:
        ConfigError: an unknown name, or a case of a subgroup that is not held out.
        DatasetError: the data set cannot be split so.
    """
    wanted = {job.folder: (job.labelled, job.draw) for job in jobs}
    deals = {key: deal(protocol, key[0], dataset, draw=key[1]) for key in wanted.values()}
    for subgroup, names in protocol.subgroups.items():
        cases = cases_of(names, dataset, protocol.patients)
        scored = {name for found in deals.values() for name in found.split.held_out}
        if other := [name for name in cases if name not in scored]:
            raise ConfigError(f"subgroup '{subgroup}': found {other[0]}, which is not held out; name cases that are")
    hashes = image_hashes({name for found in deals.values() for name in found.split.held_out}, dataset)
    for key, found in deals.items():
        own = {name: hashes[name] for name in found.split.held_out}
        deals[key] = found._replace(split=replace(found.split, hashes=own))
    return {folder: deals[key] for folder, key in wanted.items()}


def deal(protocol: Protocol, labelled: int | Names, dataset: Dataset, *, draw: int = 0) -> Deal:
    """Return the cases of a job, its split without hashes of the held-out images; no image is opened.

    Raises:
        ConfigError: an unknown name.
        DatasetError: the data set cannot be split so.
    """
    held_out, patients = protocol.held_out, protocol.patients
    plain = make_split(
        dataset,
        labelled=labelled if isinstance(labelled, int) else cases_of(labelled, dataset, patients),
        held_out=held_out if isinstance(held_out, int) else cases_of(chain(*held_out.values()), dataset, patients),
        patients=patients,
        hash_held_out=False,
    )
    order = _order(plain, labelled, dataset, draw)
    validation = sorted(chain(*order[: protocol.validation]))
    split = make_split(
        dataset,
        labelled=[*chain(*order[protocol.validation :])],
        held_out=[*plain.held_out, *validation],
        patients=patients,
        hash_held_out=False,
    )
    groups = {"": [*plain.held_out]} if isinstance(held_out, int) else {
        group: cases_of(names, dataset, patients) for group, names in held_out.items()
    }  # fmt: skip
    return Deal(replace(split, seed=draw or None), groups | ({VALIDATION: validation} if validation else {}))


def _order(plain: Split, labelled: int | Names, dataset: Dataset, draw: int) -> list[list[str]]:
    """Return the cases of each patient of the budget, in the order in which a draw takes them."""
    if not isinstance(labelled, int):
        return [cases_of([name], dataset, plain.patients) for name in labelled]
    free = [name for name in dataset.labelled if name not in {*plain.held_out, *dataset.machine_made}]
    return [*grouped_by_patient(free, plain.patients, draw or None).values()][:labelled]


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
