"""Corrected masks into a data set: all of them are checked before the first is copied."""

import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from semivox.data.dataset import Dataset, read_dataset
from semivox.data.description import FILE, read_description, write_machine_made
from semivox.data.formats import ending
from semivox.data.splitting import read_split
from semivox.data.volume import disagreements, read_header, read_label
from semivox.errors import DatasetError, nearest
from semivox.files import whole_file
from semivox.scoring.pairing import list_masks


def add_labels(
    data: Path | str, corrected: Path | str, *, split: Path | str | None = None, replace: bool = False
) -> list[Path]:
    """Copy corrected masks into labelsTr, and return the new files; what was machine-made is drawn by a person then.

    Args:
        data: nnU-Net or Medical Decathlon folder.
        corrected: folder of masks, each named as its scan, with the values of dataset.json.
        split: lists of cases; what it holds out gets no label.
        replace: let a mask take the place of a label that is there.

    Raises:
        DatasetError: a mask that is of no scan, of a held-out one or of one that has a label, that does not lie on its
            scan's grid or holds other values; or labels that dataset.json would not use. Nothing is copied then.
        RunError: the folder cannot be written.
    """
    dataset, masks = read_dataset(data), list_masks(Path(corrected))
    if not masks:
        raise DatasetError(f"{corrected}: found no mask, expected some, named as their scans")
    held_out = read_split(split).held_out if split else ()
    refuse_list(dataset)
    wrong = [text for case, mask in masks.items() for text in _faults(case, mask, dataset, held_out, replace=replace)]
    if wrong:
        raise DatasetError(f"{len(wrong)} faults, nothing was copied: {'; '.join(wrong)}")
    copied = []
    for case, mask in masks.items():
        place = dataset.folder / "labelsTr" / f"{case}{ending(mask)}"
        with whole_file(place) as temporary:
            shutil.copyfile(mask, temporary)
        before = dataset.case(case).label
        if before is not None and before != place:
            before.unlink()  # of another format: two labels of one scan would be a fault
        copied.append(place)
    if drawn := {*masks} & {*dataset.machine_made}:
        write_machine_made(dataset.folder, {}, gone=drawn)
    return copied


def refuse_list(dataset: Dataset) -> None:
    """Refuse new labels where dataset.json lists the ones that are to be used.

    Raises:
        DatasetError: it does.
    """
    if read_description(dataset.folder).training is not None:
        raise DatasetError(
            f"{dataset.folder / FILE}: found 'training', a list without which no label is used: remove it, or add the "
            "new labels to it and copy them by hand"
        )


def _faults(case: str, mask: Path, dataset: Dataset, held_out: Sequence[str], *, replace: bool) -> list[str]:
    """Return what is wrong with a mask, each with what to do."""
    found = dataset.cases.get(case)
    if found is None:
        return [f"{mask.name}: no scan '{case}' in {dataset.folder}: {nearest(case, list(dataset.cases))}"]
    if case in held_out:
        return [f"{mask.name}: the split holds '{case}' out, never to be trained on: take it out of {mask.parent}"]
    if found.label is not None and not replace:
        return [f"{mask.name}: '{case}' has the label {found.label.name}: give --replace to put the mask in its place"]
    if found.images[0].parent.name != "imagesTr":
        place = found.images[0].parent
        return [f"{mask.name}: its scan lies in {place}, whose scans have no labels: move the scan into imagesTr"]
    return [f"{mask.name}: {text}" for text in mask_faults(mask, found.images[0], dataset)]


def mask_faults(mask: Path, image: Path, dataset: Dataset) -> list[str]:
    """Return in words how a mask's grid and values differ from those of its scan and data set."""
    label = read_label(mask)
    wrong = [f"{name} is {is_} where its scan has {has}" for name, is_, has in disagreements(label, read_header(image))]
    allowed = [*dataset.label_values, *([] if dataset.ignore is None else [dataset.ignore])]
    if odd := sorted(set(np.unique(label.array).tolist()) - set(allowed)):
        wrong.append(f"found the values {odd[:5]}, expected those of dataset.json, {sorted(allowed)}")
    return wrong
