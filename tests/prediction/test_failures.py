"""Scans that cannot be predicted: the others are done, the failures are listed, and the same call tries them again."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

import thresholding
from scans import save, values_of
from semivox.errors import PredictionError, RunError
from semivox.methods import method_class, method_module
from semivox.prediction.files import predict


@pytest.fixture
def run(tmp_path) -> Path:
    return thresholding.write_run(tmp_path / "run")


@pytest.fixture
def scans(tmp_path) -> Path:
    """Return a folder of five scans: b has no header, c is damaged behind it, e is of other channels."""
    folder = tmp_path / "scans"
    for name in ("a.nii", "b.nii", "c.nii.gz", "d.nii"):
        save(np.full((12, 10, 8), 90, np.float32), folder / name)
    save(np.full((12, 10, 8, 2), 90, np.float32), folder / "e.nii")
    (folder / "b.nii").write_bytes(b"no image")
    damage(folder / "c.nii.gz")
    return folder


def damage(path: Path) -> None:
    """Take the end of a packed file, which is noticed when its values are read."""
    path.write_bytes(path.read_bytes()[:-1])


def listed(output: Path) -> dict[str, dict[str, str]]:
    with (output / "failed.csv").open() as file:
        return {row["case"]: row for row in csv.DictReader(file)}


def test_a_prediction_goes_on_past_scans_that_fail_and_lists_them(run, scans, tmp_path):
    notes, output = [], tmp_path / "masks"
    with pytest.raises(PredictionError, match="3 of 5 scans could not be predicted, 2 masks are there") as stopped:
        predict([run], [scans], output=output, on_note=notes.append)
    assert [mask.name for mask in stopped.value.masks] == ["a.nii", "d.nii"]
    assert sorted(stopped.value.failures) == ["b", "c", "e"]
    assert [values_of(mask).all() for mask in stopped.value.masks] == [True, True]
    rows = listed(output)
    assert [rows[name]["file"] for name in rows] == [str(scans / name) for name in ("b.nii", "c.nii.gz", "e.nii")]
    assert "unreadable or truncated" in rows["c"]["error"]
    assert "found 2 channels" in rows["e"]["error"]
    assert sum("is passed over" in note for note in notes) == 3
    assert set(json.loads((output / "prediction.json").read_text())["images"]) == {"a", "d"}
    lines = str(stopped.value).splitlines()
    assert [line.split(":")[0] for line in lines[1:]] == ["  b", "  e", "  c"]


def test_what_failed_leaves_the_list_when_it_is_predicted(run, scans, tmp_path):
    output = tmp_path / "masks"
    with pytest.raises(PredictionError):
        predict([run], [scans], output=output)
    save(np.full((12, 10, 8), 90, np.float32), scans / "c.nii.gz")
    assert [mask.name for mask in predict([run], [scans / "c.nii.gz"], output=output)] == ["c.nii.gz"]
    assert set(listed(output)) == {"b", "e"}
    for name in "be":
        save(np.full((12, 10, 8), 90, np.float32), scans / f"{name}.nii")
    assert len(predict([run], [scans], output=output)) == 5
    assert not (output / "failed.csv").exists()
    assert set(json.loads((output / "prediction.json").read_text())["images"]) == {*"abcde"}


def test_a_net_that_fails_on_one_scan_is_passed_over_with_its_cause(run, scans, tmp_path, monkeypatch):
    method = method_class(method_module("thresholding"))  # the class that the run's copy has become
    whole = method.predict

    def strange(self, image):
        if (image > 500).any():
            raise MemoryError
        return whole(self, image)

    monkeypatch.setattr(method, "predict", strange)
    save(np.full((12, 10, 8), 900, np.float32), scans / "a.nii")
    with pytest.raises(PredictionError) as stopped:
        predict([run], [scans / "a.nii", scans / "d.nii"], output=tmp_path / "masks")
    assert stopped.value.failures == {"a": "MemoryError"}
    assert isinstance(stopped.value.__cause__, MemoryError)


def test_a_full_disk_stops_at_once_and_leaves_no_record_of_what_is_not_there(
    run, scans, tmp_path, monkeypatch, disk_error
):
    def refuse(*given, **options):
        raise RunError(str(disk_error))

    monkeypatch.setattr("semivox.prediction.files.write_mask", refuse)
    with pytest.raises(RunError, match=disk_error.strerror):
        predict([run], [scans / "a.nii", scans / "d.nii"], output=tmp_path / "masks")
    assert list((tmp_path / "masks").iterdir()) == []


def test_a_mask_of_other_weights_does_not_stay_where_the_new_one_fails(run, scans, tmp_path):
    output = tmp_path / "masks"
    save(np.full((12, 10, 8), 90, np.float32), scans / "c.nii.gz")
    predict([run], [scans / "c.nii.gz", scans / "d.nii"], output=output)
    other = thresholding.write_run(tmp_path / "other", fields={"threshold": 500.0})
    damage(scans / "c.nii.gz")
    with pytest.raises(PredictionError):
        predict([other], [scans / "c.nii.gz", scans / "d.nii"], output=output, overwrite=True)
    assert not (output / "c.nii.gz").exists()
    assert not values_of(output / "d.nii").any()
