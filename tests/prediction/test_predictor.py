"""The predictor in Python: a volume, a file or an array in, a mask of the same voxels out."""

from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import thresholding
from scans import SPACING, save, values_of
from semivox import Predictor, predict, read_image, write_mask
from semivox.errors import ConfigError, DatasetError, GeometryError


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).uniform(0, 100, (12, 10, 8)).astype(np.float32)


@pytest.fixture
def scan(image, tmp_path) -> Path:
    return save(image, tmp_path / "scans" / "a_0000.nii.gz", code="LSA")


@pytest.fixture
def run(tmp_path) -> Path:
    return thresholding.write_run(tmp_path / "run", label_values=(0, 7))


def test_volume_file_and_array_give_the_mask_that_the_files_get(run, scan, image, tmp_path):
    (file,) = predict(run, scan, output=tmp_path / "masks")
    expected = values_of(file)
    assert set(np.unique(expected)) == {0, 7}
    predictor = Predictor(run)
    for given in (read_image(scan), str(scan), [scan]):
        assert_array_equal(predictor.predict(given), expected)
    for array in (image, image[None]):
        assert_array_equal(predictor.predict(array, spacing=SPACING), expected)


def test_a_mask_goes_back_to_the_scans_own_file_grid(run, scan, tmp_path):
    (file,) = predict(run, scan, output=tmp_path / "masks")
    volume = read_image(scan)
    write_mask(Predictor(run).predict(volume), volume, str(tmp_path / "mine.nii.gz"), values=(0, 7))
    assert (tmp_path / "mine.nii.gz").read_bytes() == file.read_bytes()


def test_several_runs_are_averaged(run, scan, image, tmp_path):
    other = thresholding.write_run(tmp_path / "other", fields={"threshold": 20.0, "width": 40.0}, label_values=(0, 7))
    mean = np.mean([Predictor(path).probabilities(read_image(scan)) for path in (run, other)], axis=0)
    for runs in ([run, other], (str(run), str(other))):
        predictor = Predictor(runs)
        np.testing.assert_allclose(predictor.probabilities(read_image(scan)), mean, atol=1e-6)
        assert_array_equal(predictor.predict(image, spacing=SPACING), 7 * mean.argmax(0))
    (file,) = predict([run, other], scan, output=tmp_path / "masks")
    assert_array_equal(values_of(file), 7 * mean.argmax(0))


def test_an_array_needs_a_spacing_and_three_axes(run, image):
    predictor = Predictor(run)
    for spacing in (None, (1, 1), (1, 1, 0), (1, 1, np.inf)):
        with pytest.raises(GeometryError, match=r"give spacing=\(x, y, z\)"):
            predictor.predict(image, spacing=spacing)
    with pytest.raises(GeometryError, match=r"expected \(X, Y, Z\) or \(C, X, Y, Z\)"):
        predictor.predict(image[0], spacing=(1, 1, 1))
    with pytest.raises(DatasetError, match="array: found 2 channels, expected 1"):
        predictor.predict(np.stack([image, image]), spacing=(1, 1, 1))


def test_no_run_is_refused():
    with pytest.raises(ConfigError, match="found no run"):
        Predictor([])
