"""Cross-validation inside the label budget: every labelled case is scored by a run that did not train on it.

::

    RUN/split.json                the whole split
        folds.json                how many folds, and their parts
        fold_0/ ...               a complete run folder each, with the masks of its part in masks/
        out_of_fold/masks/        all these masks, and prediction.json
        out_of_fold/scores.csv    one row per case and class, with scores.json
"""

import hashlib
import json
import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semivox.data.dataset import Dataset, read_dataset
from semivox.data.folds import fold_splits, parts_of, with_fewer, with_hashes
from semivox.data.splitting import Split, training_split, write_split
from semivox.errors import DatasetError, RunError
from semivox.files import if_given, read_object, refuse_no_folder, whole_file, write_atomic
from semivox.methods import OwnMethod, own_method
from semivox.prediction.files import predict
from semivox.runs.folder import refuse_run
from semivox.runs.folds import FOLDS_FILE, fold_folders, read_folds
from semivox.scoring.evaluation import Row as ScoreRow
from semivox.scoring.evaluation import evaluate_masks
from semivox.scoring.summary import describe_evaluation
from semivox.training.loop import Row
from semivox.training.start import Outcome, train

SCORES = Path("out_of_fold", "scores.csv")
"""Where the scores lie in the folder of a cross-validation."""
LEAST = 1e-9
"""Seconds that a fold is given once the time is spent: it takes a step and stops behind a checkpoint."""


@dataclass(frozen=True)
class FoldsOutcome(Outcome):
    """What became of a cross-validation; `run` is its folder.

    Attributes:
        rows: those of scores.csv, once every fold is at its end; none in processes of another rank than 0.
    """

    rows: Sequence[Mapping[str, Any]] = ()

    @property
    def scores(self) -> Path:
        """Where the scores lie once it is finished."""
        return self.run / SCORES

    def describe(self) -> str:
        """Return the scores as lines for people."""
        return describe_evaluation(self.scores, self.rows)


def cross_validate(
    data: Path | str,
    *,
    folds: int,
    output: Path | str,
    labelled: int | None = None,
    method: Path | str | OwnMethod | None = None,
    split: Path | str | Split | None = None,
    config: Path | str | None = None,
    settings: Sequence[str] | Mapping[str, Any] = (),
    start: Path | str | None = None,
    resume: bool = False,
    trust: bool = False,
    seconds: float | None = None,
    unlabelled: Path | str | None = None,
    cache: Path | str | None = None,
    device: str = "auto",
    track: str | None = None,
    on_start: Callable[[Mapping[str, str]], None] | None = None,
    on_fold: Callable[[int, int], None] | None = None,
    on_row: Callable[[Row, int], None] | None = None,
    on_prepared: Callable[[str, int, int], None] | None = None,
    on_case: Callable[[str, int, int], None] = lambda case, done, total: None,
    on_note: Callable[[str], None] | None = None,
) -> FoldsOutcome:
    """Train once a fold, predict each fold's part by the run that did not see it, and score all masks together.

    Args:
        data: nnU-Net or Medical Decathlon folder.
        folds: how many, from 2 to the number of labelled cases, or of patients where the split knows them.
        output: the folder to make, or to go on with when `resume` is set.
        labelled: cases, or patients, of each fold that are trained on; None: all that are not in its part. The others
            are left out, so that the same parts are scored by runs with fewer labels.
        method: of every fold, as `semivox.train` takes it.
        split: its labelled cases are dealt into parts; what it holds out is left alone.
        config: of every fold, as `semivox.train` takes it.
        settings: of every fold, as `semivox.train` takes them.
        start: of every fold, as `semivox.train` takes it: a run that none of the folds' parts was a label of.
        resume: leave folds that are at their end as they are, go on with the one that is not.
        trust: let folds that go on run their own copies of a method that semivox does not ship.
        seconds: time budget of all trainings together; a fold that begins takes one step at least.
        unlabelled: folder of further unlabelled scans.
        cache: folder of prepared arrays.
        device: "auto", "cpu" or "cuda".
        track: of every fold, as `semivox.train` takes it.
        on_start: called with what the first fold sees, as `semivox.train` tells it.
        on_fold: called with (number from 0 on, all) before each fold.
        on_row: called with every row of the logs and the steps of one fold.
        on_prepared: called with (case, done, all) while scans are prepared.
        on_case: called with (case, done, all) while a fold's part is predicted.
        on_note: called with what should be known of the folds, each sentence once.

    Returns:
        The outcome; once it is finished, ``output / "out_of_fold" / "scores.csv"`` is there.

    Raises:
        DatasetError, ConfigError, UnknownMethodError, GeometryError, RunError: with what to do.
    """
    data, output = Path(data), Path(output)
    refuse_no_folder(output)
    unlabelled = _folder_given(unlabelled, output, resume=resume)
    dataset = read_dataset(data, unlabelled=unlabelled)
    whole = training_split(dataset, _split_given(split, output, resume=resume))
    made = sorted({*dataset.machine_made} & {*whole.labelled})
    lists = [with_fewer(fold, labelled) if labelled else fold for fold in fold_splits(whole, folds, machine_made=made)]
    splits = dict(zip(fold_folders(output, folds), lists, strict=True))
    record = _record(whole, folds, made, labelled)
    _refuse_other(output, record, [*splits], resume=resume)
    if method is None and whole.unlabelled:
        _refuse_without_unlabelled([*splits.values()])
    if isinstance(method, Path | str):
        method = own_method(str(method)) or method  # one content for all folds, whatever becomes of the file
    words: dict[str, Any] = {
        "method": method, "config": config, "settings": settings, "unlabelled": unlabelled, "cache": cache,
        "device": device, "start": start, "resume": resume, "trust": trust, "track": track, "on_row": on_row,
        "on_prepared": on_prepared, "on_note": _once(on_note),
    }  # fmt: skip
    deadline = math.inf if seconds is None else time.monotonic() + seconds
    for number, (run, fold) in enumerate(splits.items()):
        if on_fold:
            on_fold(number, folds)
        sealed = fold if (run / "run.json").exists() else with_hashes(fold, whole, dataset)
        left = None if seconds is None else max(deadline - time.monotonic(), LEAST)
        try:
            opening = on_start if number == 0 else None
            outcome = train(data, output=run, split=sealed, seconds=left, on_start=opening, **words)
        finally:
            if (run / "run.json").exists():  # not before: a mistake in the words leaves nothing behind
                _write_record(output, whole, record, unlabelled)
        if not outcome.finished or (outcome.interrupted and number + 1 < folds):
            return FoldsOutcome(**vars(outcome) | {"run": output, "finished": False})
    speaks = outcome.rank == 0  # under torchrun, one process speaks for all
    rows = _score(output, dataset, splits, whole, device=device, on_case=on_case) if speaks else []
    return FoldsOutcome(**vars(outcome) | {"run": output}, rows=rows)


def _score(
    output: Path,
    dataset: Dataset,
    splits: Mapping[Path, Split],
    whole: Split,
    *,
    device: str,
    on_case: Callable[[str, int, int], None],
) -> list[ScoreRow]:
    """Write the masks and the scores of all folds, and return these; masks that are there stay."""
    folder = output / "out_of_fold" / "masks"
    for run, fold in splits.items():
        part = [name for name in whole.labelled if name in fold.held_out]
        files = [file for name in part for file in dataset.case(name).images]
        for mask in predict([run], files, output=run / "masks", device=device, on_case=on_case):
            with whole_file(folder / mask.name) as temporary:
                shutil.copyfile(mask, temporary)
    joined = json.dumps(_joined([*splits], [*splits.values()]), indent=1)
    write_atomic(folder / "prediction.json", lambda file: file.write(joined.encode()))
    scored = [name for fold in splits.values() for name in whole.labelled if name in fold.held_out]
    return evaluate_masks(folder, dataset.folder, output / SCORES, cases=sorted(scored))


def _joined(runs: Sequence[Path], splits: Sequence[Split]) -> dict[str, Any]:
    """Return one prediction.json of the masks of all folds, which says which run made which."""
    folders = [run / "masks" for run in runs]
    records = [read_object(folder / "prediction.json", advice=f"remove {folder}") for folder in folders]
    listed = {key: [item for one in records for item in one[key]] for key in ("run", "weights", "step", "steps")}
    return {
        **records[0],
        **listed,
        # runs of other folds of the same scans are no runs of this split
        "split": hashlib.sha256("".join(fold.digest for fold in splits).encode()).hexdigest(),
        "images": {case: files for one in records for case, files in one["images"].items()},
        "trained_on": {case: kind for one in records for case, kind in one.get("trained_on", {}).items()},
        "finished": all(one["finished"] for one in records),
        "out_of_fold": {one["run"][0]: sorted(one["images"]) for one in records},
    }


def _split_given(split: Path | str | Split | None, output: Path, *, resume: bool) -> Path | Split | None:
    """Return the split that was given, or the one that the folds were started with."""
    if split is None and resume and read_folds(output):
        return output / "split.json"
    return Path(split) if isinstance(split, str) else split


def _folder_given(unlabelled: Path | str | None, output: Path, *, resume: bool) -> Path | None:
    """Return the folder of further unlabelled scans that was given, or that the folds were started with."""
    known = read_folds(output).get("unlabelled") if resume else None
    return if_given(unlabelled or (known if isinstance(known, str) else None))


def _record(whole: Split, folds: int, made: Sequence[str], labelled: int | None) -> dict[str, Any]:
    """Return what the parts and what is trained on follow from, all of it plain."""
    record = {"folds": folds, "split": whole.digest, "patients": whole.patients, "seed": whole.seed}
    return record | {"machine_made": list(made), "labelled": labelled}


def _refuse_other(output: Path, record: Mapping[str, Any], runs: Sequence[Path], *, resume: bool) -> None:
    """Refuse a folder that holds another training, or other folds.

    Raises:
        RunError: it does.
    """
    advice = "give what it was started with, or name another folder with -o"
    if (output / "run.json").exists():
        raise RunError(f"{output} holds a run, found --folds {record['folds']}: name another folder with -o")
    known = read_folds(output)
    for key, value in record.items() if known else ():
        if (before := known.get(key, [])) != value:  # folders of before know no machine-made labels
            raise RunError(f"{output} was started with {key} = {before}, found {value}: {advice}")
    strangers = [path.name for path in sorted(output.glob("fold_*")) if path not in runs]
    if strangers:
        raise RunError(f"{output} holds {', '.join(strangers)}, expected no more than {len(runs)} folds: {advice}")
    for run in () if resume else runs:  # before the first hour of work
        refuse_run(run)


def _refuse_without_unlabelled(splits: Sequence[Split]) -> None:
    """Refuse folds of which some have no unlabelled scan: their default methods would differ."""
    bare = [str(number) for number, fold in enumerate(splits) if not fold.unlabelled]
    if bare:
        raise DatasetError(
            f"fold {', '.join(bare)}: found no unlabelled scan but those of the patients that it holds out, expected "
            "at least one; add some with --unlabelled DIR, or train --method supervised"
        )


def _once(on_note: Callable[[str], None] | None) -> Callable[[str], None]:
    """Return what hands on each note the first time that it comes."""
    told: set[str] = set()

    def note(text: str) -> None:
        if on_note and text not in told:
            told.add(text)
            on_note(text)

    return note


def _write_record(output: Path, whole: Split, record: Mapping[str, Any], unlabelled: Path | None) -> None:
    further: dict[str, Any] = {"parts": parts_of(whole, record["folds"], machine_made=record["machine_made"])}
    further["unlabelled"] = str(unlabelled.resolve()) if unlabelled else None
    text = json.dumps({**record, **further}, indent=1)
    write_split(whole, output / "split.json")
    write_atomic(output / FOLDS_FILE, lambda file: file.write(text.encode()))
