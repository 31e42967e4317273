"""What a review asks for: masks to be corrected become a worklist, accepted ones become labels when that is wanted."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from semivox.data.dataset import Dataset, read_dataset
from semivox.data.description import write_machine_made
from semivox.data.formats import ending
from semivox.data.patients import patient_of
from semivox.data.splitting import Split, read_split
from semivox.errors import ConfigError, DatasetError
from semivox.files import refuse_irregular, refuse_used_folder, whole_file, whole_folder
from semivox.reviewing.review import Verdict, read_review
from semivox.scoring.pairing import list_masks
from semivox.selection.corrected import mask_faults, refuse_list
from semivox.selection.strategies import Choice
from semivox.selection.worklist import write_worklist


@dataclass(frozen=True)
class Applied:
    """What became of a review.

    Attributes:
        correct: cases on the worklist.
        worklist: its file; None where nothing is to be corrected.
        accept: cases whose mask was accepted.
        labels: files of those that were taken as labels.
        reject: cases of which nothing is kept.
        left_out: why, by case, of those that were accepted or are to be corrected, and are not worked on.
    """

    correct: tuple[str, ...]
    worklist: Path | None
    accept: tuple[str, ...]
    labels: tuple[Path, ...]
    reject: tuple[str, ...]
    left_out: Mapping[str, str]


def apply_review(
    data: Path | str,
    review: Path | str,
    masks: Path | str,
    *,
    worklist: Path | str = "worklist.csv",
    accepted: bool = False,
    split: Path | str | None = None,
) -> Applied:
    """Do what a review says: list what is to be corrected, with copies of its masks, and take accepted masks as labels.

    A mask that is taken as a label is noted as machine-made in dataset.json: training learns it as any label, and no
    score is made by it. Nothing is kept of what was rejected.

    Args:
        data: nnU-Net or Medical Decathlon folder, whose scans the masks are of.
        review: the review.json of these masks.
        masks: their folder.
        worklist: the csv file for what is to be corrected, as `next_scans` writes it; the masks go into a folder of its
            name, which is not there yet, or empty.
        accepted: copy accepted masks into labelsTr; else they stay where they are.
        split: lists of cases; what it holds out, and scans of their patients, are left out.

    Raises:
        ConfigError: `worklist` is no .csv file.
        DatasetError: the review is of other masks, or a mask is missing, of no scan, not on its scan's grid or of other
            values. Nothing is written then.
        RunError: something cannot be written, or the worklist's folder holds something.
    """
    worklist, dataset = Path(worklist), read_dataset(data)
    if worklist.suffix != ".csv":
        raise ConfigError(f"found the worklist '{worklist}', expected a .csv file")
    files = list_masks(Path(masks), labelled=dataset.cases)
    said = read_review(Path(review), files)
    _refuse_strangers(said, files, dataset, Path(masks))
    lists = read_split(split) if split else Split(())
    left_out = {case: why for case in said if said[case].choice != "reject" and (why := _why_not(case, lists, dataset))}
    chosen = {
        choice: tuple(case for case, own in said.items() if own.choice == choice and case not in left_out)
        for choice in ("accept", "correct", "reject")
    }
    taken = chosen["accept"] if accepted else ()
    _refuse_wrong({case: files[case] for case in (*chosen["correct"], *taken)}, dataset)
    if taken:
        refuse_list(dataset)
    if chosen["correct"]:
        refuse_used_folder(worklist.with_suffix(""))  # corrections may lie there
        refuse_irregular(worklist)
    labels = _take(taken, said, files, dataset)  # first: given again, the same command goes on behind it
    if chosen["correct"]:
        _list_for_correction(chosen["correct"], said, files, dataset, worklist)
    return Applied(
        correct=chosen["correct"],
        worklist=worklist if chosen["correct"] else None,
        accept=chosen["accept"],
        labels=labels,
        reject=chosen["reject"],
        left_out=left_out,
    )


def describe_applied(applied: Applied) -> str:
    """Return what became of a review as lines for people."""
    lines = [f"{len(applied.correct)} to be corrected" + (f": {applied.worklist}" if applied.worklist else "")]
    if applied.worklist:
        lines[0] += f"; their masks: {applied.worklist.with_suffix('')}"
    taken = len(applied.labels)
    how = f"{taken} of them now labels, noted as machine-made" if taken else "left where they are (--accepted: labels)"
    lines.append(f"{len(applied.accept)} accepted" + (f", {how}" if applied.accept else ""))
    lines.append(f"{len(applied.reject)} rejected" + (", of which nothing is kept" if applied.reject else ""))
    lines += [f"left out: {case}: {why}" for case, why in applied.left_out.items()]
    return "\n".join(lines)


def _refuse_strangers(said: Mapping[str, Verdict], files: Mapping[str, Path], dataset: Dataset, masks: Path) -> None:
    for case, own in said.items():
        if own.choice == "reject":
            continue
        if case not in dataset.cases:
            raise DatasetError(
                f"the review speaks of '{case}', found no such scan in {dataset.folder}: give the data set that the "
                "masks were made of"
            )
        if case not in files:
            raise DatasetError(f"{masks}: found no mask of '{case}', which the review speaks of: give their folder")


def _why_not(case: str, lists: Split, dataset: Dataset) -> str:
    """Return why nothing is done with a case, or nothing."""
    sealed = {patient_of(name, lists.patients, unknown=name) for name in lists.held_out}
    if patient_of(case, lists.patients, unknown=case) in sealed:
        return "held out"
    found = dataset.case(case)
    if found.label is not None:
        return "it has a label"
    place = found.images[0].parent.name
    return "" if place == "imagesTr" else f"its scan lies in {place}: move it into imagesTr, which alone has labels"


def _refuse_wrong(masks: Mapping[str, Path], dataset: Dataset) -> None:
    wrong = [
        f"{mask.name}: {text}"
        for case, mask in masks.items()
        for text in mask_faults(mask, dataset.case(case).images[0], dataset)
    ]
    if wrong:
        raise DatasetError(f"{len(wrong)} faults, nothing was done: {'; '.join(wrong)}")


def _list_for_correction(
    cases: tuple[str, ...], said: Mapping[str, Verdict], files: Mapping[str, Path], dataset: Dataset, worklist: Path
) -> None:
    """Write the worklist, and copies of the masks into a folder of its name."""
    folder = worklist.with_suffix("")
    with whole_folder(folder) as place:
        for case in cases:
            shutil.copyfile(files[case], place / files[case].name)
    chosen = [Choice(case, said[case].note or "to be corrected") for case in cases]
    write_worklist(chosen, dataset.cases, [folder / files[case].name for case in cases], worklist)


def _take(
    cases: tuple[str, ...], said: Mapping[str, Verdict], files: Mapping[str, Path], dataset: Dataset
) -> tuple[Path, ...]:
    """Copy masks into labelsTr, after they are noted as machine-made: killed in between, none stands there unnoted."""
    if not cases:
        return ()
    new = {case: {"mask": said[case].mask, "reviewer": said[case].reviewer, "time": said[case].time} for case in cases}
    write_machine_made(dataset.folder, new)
    places = []
    for case in cases:
        places.append(dataset.folder / "labelsTr" / f"{case}{ending(files[case])}")
        with whole_file(places[-1]) as temporary:
            shutil.copyfile(files[case], temporary)
    return tuple(places)
