"""Colour tables beside masks, with the names of the classes: for 3D Slicer and for ITK-SNAP."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from semivox.data.palette import class_colour
from semivox.files import write_atomic

SLICER, ITK_SNAP = "slicer.ctbl", "itksnap.txt"

_ITK_SNAP_HEADER = """\
################################################
# ITK-SnAP Label Description File
# File format:
# IDX   -R-  -G-  -B-  -A--  VIS MSH  LABEL
################################################
"""


def write_colour_tables(classes: Sequence[str], values: Sequence[int], folder: Path) -> None:
    """Write slicer.ctbl and itksnap.txt: name and colour of every value that masks hold.

    Args:
        classes: names, the background first.
        values: of the classes in masks.
        folder: of the masks.

    Raises:
        RunError: the files cannot be written.
    """
    names = dict(zip(values[1:], classes[1:], strict=True))
    for file, text in ((SLICER, slicer_table(names)), (ITK_SNAP, itk_snap_table(names))):
        write_atomic(folder / file, lambda handle, text=text: handle.write(text.encode()))  # type: ignore[misc]


def slicer_table(names: Mapping[int, str]) -> str:
    """Return a colour table as 3D Slicer reads it, from class names by value; a name is one word there."""
    lines = [f"# Color table file {SLICER}", f"# {len(names) + 1} values", "0 background 0 0 0 0"]
    for number, (value, name) in enumerate(names.items()):
        red, green, blue = class_colour(number)
        lines.append(f"{value} {'_'.join(name.split()) or value} {red} {green} {blue} 255")
    return "\n".join(lines) + "\n"


def itk_snap_table(names: Mapping[int, str]) -> str:
    """Return label descriptions as ITK-SNAP reads them, from class names by value."""
    rows = [_row(0, (0, 0, 0), 0, "Clear Label")]
    for number, (value, name) in enumerate(names.items()):
        rows.append(_row(value, class_colour(number), 1, " ".join(name.replace('"', "'").split())))
    return _ITK_SNAP_HEADER + "\n".join(rows) + "\n"


def _row(value: int, colour: tuple[int, int, int], shown: int, name: str) -> str:
    red, green, blue = colour
    return f'{value:>5} {red:>5} {green:>4} {blue:>4} {shown:>8} {shown:>2} {shown:>2}    "{name}"'
