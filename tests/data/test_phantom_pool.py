"""The pool of the phantom: what its few labelled scans cover, and what scanners and anatomies do to a scan."""

import json
from collections import Counter

import numpy as np
import pytest
from scipy import ndimage

from semivox.data.phantom import phantom_scan, write_phantom
from semivox.data.phantom_pool import ANATOMIES, COVERED, SCANNERS, kind_of

GRID = {"shape": (32, 32, 16), "spacing": (2.5, 2.5, 5.0)}
USUAL = [phantom_scan(0, index, **GRID) for index in range(4)]


def part(found, name):
    return next(one for one in found if one.name == name)


def of_scanner(name):
    return [phantom_scan(0, index, **GRID, scanner=part(SCANNERS, name)) for index in range(4)]


def of_anatomy(name):
    return [phantom_scan(0, index, **GRID, anatomy=part(ANATOMIES, name))[1] for index in range(4)]


def wall(scan):
    """Return how bright the voxels at the chamber's outside are, as a part of it."""
    image, label = scan
    around = ndimage.binary_dilation(label) & (label == 0)
    return image[around].mean() / image[label > 0].mean()


def roughness(scan):
    image, label = scan
    inside = ndimage.binary_erosion(label)
    return image[inside].std() / image[inside].mean()


def test_labelled_scans_have_some_scanners_and_the_usual_anatomy_and_the_others_everything_equally_often():
    labelled = {kind_of(index, labelled=True) for index in range(8)}
    assert labelled == {(scanner, ANATOMIES[0]) for scanner in SCANNERS[:COVERED]}
    others = Counter(kind_of(index, labelled=False) for index in range(4, 28))
    assert len(others) == len(SCANNERS) * len(ANATOMIES)
    assert set(others.values()) == {2}
    assert set(others) > labelled


def test_the_folder_says_which_scan_is_what(tmp_path):
    data = write_phantom(tmp_path / "data", labelled=2, unlabelled=2, held_out=2, shape=(12, 12, 8))
    kinds = json.loads((data / "dataset.json").read_text())["kinds"]
    assert kinds == {
        "phantom_0000": "usual scanner, usual anatomy",
        "phantom_0001": "low field, usual anatomy",
        "phantom_0002": "little contrast agent, usual anatomy",
        "phantom_0003": "surface coil, usual anatomy",
        "phantom_0004": "usual scanner, turned patient",
        "phantom_0005": "low field, turned patient",
    }


@pytest.mark.parametrize("scanner", SCANNERS, ids=lambda scanner: scanner.name)
def test_a_scanner_changes_the_image_and_nothing_of_the_patient(scanner):
    for (image, label), (usual, same) in zip(of_scanner(scanner.name), USUAL, strict=True):
        np.testing.assert_array_equal(label, same)
        assert (image == usual).all() == (scanner is SCANNERS[0])


def test_each_scanner_does_what_its_name_says():
    for dim, usual in zip(of_scanner("little contrast agent"), USUAL, strict=True):
        assert wall(dim) > wall(usual), "the wall is nearly as bright as the blood"
    usual, noisy, shaded = (
        np.mean([roughness(scan) for scan in scans])
        for scans in (USUAL, of_scanner("low field"), of_scanner("surface coil"))
    )
    assert noisy > 1.2 * usual, "there is noise"
    assert shaded > 1.2 * usual, "blood is brighter near the coil"


def test_a_dilated_chamber_is_larger_and_a_turned_one_lies_elsewhere():
    others = map(of_anatomy, ("dilated chamber", "turned patient"))
    for dilated, turned, (_, usual) in zip(*others, USUAL, strict=True):
        assert dilated.sum() > 1.2 * usual.sum()
        assert 0.7 < turned.sum() / usual.sum() < 1.4
        assert 2 * (turned * usual).sum() < 0.92 * (turned.sum() + usual.sum())
