"""The phantom: seeded, alike enough to learn from, unlike enough to be hard, and laid out as nnU-Net lays out data."""

import json

import nibabel
import numpy as np
import pytest
from scipy import ndimage

from semivox.data.phantom import phantom_scan, write_phantom
from semivox.data.phantom_pool import SCANNERS
from semivox.errors import DatasetError, GeometryError

SMALL = {"shape": (24, 20, 12), "spacing": (3.3, 4.0, 6.5)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_phantom(tmp_path_factory.mktemp("phantom") / "data", labelled=2, unlabelled=3, held_out=2, **SMALL)


def test_a_scan_is_a_function_of_seed_and_index_alone():
    first, second = phantom_scan(3, 1, **SMALL), phantom_scan(3, 1, **SMALL)
    np.testing.assert_array_equal(first[0], second[0])
    np.testing.assert_array_equal(first[1], second[1])
    assert (phantom_scan(3, 2, **SMALL)[0] != first[0]).mean() > 0.9
    assert (phantom_scan(4, 1, **SMALL)[0] != first[0]).mean() > 0.9


def test_more_scans_do_not_change_the_earlier_ones(folder, tmp_path):
    larger = write_phantom(tmp_path / "data", labelled=3, unlabelled=0, held_out=0, **SMALL)
    for index in range(2):
        name = f"imagesTr/phantom_000{index}_0000.nii.gz"
        one, other = nibabel.load(folder / name), nibabel.load(larger / name)
        np.testing.assert_array_equal(np.asarray(one.dataobj), np.asarray(other.dataobj))
        np.testing.assert_array_equal(one.affine, other.affine)


@pytest.mark.parametrize("index", range(6))
def test_every_chamber_is_one_piece_inside_the_scan_and_brighter_than_what_surrounds_it(index):
    image, label = phantom_scan(0, index)
    assert image.shape == label.shape == (64, 64, 32)
    assert (image.dtype, label.dtype) == (np.int16, np.uint8)
    assert ndimage.label(label)[1] == 1
    volume = label.sum() * 1.25 * 1.25 * 2.5 / 1000
    assert 8 < volume < 60  # millilitres in a field of view of 80 mm
    shell = ndimage.binary_dilation(label, iterations=8) & ~ndimage.binary_dilation(label, iterations=2)
    assert image[label > 0].mean() > 1.2 * image[shell].mean()


def test_the_neighbours_cannot_be_told_from_the_chamber_by_intensity():
    """A threshold that keeps nine tenths of the chamber keeps at least as much that is none."""
    for index in range(4):
        image, label = phantom_scan(0, index)
        smooth = ndimage.gaussian_filter(image.astype(float), 1.0)
        kept = smooth > np.percentile(smooth[label > 0], 10)
        assert (kept & (label == 0)).sum() > 0.5 * (kept & (label > 0)).sum()


def test_patients_differ_in_size_pose_and_units():
    scans = [phantom_scan(0, index, **SMALL) for index in range(8)]
    sizes = [label.sum() for _, label in scans]
    units = [image[label > 0].mean() for image, label in scans]
    centres = np.array([ndimage.center_of_mass(label) for _, label in scans])
    assert max(sizes) > 1.4 * min(sizes)
    assert max(units) > 1.5 * min(units)
    assert (np.ptp(centres, axis=0) > 1.0).all()


def test_sorted_names_are_labelled_then_unlabelled_then_held_out(folder):
    found = {part: sorted(p.name for p in (folder / part).iterdir()) for part in ("imagesTr", "imagesUn", "labelsTr")}
    assert found == {
        "imagesTr": [f"phantom_000{index}_0000.nii.gz" for index in (0, 1, 5, 6)],
        "imagesUn": [f"phantom_000{index}_0000.nii.gz" for index in (2, 3, 4)],
        "labelsTr": [f"phantom_000{index}.nii.gz" for index in (0, 1, 5, 6)],
    }
    assert json.loads((folder / "dataset.json").read_text())["labels"] == {"background": 0, "chamber": 1}


def test_files_hold_the_scan_whichever_way_they_are_stored(folder):
    ways = set()
    for index in (0, 1):
        stored = nibabel.load(folder / f"imagesTr/phantom_000{index}_0000.nii.gz")
        label = nibabel.load(folder / f"labelsTr/phantom_000{index}.nii.gz")
        ways.add(nibabel.aff2axcodes(stored.affine))
        image, mask = phantom_scan(0, index, **SMALL, scanner=SCANNERS[index])
        np.testing.assert_array_equal(np.asarray(nibabel.as_closest_canonical(stored).dataobj), image)
        np.testing.assert_array_equal(np.asarray(nibabel.as_closest_canonical(label).dataobj), mask)
        np.testing.assert_array_equal(stored.affine, label.affine)
        np.testing.assert_allclose(stored.header.get_zooms(), SMALL["spacing"], rtol=1e-6)
    assert ways == {("R", "A", "S"), ("L", "P", "S")}


def test_the_same_phantom_is_not_written_twice_and_another_one_not_over_it(folder):
    before = (folder / "dataset.json").stat().st_mtime_ns
    assert write_phantom(folder, labelled=2, unlabelled=3, held_out=2, **SMALL) == folder
    assert (folder / "dataset.json").stat().st_mtime_ns == before
    with pytest.raises(DatasetError, match="name a new folder"):
        write_phantom(folder, labelled=2, unlabelled=4, held_out=2, **SMALL)


def test_a_grid_too_small_is_refused():
    with pytest.raises(GeometryError, match="at least 8 voxels"):
        phantom_scan(0, 0, shape=(24, 4, 12), spacing=(1, 1, 1))
