"""The quality of masks without their labels: quality.csv, a row a case and class, the likely worst cases first."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import mean
from typing import Any

from semivox.data.volume import Volume, differences_of, read_image, read_label
from semivox.errors import ConfigError, DatasetError, GeometryError
from semivox.files import listed, write_table
from semivox.quality.calibration import Calibration, cases_for
from semivox.quality.evidence import calibrated, labelled_scans, read_record, unit_of, voxel_size
from semivox.quality.opinions import Opinions, agreement
from semivox.quality.traits import Traits, flags, is_unlike, profile, traits_of
from semivox.scoring.pairing import list_masks

Row = dict[str, Any]


def estimate_quality(
    runs: Path | str | Sequence[Path | str],
    masks: Path | str,
    *,
    output: Path | str,
    out_of_fold: Path | str | Sequence[Path | str] = (),
    coverage: float = 0.8,
    device: str = "auto",
    trust: bool = False,
    on_case: Callable[[str, int, int], None] = lambda case, done, total: None,
    on_note: Callable[[str], None] = lambda text: None,
) -> list[Row]:
    """Estimate the Dice of every mask and class, write it as a table, and return its rows.

    The estimate is how far second opinions agree with the mask: those of other runs, which learnt apart (a run of
    `supervised` beside one of another method will do), or else of the same run on mirrored copies, which says less.
    Out-of-fold predictions of labelled cases tell how much agreement exceeds Dice, and so give the bound.

    Args:
        runs: run folders; one that made the masks is no second opinion, unless there is no other.
        masks: folder that `predict` wrote.
        output: the csv file.
        out_of_fold: cross-validations (`train --folds`): that of the method which made the masks, then one of every
            other run's; one alone where the run is its own second opinion.
        coverage: probability with which Dice shall lie above the bound, in (0, 1).
        device: "auto", "cpu" or "cuda".
        trust: run the runs' own copies of methods that semivox does not ship.
        on_case: called with (case, done, all) before each case, and once more when all are done.
        on_note: called with a sentence on what could not be compared.

    Returns:
        Dicts with the columns of the table: case, label (value in the files), name (of the class), dice_estimated,
        dice_lower (empty where the remark says why), coverage, calibration_cases, agreement, volume_ml (or
        area_pixels), components, flags (in words), remark.

    Raises:
        ConfigError: coverage, output or cross-validations cannot be used.
        DatasetError: `masks` holds no mask of `predict`, or a scan or mask cannot be read.
        GeometryError: a mask does not lie on its scan's grid.
        RunError: a run cannot be used.
    """
    output, masks = Path(output), Path(masks)
    if output.suffix != ".csv" or not 0 < coverage < 1:
        raise ConfigError(f"found output '{output}' and coverage {coverage}, expected a .csv file and a part below 1")
    record = read_record(masks)
    opinions = Opinions(listed(runs), record["weights"], device=device, trust=trust)
    calibration = calibrated(listed(out_of_fold), opinions, device=device, trust=trust)
    run = opinions.first.run
    labelled = labelled_scans(run, opinions.first, on_note)
    classes = list(zip(opinions.first.recipe.label_values, run.facts["classes"], strict=True))
    files, found = list_masks(masks), []
    cases = {case: paths for case, paths in record["images"].items() if case in files}
    for done, (case, paths) in enumerate(cases.items()):
        on_case(case, done, len(cases))
        volume, mask = read_image([Path(path) for path in paths]), read_label(files[case])
        _refuse_other_grid(case, mask, volume)
        others = opinions.masks(volume, case)
        unlike = is_unlike(profile(opinions.first.prepared(volume, case=case).numpy()), labelled.profiles)
        for value, name in classes[1:]:
            agreed = agreement(mask.array, others, value)
            own = traits_of(mask.array == value, voxel_size(mask))
            words = flags(own, labelled.traits.get(value, ()), unit_of(mask))
            words += ["intensities unlike the labelled scans'"] if unlike else []
            row = {"case": case, "label": value, "name": name}
            found.append(row | _estimated(calibration, value, agreed, coverage) | _seen(own, words, unit_of(mask)))
    on_case("", len(cases), len(cases))
    rows = worst_first(found)
    _write(rows, output)
    return rows


def describe_quality(rows: Sequence[Row]) -> str:
    """Return the ten cases to look at first as lines for people: estimate of each class, and flags."""
    by_case: dict[str, list[Row]] = {}
    for row in rows:
        by_case.setdefault(row["case"], []).append(row)
    lines = [f"{len(by_case)} masks, the likely worst first (estimated Dice):"]
    for case, own in list(by_case.items())[:10]:
        scores = ", ".join(f"{row['name']} {_cell(row['dice_estimated']) or '?'}" for row in own)
        words = dict.fromkeys(word for row in own for word in row["flags"].split("; ") if word)
        lines.append(f"  {case}  {scores}{'  ' + '; '.join(words) if words else ''}")
    return "\n".join(lines)


def worst_first(rows: Sequence[Row]) -> list[Row]:
    """Return the rows sorted by the mean estimate of their case; a case without any estimate comes first."""
    by_case: dict[str, list[float]] = {}
    for row in rows:
        by_case.setdefault(row["case"], []).append(row["dice_estimated"])
    means = {case: mean([x for x in found if not math.isnan(x)] or [-1.0]) for case, found in by_case.items()}
    return sorted(rows, key=lambda row: (means[row["case"]], row["case"], row["label"]))


def _estimated(calibration: Calibration, value: int, agreed: float, coverage: float) -> Row:
    cases, known = calibration.cases(value), not math.isnan(agreed)
    lower = calibration.lower(value, agreed, coverage) if known else math.nan
    remark = ""
    if known and math.isnan(lower):
        remark = f"no bound: a coverage of {coverage:.0%} takes {cases_for(coverage)} calibration cases, found {cases}"
    return {
        "dice_estimated": calibration.estimate(value, agreed) if known else math.nan,
        "dice_lower": lower,
        "coverage": coverage,
        "calibration_cases": cases,
        "agreement": agreed,
        "remark": remark,
    }


def _seen(own: Traits, words: Sequence[str], unit: str) -> Row:
    size = "area_pixels" if unit == "pixels" else "volume_ml"
    return {size: own.size, "components": own.components, "flags": "; ".join(words)}


def _refuse_other_grid(case: str, mask: Volume, volume: Volume) -> None:
    if differences := differences_of(mask, volume):
        raise GeometryError(f"{case}: the mask does not lie on its scan's grid: {differences}; predict it again")


def _write(rows: Sequence[Row], output: Path) -> None:
    if not rows:
        raise DatasetError("found no mask whose scan prediction.json names: predict again")
    columns = [name for name in rows[0] if name != "remark"] + ["remark"]
    write_table(output, columns, ({key: _cell(value) for key, value in row.items()} for row in rows))


def _cell(value: Any) -> Any:
    if not isinstance(value, float):
        return value
    return "" if math.isnan(value) else f"{value:.4g}"
