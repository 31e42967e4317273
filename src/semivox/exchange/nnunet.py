"""A data set of nnU-Net v2: scans with the labels that a run was trained on, and others with their accepted masks."""

import re
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from semivox.data.dataset import Dataset, read_dataset
from semivox.data.patients import patient_of
from semivox.data.splitting import Split, read_split
from semivox.data.volume import (
    Volume,
    content_hash,
    disagreements,
    is_picture,
    read_image,
    read_label,
    write_back,
    write_mask,
)
from semivox.errors import ConfigError, DatasetError, GeometryError
from semivox.exchange.bundle import write_json
from semivox.exchange.opening import finished_run
from semivox.files import refuse_used_folder, whole_folder, write_table
from semivox.reviewing.review import Verdict, read_review
from semivox.runs.folder import RunFolder
from semivox.scoring.pairing import list_masks

NAMED = re.compile(r"Dataset\d{3}_\w+")
"""How nnU-Net finds a data set."""


@dataclass(frozen=True)
class Exported:
    """What went into a data set of nnU-Net.

    Attributes:
        folder: of the data set.
        labels: cases whose label the run was trained on.
        masks: cases whose mask stands for a label, those among them of which the run learnt it as a label.
        left_out: why, by case, of all others that have a mask or are in the run's split.
    """

    folder: Path
    labels: tuple[str, ...]
    masks: tuple[str, ...]
    left_out: Mapping[str, str]


def export_dataset(
    run: Path | str,
    data: Path | str,
    masks: Path | str,
    *,
    output: Path | str,
    review: Path | str | None = None,
    unlabelled: Path | str | None = None,
    on_case: Callable[[str, int, int], None] = lambda case, done, total: None,
    on_note: Callable[[str], None] = lambda text: None,
) -> Exported:
    """Write the labels that a run was trained on, and accepted masks of other scans, as a data set of nnU-Net v2.

    Of each case stand there CASE_0000.nii.gz and further channels in imagesTr, and CASE.nii.gz in labelsTr, with the
    classes numbered from 0 on, and what is to be ignored as the last. ``cases.csv`` says what each rests on. Held-out
    scans, copies of them, and scans of their patients never go in; labels that the run did not read are not read.

    Args:
        run: a run folder.
        data: the data set that it was trained on.
        masks: a folder with CASE.nii.gz or the like, as `predict` writes it.
        output: a folder that is not there, or empty.
        review: a review.json of these masks: only what it accepts goes in; else all do.
        unlabelled: a further folder of unlabelled scans, as the run had it.
        on_case: called with (case, done, all) before each case.
        on_note: called with a sentence on what is left to do.

    Raises:
        RunError: there is no run, it is not at its end, or `output` is used already or cannot be written.
        ConfigError: several runs, or run and data have other channels or classes.
        DatasetError: the data set, a mask or the review cannot be used, or the scans are pictures.
        GeometryError: a mask does not lie on its scan's grid.
    """
    output, masks = Path(output), Path(masks)
    refuse_used_folder(output)
    opened = finished_run([Path(run)])
    dataset = read_dataset(data, unlabelled=unlabelled)
    _refuse_misfit(opened, dataset)
    split = read_split(opened.split_file)
    files = list_masks(masks, labelled=dataset.cases)
    if not files:
        raise DatasetError(f"{masks}: found no mask in it, expected CASE.nii.gz or the like, as `semivox predict` does")
    left_out = _left_out(split, dataset, files, None if review is None else read_review(Path(review), files))
    labels = {case: file for case in split.labelled if case not in left_out and (file := dataset.case(case).label)}
    sources = {case: file for case, file in files.items() if case not in left_out} | labels
    _refuse_none(sources, left_out, masks)
    with whole_folder(output) as folder:
        for number, (case, source) in enumerate(sorted(sources.items())):
            on_case(case, number, len(sources))
            image = read_image(dataset.case(case).images)
            if content_hash(image.array) in split.hashes.values():
                left_out[case] = "a copy of a held-out scan"
                continue
            _write_image(image, folder / "imagesTr", case)
            write_mask(_numbered(source, image, dataset), image, folder / "labelsTr" / f"{case}.nii.gz")
        on_case("", len(sources), len(sources))
        taken = [case for case in sorted(sources) if case not in left_out]
        _refuse_none(taken, left_out, masks)
        drawn = labels.keys() - {*dataset.machine_made}
        given, made = (tuple(case for case in taken if (case in drawn) == kind) for kind in (True, False))
        exported = Exported(output, given, made, left_out)
        _describe(folder, dataset, exported)
    if not NAMED.fullmatch(output.name):
        on_note(f"nnU-Net finds data sets by names such as Dataset501_NAME: rename {output} before it is used there")
    return exported


def told(left_out: Mapping[str, str]) -> str:
    """Return a sentence on what was left out: for each reason how many cases, and the first of them."""
    reasons: dict[str, list[str]] = {}
    for case, why in sorted(left_out.items()):
        reasons.setdefault(why, []).append(case)
    return "; ".join(
        f"{len(cases)} left out ({', '.join(cases[:5])}{', ...' * (len(cases) > 5)}): {why}"
        for why, cases in reasons.items()
    )


def _refuse_misfit(run: RunFolder, dataset: Dataset) -> None:
    for what, ours, theirs in (
        ("channels", run.facts["channels"], list(dataset.channels)),
        ("classes", run.facts["classes"], list(dataset.classes)),
        ("label values", run.facts["recipe"].get("label_values"), list(dataset.label_values)),
    ):
        if ours != theirs:
            raise ConfigError(
                f"{run.path} was trained on {what} {ours}, found {theirs} in {dataset.folder}: give its own data set"
            )
    pictures = [case.images[0] for case in dataset.cases.values() if is_picture(case.images[0])]
    if pictures:
        raise DatasetError(f"{pictures[0]} is a picture, expected scans: nnU-Net's data sets are written as NIfTI")


def _left_out(
    split: Split, dataset: Dataset, masks: Mapping[str, Path], review: Mapping[str, Verdict] | None
) -> dict[str, str]:
    """Return why cases do not go in, as far as it is known before they are read."""
    sealed = {patient_of(case, split.patients, unknown=case) for case in split.held_out}
    found = {case: "held out" for case in split.held_out}
    for case in {*masks, *split.pool} - found.keys():
        of_held_out = patient_of(case, split.patients, unknown=case) in sealed
        why = "of a held-out patient" if of_held_out else _reason(case, split, dataset, masks, review)
        if why:
            found[case] = why
    return found


def _reason(
    case: str, split: Split, dataset: Dataset, masks: Mapping[str, Path], review: Mapping[str, Verdict] | None
) -> str:
    """Return why a case that nothing holds out does not go in, or nothing."""
    if case not in dataset.cases:
        return "no scan of the data set's pool"
    if case in split.labelled:
        return "" if dataset.case(case).label else "its label is gone"
    if case not in masks:
        return "no mask"
    if review is None:
        return ""
    if case not in review:
        return "not reviewed"
    return {"accept": "", "correct": "to be corrected", "reject": "rejected"}[review[case].choice]


def _refuse_none(cases: Collection[str], left_out: Mapping[str, str], masks: Path) -> None:
    if not cases:
        raise DatasetError(f"{masks}: found no case that may go in: {told(left_out)}; name other masks")


def _write_image(image: Volume, folder: Path, case: str) -> None:
    """Write a file for each channel, as int16 where that loses nothing."""
    for channel, array in enumerate(image.array):
        with np.errstate(invalid="ignore"):
            short = array.astype(np.int16)
        write_back(short if (short == array).all() else array, image, folder / f"{case}_{channel:04d}.nii.gz")


def _numbered(source: Path, image: Volume, dataset: Dataset) -> np.ndarray:
    """Return a label or mask with its classes numbered from 0 on, and what is to be ignored as the last."""
    label = read_label(source)
    for what, found, expected in disagreements(label, image):
        raise GeometryError(
            f"{source}: {what} differs from that of {image.path}: found {found}, expected {expected}; predict the scan "
            "anew, or take this mask away"
        )
    values = [*dataset.label_values, *([] if dataset.ignore is None else [dataset.ignore])]
    if (strangers := np.setdiff1d(label.array, values)).size:
        raise DatasetError(f"{source}: found the values {strangers.tolist()}, expected some of {values}; correct it")
    numbered = np.zeros(label.shape, np.uint8)
    for number, value in enumerate(values):
        numbered[label.array == value] = number
    return numbered


def _describe(folder: Path, dataset: Dataset, exported: Exported) -> None:
    """Write dataset.json, and cases.csv with what each case rests on, or why it is not there."""
    classes = dict(zip(dataset.classes, range(len(dataset.classes)), strict=True))
    description: dict[str, Any] = {
        "name": dataset.name,
        "description": f"{len(exported.labels)} labels and {len(exported.masks)} masks, see cases.csv",
        "channel_names": {str(number): name for number, name in enumerate(dataset.channels)},
        "labels": classes if dataset.ignore is None else classes | {"ignore": len(classes)},
        "numTraining": len(exported.labels) + len(exported.masks),
        "file_ending": ".nii.gz",
    }
    if dataset.spacing_is_nominal:
        description["spacing_is_nominal"] = True
    write_json(description, folder / "dataset.json")
    rows = [(case, kind, "") for kind in ("label", "mask") for case in getattr(exported, f"{kind}s")]
    rows += [(case, "", why) for case, why in exported.left_out.items()]
    columns = ("case", "rests_on", "left_out")
    write_table(folder / "cases.csv", columns, (dict(zip(columns, row, strict=True)) for row in sorted(rows)))
