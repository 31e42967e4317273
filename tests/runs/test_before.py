"""A run folder of version 0.1.0's first days (three steps of four taken) is read, predicts and goes on."""

import shutil
from pathlib import Path

import pytest

from semivox.prediction.files import predict
from semivox.runs.folder import open_run, read_checkpoint
from semivox.training.start import train

BEFORE = Path(__file__).parent / "before"
LAST_LOSS = 0.6992311477661133
"""Of the step that was still to be taken, by the code that wrote the folder."""


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return shutil.copytree(BEFORE, tmp_path / "run")


def test_it_predicts(run, toy_data, tmp_path):
    masks = predict([run], [toy_data / "imagesTr" / "case_04_0000.nii.gz"], output=tmp_path / "masks", device="cpu")
    assert [path.name for path in masks] == ["case_04.nii.gz"]


def test_it_goes_on_and_its_last_row_is_what_it_was(run, toy_data, toy_cache):
    notes: list[str] = []
    assert train(toy_data, output=run, resume=True, cache=toy_cache, device="cpu", on_note=notes.append).finished
    [note] = [n for n in notes if "before its method had these fields, and goes on with" in n]
    assert "method.schedule_over = stage" in note
    assert read_checkpoint(open_run(run).latest())["total_step"] == 4
    rows = open_run(run).log_rows()
    assert [row["total_step"] for row in rows] == [0, 1, 2, 3]
    assert rows[3]["losses"]["supervised"] == pytest.approx(LAST_LOSS, rel=1e-5)
