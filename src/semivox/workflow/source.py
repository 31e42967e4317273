"""Where a run's data come from: a data folder, a folder of scans and one of labels, or a folder of DICOM series."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from semivox.data.description import FILE
from semivox.data.gathering import gather
from semivox.errors import ConfigError, RunError, SemivoxError
from semivox.exchange.encoding import refuse_unfit
from semivox.exchange.frames import is_tree
from semivox.exchange.importing import import_dicom, named_series, refuse_inside
from semivox.exchange.segmenting import refuse_other_scan
from semivox.exchange.series import Series


@dataclass(frozen=True)
class Source:
    """A data folder.

    Attributes:
        folder: where it is.
        series: what each case was read from, where the data came as DICOM.
    """

    folder: Path
    series: Mapping[str, Series] = field(default_factory=dict)


def source_of(
    data: Path | str | None,
    images: Path | str | None,
    labels: Path | str | None,
    output: Path,
    *,
    on_case: Callable[[str, int, int], None] = lambda case, done, total: None,
    on_note: Callable[[str], None] = lambda text: None,
) -> Source:
    """Return the data folder of a run; what did not come as one is made into OUT/data, or is there from before.

    Args:
        data: a data folder, or one of DICOM; or else:
        images: a folder of scans, and
        labels: of the labels that there are.
        output: OUT.
        on_case: called with (case, done, all) as each series is read.
        on_note: called with a sentence on what was passed over in DICOM.

    Raises:
        ConfigError: not one of the three ways, or `output` lies in the DICOM that is read.
        DatasetError, GeometryError: scans or labels cannot be used.
        RunError: OUT/data came of other series, or cannot be written.
    """
    if data is not None and images is None and labels is None:
        folder = Path(data)
        return _imported(folder, output, on_case, on_note) if is_tree(folder) else Source(folder)
    if data is None and images is not None and labels is not None:
        return Source(gather(images, labels, output / "data"))
    given = {"DATA": data, "--images": images, "--labels": labels}
    found = ", ".join(name for name, value in given.items() if value is not None) or "none of them"
    raise ConfigError(f"found {found}, expected either DATA or both --images and --labels")


def _imported(
    tree: Path, output: Path, on_case: Callable[[str, int, int], Any], on_note: Callable[[str], Any]
) -> Source:
    folder = output / "data"
    if not (folder / FILE).exists():
        refuse_inside(output, tree)
        made = import_dicom(tree, output=folder, on_case=on_case)
        for one in made.series.values():
            refuse_unfit(one)
        for text in made.notes:
            on_note(text)
        return Source(folder, made.series)
    series = named_series(tree)
    files = {case: folder / "imagesTr" / f"{case}_0000.nii.gz" for case in series}
    if {*files.values()} != {*(folder / "imagesTr").iterdir()}:
        raise RunError(f"{folder} was made of other series than {tree} holds: give the tree as it was, or another -o")
    for case, one in series.items():
        refuse_other_scan(files[case], one)
    return Source(folder, series)


@contextmanager
def gone_if_refused(folder: Path) -> Iterator[None]:
    """Remove a folder again that was made in this block, where what lies in it is refused; and its empty parents."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    try:
        yield
    except SemivoxError:
        if folder in missing:
            shutil.rmtree(folder, ignore_errors=True)
        for place in missing[1:]:
            with suppress(OSError):  # it holds something else, or is not there
                place.rmdir()
        raise
