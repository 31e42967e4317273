"""Folds: the splits of a cross-validation inside the label budget, one a part of the labelled cases."""

from collections.abc import Collection
from dataclasses import replace

from semivox.data.dataset import Dataset
from semivox.data.patients import patient_of
from semivox.data.splitting import Split, grouped_by_patient, image_hashes
from semivox.errors import ConfigError


def parts_of(split: Split, folds: int, *, machine_made: Collection[str] = ()) -> tuple[tuple[str, ...], ...]:
    """Return the labelled cases in `folds` parts, whose sizes differ by one patient at most.

    Patients (cases, where the split knows none) are dealt out like cards, in the order of their names or, where the
    split has a seed, as that draws it: scans of one hospital, which often have names in a row, come into every part.
    Patients with a machine-made label come into none: a score by it would say nothing.

    Raises:
        ConfigError: fewer than 2 folds, or more than there are labelled cases or patients.
        DatasetError: a labelled case has no patient.
    """
    found = grouped_by_patient(split.labelled, split.patients, split.seed).values()
    groups = [names for names in found if not {*names} & {*machine_made}]
    if not 2 <= folds <= len(groups):
        what = "labelled cases" if split.patients is None else "patients with a label"
        raise ConfigError(
            f"folds: found {folds}, expected a number from 2 to that of {what}, {len(groups)}; a part needs one, and "
            "training needs the rest"
        )
    dealt = [groups[start::folds] for start in range(folds)]
    return tuple(tuple(sorted(name for group in part for name in group)) for part in dealt)


def fold_splits(split: Split, folds: int, *, machine_made: Collection[str] = ()) -> tuple[Split, ...]:
    """Return the split of every fold: its part is held out, the other parts are labelled.

    The part's images are not among the unlabelled scans either, nor are other scans of its patients: a model that has
    seen an image, be it without its label, says nothing of how it does on a new one, and methods that learn from
    unlabelled scans would look better than those that do not. What the split holds out stays held out in every fold.

    Raises:
        ConfigError, DatasetError: as `parts_of`.
    """
    return tuple(_without(split, part) for part in parts_of(split, folds, machine_made=machine_made))


def _without(split: Split, part: tuple[str, ...]) -> Split:
    patients = {patient_of(name, split.patients) for name in part}
    kin = {name for name in split.unlabelled if patient_of(name, split.patients, unknown=name) in patients}
    return replace(
        split,
        labelled=tuple(name for name in split.labelled if name not in part),
        unlabelled=tuple(name for name in split.unlabelled if name not in kin),
        held_out=tuple(sorted({*split.held_out, *part, *kin})),
    )


def with_fewer(fold: Split, labelled: int) -> Split:
    """Return a fold's split with so many of its labelled cases, or patients; the others are in none of its lists.

    Raises:
        ConfigError: it has no so many.
    """
    groups = grouped_by_patient(fold.labelled, fold.patients, fold.seed)
    if not 1 <= labelled <= len(groups):
        raise ConfigError(f"labelled: found {labelled}, expected a number from 1 to that of a fold's, {len(groups)}")
    kept = [name for group in [*groups.values()][:labelled] for name in group]
    return replace(fold, labelled=tuple(sorted(kept)))


def with_hashes(fold: Split, whole: Split, dataset: Dataset) -> Split:
    """Return a fold's split with the hashes of what the whole split does not hold out: a copy of it is then refused.

    Held-out scans of the whole split are not opened; they have the hashes that it has.
    """
    new = [name for name in fold.held_out if name not in whole.held_out]
    return replace(fold, hashes={**whole.hashes, **image_hashes(new, dataset)})
