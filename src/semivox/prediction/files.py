"""Prediction: scans in, masks out, each in the grid, orientation and format of its own file."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from semivox.data.dataset import list_scans, read_dataset
from semivox.data.splitting import read_split
from semivox.data.volume import (
    Volume,
    bare_name,
    is_picture,
    mask_ending,
    read_header,
    read_image,
    write_maps,
    write_mask,
)
from semivox.errors import ConfigError, DatasetError
from semivox.files import listed, refuse_no_folder
from semivox.prediction.colours import write_colour_tables
from semivox.prediction.exposure import exposure_of, warning
from semivox.prediction.failures import Failures
from semivox.prediction.maps import entropy, largest_components
from semivox.prediction.predictor import Options, Predictor
from semivox.prediction.record import MAPS, drop_from_record, make_record, note_training, write_record
from semivox.runs.folder import RunFolder

__all__ = ["Options", "Predictor", "entropy", "largest_components", "predict"]

Files = tuple[Path, ...]


def predict(
    runs: Path | str | Sequence[Path | str],
    scans: Path | str | Sequence[Path | str],
    *,
    output: Path | str,
    held_out: bool = False,
    probabilities: bool = False,
    uncertainty: bool = False,
    options: Options | None = None,
    device: str = "auto",
    overwrite: bool = False,
    trust: bool = False,
    on_case: Callable[[str, int, int], None] = lambda case, done, total: None,
    on_note: Callable[[str], None] = lambda text: None,
) -> list[Path]:
    """Write a mask for every scan; what exists of the same weights and options is skipped.

    A scan that cannot be read, or whose prediction fails, is passed over; when all others are done, the failures stand
    in ``failed.csv`` beside the masks and are raised together. What would stop every scan (a full disk, a device
    without memory) stops at once. The same call tries again what failed.

    Args:
        runs: a run folder, or several whose probabilities are averaged; that of a cross-validation is all its folds.
        scans: files or folders of scans, or one data folder with `held_out`.
        output: folder of the masks; ``prediction.json`` beside them says how they were made.
        held_out: take the cases that the split of every run holds out.
        probabilities: also write CASE_probabilities.nii.gz, class last.
        uncertainty: also write CASE_uncertainty.nii.gz: entropy of the mean probabilities over ln K, in [0, 1].
        options: how windows are placed.
        device: "auto", "cpu" or "cuda".
        overwrite: make masks anew that exist.
        trust: run the runs' own copies of methods that semivox does not ship.
        on_case: called with (case, done, all) before each case, and once more when all are done.
        on_note: called with a sentence for every run that is not at its end, for every scan that fails, and
            for scans that the run trained on.

    Returns:
        The masks' paths, the skipped ones included.

    Raises:
        PredictionError: some scans failed; it has the masks of the others.
        RunError: a run cannot be used, `output` is a link or no folder, the disk cannot be written, or the GPU has too
            little memory.
        ConfigError: `output` holds masks of other weights, options or programs, or the scans themselves.
        DatasetError: there is no scan, or none that the run can take; nothing is written then.
    """
    output, failures = Path(output), Failures(on_note)
    refuse_no_folder(output)
    predictor = Predictor(runs, device=device, trust=trust)
    asked = _scans([p.run for p in predictor.members], listed(scans), held_out=held_out)
    found = _takable(asked, predictor, failures)
    targets = {case: output / f"{case}{mask_ending(files[0])}" for case, files in found.items()}
    _check_targets(targets, found)
    exposure = exposure_of(p.run for p in predictor.members)
    write_record(targets, output, make_record(predictor.members, found, options, exposure), overwrite=overwrite)
    for p in predictor.members:
        if not p.finished:
            on_note(f"{p.run.path} is not at its end: its weights are those of {p.step} of {p.steps} steps")
    kinds = [kind for kind, wanted in zip(MAPS, (probabilities, uncertainty), strict=True) if wanted]
    done: list[str] = []
    seen: dict[str, str] = {}
    try:
        for number, (case, files) in enumerate(found.items()):
            on_case(case, number, len(found))
            maps = {kind: output / f"{case}_{kind}.nii.gz" for kind in kinds}
            with failures.noted(case, files):
                if overwrite or not all(path.exists() for path in (*maps.values(), targets[case])):
                    volume = read_image(files)
                    seen[case] = exposure.of(case, volume)
                    note_training(case, seen[case], output)  # before there is a mask to be scored
                    _predict_case(predictor, volume, targets[case], maps, options)
                done.append(case)
    finally:  # after Ctrl-C, too
        drop_from_record([case for case, path in targets.items() if not path.exists()], output)
        failures.write(output, done)
    if not all(map(is_picture, targets.values())):  # an index picture has its colours in itself
        write_colour_tables(predictor.run.facts["classes"], predictor.recipe.label_values, output)
    on_case("", len(found), len(found))
    for text in warning(seen):
        on_note(text)
    masks = [targets[case] for case in done]
    failures.raise_together(masks, output)
    return masks


def _predict_case(
    predictor: Predictor, volume: Volume, target: Path, maps: Mapping[str, Path], options: Options | None
) -> None:
    """Write one scan's mask and further maps."""
    mean = predictor.probabilities(volume, case=bare_name(target), options=options)
    if "probabilities" in maps:
        write_maps(mean, volume, maps["probabilities"])
    if "uncertainty" in maps:
        write_maps(entropy(mean)[None], volume, maps["uncertainty"])
    mask = predictor.mask(mean, options)
    write_mask(mask, volume, target, values=predictor.recipe.label_values)  # last: with it the case is done


def _takable(scans: Mapping[str, Files], predictor: Predictor, failures: Failures) -> dict[str, Files]:
    """Return the scans that the net can take, by their headers; it is known before the first hour of work.

    Raises:
        DatasetError: there is none.
    """
    if not scans:
        raise DatasetError("there is no scan to predict: give files, or folders that hold them")
    names = predictor.run.facts["channels"]
    takable = {}
    for case, files in scans.items():
        with failures.noted(case, files):
            _check_channels(files, names)
            takable[case] = files
    if not takable:
        case = next(iter(scans))
        raise DatasetError(f"{len(scans)} of {len(scans)} scans cannot be predicted, first '{case}': {failures.cause}")
    return takable


def _check_channels(files: Files, names: Sequence[str]) -> None:
    count = sum(read_header(path).channels for path in files)
    if count != len(names):
        raise DatasetError(
            f"found {count} channels in {', '.join(map(str, files))}, expected {len(names)} ({', '.join(names)}); "
            "a scan is one file with all channels, or CASE_0000, CASE_0001 ... with one each, and has a name of its own"
        )


def _check_targets(targets: Mapping[str, Path], found: Mapping[str, Files]) -> None:
    scans = {path.resolve() for files in found.values() for path in files}
    for target in targets.values():
        if target.resolve() in scans:
            raise ConfigError(f"the mask {target} would take its scan's place: name another folder with -o")


def _scans(runs: Sequence[RunFolder], scans: Sequence[Path], *, held_out: bool) -> Mapping[str, Files]:
    """Return the files of each scan, or of each case that the split of every run holds out, sorted by name."""
    if not held_out:
        return list_scans(scans, len(runs[0].facts["channels"]))
    if len(scans) != 1 or not (scans[0] / "dataset.json").exists():
        raise ConfigError("--held-out takes one data folder with a dataset.json, the one that the run was trained on")
    names = sorted(set.intersection(*({*read_split(run.split_file).held_out} for run in runs)))
    if not names:
        where = ", ".join(str(run.path) for run in runs)
        raise ConfigError(f"the split of {where} holds no case out: name scans instead of --held-out")
    dataset = read_dataset(scans[0])
    return {name: dataset.case(name).images for name in names}
