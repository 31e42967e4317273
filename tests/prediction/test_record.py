"""prediction.json: predictions that write into one folder at once lose nothing of each other's."""

import json
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

import thresholding
from scans import save
from semivox.errors import DatasetError, PredictionError, RunError
from semivox.files import in_turn
from semivox.prediction import failures, record
from semivox.prediction.files import predict

COUNT = 4


@pytest.fixture
def slow(monkeypatch):
    """Every reader of a record holds it for a while before it writes."""
    for module, name in ((record, "_read_record"), (failures, "_read")):
        read = getattr(module, name)

        def late(file, read=read):
            found = read(file)
            time.sleep(0.05)
            return found

        monkeypatch.setattr(module, name, late)


def predict_at_once(run, scans, output):
    """Predict each scan by a call of its own, all at once; return what they raised."""

    def one(scan):
        try:
            predict([run], [scan], output=output)
        except PredictionError as error:
            return error
        return None

    with ThreadPoolExecutor(COUNT) as pool:
        return [error for error in pool.map(one, scans) if error is not None]


@pytest.mark.usefixtures("slow")
def test_predictions_at_once_into_one_folder_keep_each_others_entries(tmp_path):
    run = thresholding.write_run(tmp_path / "run")
    image = np.full((6, 6, 6), 10.0, np.float32)
    scans = [save(image, tmp_path / "scans" / f"case_{n}_0000.nii.gz") for n in range(COUNT)]
    assert predict_at_once(run, scans, tmp_path / "masks") == []
    found = json.loads((tmp_path / "masks" / "prediction.json").read_text())["images"]
    assert sorted(found) == [f"case_{n}" for n in range(COUNT)]
    assert all((tmp_path / "masks" / f"{case}.nii.gz").exists() for case in found)


@pytest.mark.usefixtures("slow")
def test_what_fails_at_once_is_listed_together(tmp_path, monkeypatch):
    run = thresholding.write_run(tmp_path / "run")
    scans = [save(np.full((6, 6, 6), 10.0, np.float32), tmp_path / f"case_{n}_0000.nii.gz") for n in range(COUNT)]

    def torn(files):
        raise DatasetError(f"{files[0]} is torn")

    monkeypatch.setattr("semivox.prediction.files.read_image", torn)
    assert len(predict_at_once(run, scans, tmp_path / "masks")) == COUNT
    lines = (tmp_path / "masks" / "failed.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["case", *(f"case_{n}" for n in range(COUNT))]


def test_a_folder_that_is_not_there_has_no_turns(tmp_path):
    with pytest.raises(RunError, match="missing"), in_turn(tmp_path / "missing"):
        pass
