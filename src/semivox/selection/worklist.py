"""The worklist: which scans to label next, why, and each one's present mask, to be corrected in a viewer."""

import csv
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from statistics import mean

import numpy as np

from semivox.data.cases import Case
from semivox.data.dataset import Dataset, read_dataset
from semivox.data.splitting import read_split
from semivox.data.volume import bare_name, read_image
from semivox.errors import ConfigError, DatasetError, nearest
from semivox.files import write_table
from semivox.prediction.files import predict
from semivox.prediction.predictor import Predictor
from semivox.selection.embedding import embed
from semivox.selection.strategies import STRATEGIES, Choice, at_random, most_doubtful, of_every_kind

Told = Callable[[str, str, int, int], None]


def next_scans(
    run: Path | str,
    data: Path | str,
    *,
    output: Path | str,
    count: int = 5,
    strategy: str = "random",
    quality: Path | str | None = None,
    device: str = "auto",
    trust: bool = False,
    on_case: Told = lambda what, case, done, total: None,
) -> list[Choice]:
    """Write a worklist of scans to label next, and their present masks into a folder of its name; return the list.

    Args:
        run: the run that is asked.
        data: the folder that it was trained on; candidates are its scans without a label, but for held-out ones.
        output: the csv file: rank, case, reason, image, mask.
        count: scans wanted.
        strategy: "random", "uncertainty", "typical" or "mixed", see `semivox.selection.strategies`.
        quality: quality.csv, whose estimates say how doubtful a scan is; else the run's own probabilities do.
        device: "auto", "cpu" or "cuda".
        trust: run the run's own copy of a method that semivox does not ship.
        on_case: called with (what is done, case, done, all).

    Raises:
        ConfigError: an unknown strategy, a count below 1, or an output that is no .csv file.
        DatasetError: there is no scan without a label, or quality.csv lacks one.
        RunError: the run cannot be used.
    """
    output = Path(output)
    if strategy not in STRATEGIES:
        raise ConfigError(f"there is no strategy '{strategy}': {nearest(strategy, STRATEGIES)}")
    if count < 1 or output.suffix != ".csv":
        raise ConfigError(f"found {count} scans and output '{output}', expected 1 or more, and a .csv file")
    predictor = Predictor(run, device=device, trust=trust)
    lists = read_split(predictor.run.split_file)
    dataset = read_dataset(data, unlabelled=predictor.run.facts.get("unlabelled")).sealed(lists.labelled)
    candidates = _candidates(dataset, lists.held_out)
    doubts = _doubts(predictor, candidates, quality, on_case) if strategy in ("uncertainty", "mixed") else {}
    if strategy == "random":
        chosen = at_random(list(candidates), count, predictor.run.config.seed)
    elif strategy == "uncertainty":
        chosen = most_doubtful(doubts, count)
    else:
        vectors = _vectors(predictor, candidates, on_case)
        known = _vectors(predictor, {name: dataset.case(name) for name in lists.labelled}, on_case)
        given = doubts if strategy == "mixed" else None
        chosen = of_every_kind(vectors, list(known.values()), count, predictor.run.config.seed, doubts=given)
    files = [file for choice in chosen for file in candidates[choice.case].images]
    masks = predict(
        [run], files, output=output.with_suffix(""), device=device, trust=trust,
        on_case=lambda case, done, total: on_case("predicted", case, done, total),
    )  # fmt: skip
    write_worklist(chosen, candidates, masks, output)
    return chosen


def _candidates(dataset: Dataset, held_out: Sequence[str]) -> dict[str, Case]:
    found = {name: case for name, case in dataset.cases.items() if case.label is None and name not in held_out}
    if not found:
        raise DatasetError(f"{dataset.folder}: found no scan without a label, expected some to choose from")
    return found


def _vectors(predictor: Predictor, cases: Mapping[str, Case], told: Told) -> dict[str, np.ndarray]:
    found = {}
    for done, (name, case) in enumerate(cases.items()):
        told("embedded", name, done, len(cases))
        found[name] = embed(predictor, predictor.prepared(read_image(case.images), case=name))
    return found


def _doubts(
    predictor: Predictor, cases: Mapping[str, Case], quality: Path | str | None, told: Told
) -> dict[str, float]:
    """Return each case's doubt in [0, 1]: 1 minus its estimated Dice, or else minus that of mask and probabilities."""
    if quality is not None:
        return _estimated_doubts(Path(quality), cases)
    found = {}
    for done, (name, case) in enumerate(cases.items()):
        told("looked at", name, done, len(cases))
        p = predictor.probabilities(read_image(case.images), case=name)
        mask = p.argmax(0)
        pairs = [(float(p[k][mask == k].sum()), float(p[k].sum()), int((mask == k).sum())) for k in range(1, len(p))]
        found[name] = 1 - mean(2 * both / max(soft + hard, 1e-9) for both, soft, hard in pairs)
    return found


def _estimated_doubts(quality: Path, cases: Mapping[str, Case]) -> dict[str, float]:
    by_case: dict[str, list[float]] = {}
    try:
        with quality.open(newline="") as file:
            for row in csv.DictReader(file):
                by_case.setdefault(row["case"], []).append(float(row["dice_estimated"] or "nan"))
    except (OSError, KeyError, ValueError) as error:
        raise DatasetError(f"{quality}: found no table of `semivox quality` ({error}); make one") from error
    if missing := sorted(cases.keys() - by_case.keys()):
        raise DatasetError(
            f"{quality}: found no row of '{missing[0]}' and {len(missing) - 1} others, expected all scans without a "
            "label; predict them and estimate their quality first"
        )
    known = {case: [value for value in by_case[case] if not math.isnan(value)] for case in cases}
    return {case: 1 - mean(values) if values else 1.0 for case, values in known.items()}


def write_worklist(chosen: Sequence[Choice], cases: Mapping[str, Case], masks: Sequence[Path], output: Path) -> None:
    """Write rank, case, reason, image and mask of every chosen case as a CSV file.

    Raises:
        RunError: it cannot be written.
    """
    named = {bare_name(mask): mask for mask in masks}
    rows = [
        {"rank": rank, **choice._asdict(), "image": cases[choice.case].images[0], "mask": named[choice.case]}
        for rank, choice in enumerate(chosen, 1)
    ]
    write_table(output, list(rows[0]), rows)
