"""Segmenting: DICOM series in, masks and DICOM segmentations out, which belong to the patient's study."""

import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from semivox.data.formats import bare_name, write_raw
from semivox.data.volume import content_hash, read_image
from semivox.errors import DatasetError, GeometryError, PredictionError, nearest
from semivox.exchange.encoding import ENDING, Maker, maker_of, refuse_unfit, write_segmentation
from semivox.exchange.importing import named_series, refuse_inside
from semivox.exchange.segments import in_series
from semivox.exchange.series import Series
from semivox.files import listed, read_object, refuse_no_folder, whole_folder
from semivox.prediction.files import predict
from semivox.prediction.record import NAME as RECORD
from semivox.runs.folder import open_run
from semivox.runs.folds import each_run
from semivox.scoring.pairing import list_masks

SCANS = "scans"
"""The folder beside masks with the series that they were made of, as NIfTI."""


def predict_dicom(
    runs: Path | str | Sequence[Path | str], tree: Path | str, *, output: Path | str, **words: Any
) -> list[Path]:
    """Write a mask and a DICOM segmentation for every DICOM series in a folder and its subfolders.

    CASE.nii.gz and CASE.seg.dcm stand side by side, and the series as CASE_0000.nii.gz in a folder ``scans``; cases
    are named as `import_dicom` names them. The segmentations belong to the patients' studies and name who was scanned;
    nothing else does.

    Args:
        runs: as `predict` takes them.
        tree: the folder, or a file of many frames.
        output: folder of the masks.
        words: what else `predict` takes: options, device, overwrite ...

    Returns:
        The masks' paths.

    Raises:
        MissingExtraError: the packages for DICOM are not installed.
        DatasetError: a series cannot be used; nothing is written then.
        GeometryError: `output` has masks of other series.
        ConfigError, RunError, PredictionError: as `predict`; or `output` lies in the folder.
    """
    tree, output = Path(tree), Path(output)
    refuse_no_folder(output)
    refuse_inside(output, tree)
    series = named_series(tree)
    for one in series.values():
        refuse_unfit(one)
    maker, failed = maker_of(listed(runs)), None
    if len(maker.channels) != 1:
        raise DatasetError(
            f"{tree}: found DICOM series, which have one channel, expected {len(maker.channels)} "
            f"({', '.join(maker.channels)}), as {listed(runs)[0]} takes; give scans with all of them"
        )
    with _scans(series, output) as scans:
        try:
            masks = predict(runs, scans, output=output, **words)
        except PredictionError as error:
            masks, failed = error.masks, error
        write_beside(masks, series, maker=maker)
    if failed:
        raise failed
    return masks


def export_segmentations(
    runs: Path | str | Sequence[Path | str],
    masks: Path | str,
    tree: Path | str,
    *,
    output: Path | str,
    on_case: Callable[[str, int, int], Any] = lambda case, done, total: None,
    on_note: Callable[[str], Any] = lambda text: None,
) -> list[Path]:
    """Write masks of imported DICOM series, be they corrected since or not, as DICOM segmentations.

    Args:
        runs: that made the masks: a run folder, or several.
        masks: a folder with CASE.nii.gz or the like.
        tree: the folder of the series, the same as was imported.
        output: a folder that is not there, or empty; gets CASE.seg.dcm.
        on_case: called with (case, done, all) before each case.
        on_note: called with a sentence on cases that only their name and grid tie to their series.

    Returns:
        The segmentations' paths.

    Raises:
        MissingExtraError: the packages for DICOM are not installed.
        DatasetError: there is no mask, one has no series or other classes, or a series cannot be used.
        GeometryError: a mask does not lie on its series' grid, or was made of another scan.
        ConfigError: `output` lies in the folder.
        RunError: no run, or `output` holds something; nothing is written.
    """
    masks, tree, output = Path(masks), Path(tree), Path(output)
    refuse_inside(output, tree)
    maker, series, files = maker_of(listed(runs)), named_series(tree), list_masks(masks, labelled=())
    if not files:
        raise DatasetError(f"{masks}: found no mask in it, expected CASE.nii.gz or the like, as `semivox predict` does")
    for case, file in files.items():
        if case not in series:
            raise DatasetError(f"{file}: found no series '{case}' in {tree}: {nearest(case, series)}")
        refuse_unfit(series[case])
    origins = _Origins(masks, listed(runs))
    unsure = []
    with whole_folder(output) as folder:
        for done, (case, file) in enumerate(files.items()):
            on_case(case, done, len(files))
            label = in_series(file, series[case])
            if not origins.agree(case, series[case], file):
                unsure.append(case)
            made_so = origins.made_by(case, maker)
            write_segmentation(label, series[case], folder / f"{case}{ENDING}", maker=maker, automatic=made_so)
        on_case("", len(files), len(files))
    if unsure:
        on_note(
            f"{len(unsure)} masks are tied to their series by name and grid alone ({', '.join(unsure[:5])}"
            f"{', ...' * (len(unsure) > 5)}), since the scans that they were made of are not known: look at them"
        )
    return [output / f"{case}{ENDING}" for case in files]


class _Origins:
    """Where masks come from, as far as prediction.json beside them and the runs know.

    Args:
        masks: their folder.
        runs: that made them.
    """

    def __init__(self, masks: Path, runs: Sequence[Path]) -> None:
        try:
            self.record = read_object(masks / RECORD, advice="remove it, or predict anew")
        except FileNotFoundError:
            self.record = {}
        self.scans: dict[str, str] = {}
        for run in each_run(runs):
            self.scans |= open_run(run).facts.get("scans") or {}

    def made_by(self, case: str, maker: Maker) -> bool:
        """Return whether the mask is noted as the one that these weights made."""
        return case in self.record.get("images", {}) and self.record.get("weights") == [*maker.weights]

    def agree(self, case: str, series: Series, mask: Path) -> bool:
        """Return whether the scan that a mask was made of is known, and is this series.

        Raises:
            GeometryError: it is another.
        """
        files = [Path(file) for file in self.record.get("images", {}).get(case, [])]
        if len(files) == 1 and files[0].is_file():
            refuse_other_scan(files[0], series)
            return True
        if case not in self.scans:
            return False
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / f"{case}.nii.gz"
            write_raw(series.voxels(), file, affine=series.affine_ras, header=None)
            if content_hash(read_image([file]).array) != self.scans[case]:
                expected = f"expected one of {series.where}; {_RENUMBERED}"
                raise GeometryError(f"{mask}: found a mask of another scan, {expected}")
        return True


_RENUMBERED = "numbers of cases hold for the tree that was imported: give that one, as it was"


def refuse_other_scan(file: Path, series: Series) -> None:
    """Refuse a scan that is not the one of a series, voxel by voxel.

    Raises:
        DatasetError: the file cannot be read.
        GeometryError: it is not.
    """
    if not np.array_equal(in_series(file, series), series.voxels()):
        raise GeometryError(f"{file}: found another scan, expected that of {series.where}; {_RENUMBERED}")


def write_beside(masks: Sequence[Path], series: Mapping[str, Series], *, maker: Maker) -> None:
    """Write a segmentation beside each mask of a series, where there is none yet that is as new as the mask.

    Raises:
        DatasetError, GeometryError: a mask cannot be written so.
        RunError: the disk cannot be written.
    """
    for mask in masks:
        case = bare_name(mask)
        path = mask.with_name(f"{case}{ENDING}")
        if not path.exists() or path.stat().st_mtime_ns < mask.stat().st_mtime_ns:
            write_segmentation(in_series(mask, series[case]), series[case], path, maker=maker, automatic=True)


@contextmanager
def _scans(series: Mapping[str, Series], output: Path) -> Iterator[list[Path]]:
    """Write the series as NIfTI beside the masks to be; where nothing comes of it, they go again."""
    folder = output / SCANS
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    new, files = [], []
    try:
        for case, one in series.items():
            file = folder / f"{case}_0000.nii.gz"
            if file.exists():
                refuse_other_scan(file, one)
            else:
                new.append(file)
                write_raw(one.voxels(), file, affine=one.affine_ras, header=None)
            files.append(file)
        yield files
    finally:
        if not (output / RECORD).exists():  # there is no mask
            for file in new:
                file.unlink(missing_ok=True)
            for place in missing:
                with suppress(OSError):  # it holds something else
                    place.rmdir()
