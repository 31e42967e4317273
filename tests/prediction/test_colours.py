"""Colour tables beside masks: what 3D Slicer and ITK-SNAP read, in the colours of the report."""

import re

import numpy as np
from matplotlib.colors import to_hex

import thresholding
from scans import save
from semivox.data.palette import CLASSES
from semivox.prediction.colours import itk_snap_table, slicer_table
from semivox.prediction.files import predict
from semivox.reporting.slices import outline_colours

NAMES = {1: "left ventricle", 7: 'the "other" one'}


def rows_of_slicer(text: str) -> dict[int, tuple[str, list[int]]]:
    """Read a table by the rules of Slicer's manual: words apart by spaces, lines with # are a header."""
    assert text.startswith("# Color table file")
    rows = [line.split(" ") for line in text.splitlines() if not line.startswith("#")]
    assert {len(row) for row in rows} == {6}
    return {int(value): (name, [*map(int, colour)]) for value, name, *colour in rows}


def rows_of_itk_snap(text: str) -> dict[int, tuple[str, list[int]]]:
    """Read label descriptions: seven numbers and a name in quotes, lines with # are comments."""
    assert "# ITK-SnAP Label Description File" in text.splitlines()
    rows = [line for line in text.splitlines() if not line.startswith("#")]
    pattern = r"\s*(\d+)" + 3 * r"\s+(\d+)" + 3 * r"\s+([01])" + r'\s+"([^"]*)"'
    found = [re.fullmatch(pattern, row) for row in rows]
    return {int(row[1]): (row[8], [int(row[number]) for number in range(2, 8)]) for row in found}


def test_both_programs_find_name_and_colour_of_every_value():
    slicer, snap = rows_of_slicer(slicer_table(NAMES)), rows_of_itk_snap(itk_snap_table(NAMES))
    assert slicer[0] == ("background", [0, 0, 0, 0])
    assert snap[0] == ("Clear Label", [0, 0, 0, 0, 0, 0])
    assert {value: name for value, (name, _) in slicer.items() if value} == {1: "left_ventricle", 7: 'the_"other"_one'}
    assert {value: name for value, (name, _) in snap.items() if value} == {1: "left ventricle", 7: "the 'other' one"}
    for value, (_, hexadecimal) in outline_colours(NAMES).items():
        assert to_hex(np.divide(slicer[value][1][:3], 255)) == to_hex(np.divide(snap[value][1][:3], 255)) == hexadecimal
        assert slicer[value][1][3] == 255
        assert snap[value][1][3:] == [1, 1, 1]


def test_the_colours_begin_anew_behind_the_last():
    rows = rows_of_slicer(slicer_table({value: f"c{value}" for value in range(1, len(CLASSES) + 2)}))
    assert rows[1][1] == rows[len(CLASSES) + 1][1]


def test_predict_writes_both_beside_masks_and_neither_beside_pictures(tmp_path):
    run = thresholding.write_run(tmp_path / "run", label_values=(0, 7))
    scan = save(np.full((8, 8, 8), 90, np.float32), tmp_path / "a.nii.gz")
    predict(run, scan, output=tmp_path / "masks")
    assert rows_of_slicer((tmp_path / "masks" / "slicer.ctbl").read_text())[7][0] == "chamber"
    assert rows_of_itk_snap((tmp_path / "masks" / "itksnap.txt").read_text())[7][0] == "chamber"
