"""What the review page loads of a case: every voxel of scan and mask, in so many bytes and no more."""

import base64
import json
import zlib

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from scans import affine_of, save
from semivox.data.pictures import drawn_as_scan
from semivox.data.volume import read_image, read_label
from semivox.reviewing.case_files import write_case
from toy_pictures import write_toy_pictures


def content_of(script):
    text = script.read_text()
    assert text.startswith("semivoxCase(")
    assert text.endswith(");\n")
    return json.loads(text.removeprefix("semivoxCase(").removesuffix(");\n"))


def voxels(text, shape):
    return np.frombuffer(zlib.decompress(base64.b64decode(text)), np.uint8).reshape(shape, order="F")


def grey_of(content, channel=0):
    return np.cumsum(voxels(content["channels"][channel], content["shape"]), axis=0, dtype=np.uint8)


@pytest.fixture
def scan(tmp_path):
    """A scan of noise, stored from front to back and from left to right, and its mask of the values 3 and 7."""
    generator = np.random.default_rng(0)
    array = generator.normal(500, 100, (24, 20, 10)).astype(np.float32)
    mask = np.zeros(array.shape, np.uint8)
    mask[3:9, 4:10, 2:5], mask[12:, 10:16, 4:8] = 3, 7
    for values, name in ((array, "scan.nii.gz"), (mask, "mask.nii.gz")):
        save(values, tmp_path / name, affine_of((1, 1, 2.5)), code="PLS")
    return tmp_path


def test_all_voxels_are_there_in_256_grey_levels_and_the_mask_as_it_is(scan):
    shape = write_case("a", [scan / "scan.nii.gz"], scan / "mask.nii.gz", scan / "a.js", labels=[3, 7], most=10**6)
    content = content_of(scan / "a.js")
    image, mask = read_image(scan / "scan.nii.gz"), read_label(scan / "mask.nii.gz")
    assert (content["case"], content["unit"], content["colour"], content["original"]) == ("a", "mm", False, None)
    assert tuple(content["shape"]) == shape == image.shape
    assert_allclose(content["spacing"], image.spacing)
    low, high = content["range"]
    assert_allclose([low, high], np.percentile(image.array, [0.5, 99.5]), rtol=1e-6)
    expected = np.clip((image.array[0] - low) / (high - low) * 255, 0, 255)
    assert np.abs(grey_of(content) - expected).max() <= 0.5001
    assert_array_equal(voxels(content["mask"], shape), np.select([mask.array == 3, mask.array == 7], [1, 2], 0))


def test_a_scan_that_would_take_more_than_it_may_is_shown_with_larger_voxels_in_the_same_place(scan):
    most = 4000
    shape = write_case("a", [scan / "scan.nii.gz"], scan / "mask.nii.gz", scan / "a.js", labels=[3, 7], most=most)
    content = content_of(scan / "a.js")
    image, mask = read_image(scan / "scan.nii.gz"), read_label(scan / "mask.nii.gz")
    assert (scan / "a.js").stat().st_size <= most + 300
    assert content["original"] == {"shape": list(image.shape), "spacing": list(image.spacing)}
    assert np.prod(shape) > 1000, "no coarser than it takes"
    assert shape[2] == image.shape[2], "the coarse axis stays as long as others are finer"
    assert_allclose(np.multiply(shape, content["spacing"]), np.multiply(image.shape, image.spacing))
    drawn = voxels(content["mask"], shape)
    for number, value in ((1, 3), (2, 7)):
        own = (np.argwhere(drawn == number).mean(0) + 0.5) * content["spacing"]
        assert_allclose(own, (np.argwhere(mask.array == value).mean(0) + 0.5) * image.spacing, atol=0.8)


def test_a_scan_of_one_value_is_no_trouble(tmp_path):
    for name in ("scan.nii.gz", "mask.nii.gz"):
        save(np.zeros((4, 5, 6), np.uint8), tmp_path / name, affine_of((1, 1, 1)))
    write_case("a", [tmp_path / "scan.nii.gz"], tmp_path / "mask.nii.gz", tmp_path / "a.js", labels=[1], most=10**6)
    assert not grey_of(content_of(tmp_path / "a.js")).any()


def test_a_picture_keeps_its_colours(tmp_path):
    data = write_toy_pictures(tmp_path / "data")
    scan, mask = data / "imagesTr/case_00_0000.png", data / "labelsTr/case_00.png"
    shape = write_case("a", [scan], mask, tmp_path / "a.js", labels=[1, 2], most=10**6)
    content = content_of(tmp_path / "a.js")
    assert (content["unit"], content["colour"], shape[2]) == ("pixels", True, 1)
    low, high = content["range"]
    expected = drawn_as_scan(np.clip((read_image(scan).array - low) / (high - low) * 255, 0, 255))
    for channel in range(3):
        assert np.abs(grey_of(content, channel) - expected[channel]).max() <= 0.5001
