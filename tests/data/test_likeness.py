"""Likeness: scans of one patient are alike, other ones are not, and registered ones only beyond what is usual."""

import os
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from scipy import ndimage

from semivox.data.dataset import read_dataset
from semivox.data.likeness import ALIKE, Likeness, alike_pairs, likeness
from semivox.data.phantom import phantom_scan
from semivox.data.volume import read_image

SOURCE = Path(os.environ.get("SEMIVOX_DATA", ""))


def smooth(seed: int, shape: tuple[int, ...] = (24, 20, 10)) -> np.ndarray:
    return ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=shape), 3).astype(np.float32)


def of(values: np.ndarray, affine: np.ndarray | None = None) -> Likeness:
    found = likeness(values, np.eye(4) if affine is None else affine)
    assert found is not None
    return found


def test_a_scan_is_recognised_through_noise_gain_and_a_bright_speck():
    again = 30 * smooth(0) + 7 + np.random.default_rng(9).normal(scale=0.5, size=(24, 20, 10)).astype(np.float32)
    again[3, 3, 3] = 1e6
    found = alike_pairs({"a": of(smooth(0)), "b": of(smooth(1))}, {"again": of(again), "c": of(smooth(2))})
    assert [(ours, theirs) for ours, theirs, _ in found] == [("a", "again")]
    assert found[0][2] > ALIKE


def test_scans_of_other_grids_are_never_alike():
    moved = np.eye(4)
    moved[0, 3] = 0.02
    assert alike_pairs({"a": of(smooth(0))}, {"moved": of(smooth(0), moved), "cut": of(smooth(0)[:, :-1])}) == []
    moved[0, 3] = 0.005
    assert len(alike_pairs({"a": of(smooth(0))}, {"moved": of(smooth(0), moved)})) == 1


def test_where_all_scans_are_alike_only_those_are_suspected_that_are_far_more_so():
    heads = {f"head {seed}": of(4 * smooth(0) + smooth(seed)) for seed in range(1, 9)}
    values = sorted(float(a.thumbnail @ b.thumbnail) for a, b in combinations(heads.values(), 2))
    assert values[0] > ALIKE, "the trap of this test"
    ours = {name: heads[name] for name in [*heads][:4]}
    theirs = {name: heads[name] for name in [*heads][4:]}
    assert alike_pairs(ours, theirs) == []
    theirs["again"] = of(4 * smooth(0) + smooth(1) + 0.1 * smooth(20))
    assert [pair[:2] for pair in alike_pairs(ours, theirs)] == [("head 1", "again")]


def test_scans_without_contrast_or_of_no_numbers_are_not_recognised_by_anything():
    assert likeness(np.ones((4, 4, 4)), np.eye(4)) is None
    assert likeness(np.full((4, 4, 4), np.nan), np.eye(4)) is None


def test_no_two_patients_of_the_phantom_are_alike():
    scans = {str(index): of(phantom_scan(0, index)[0]) for index in range(8)}
    assert alike_pairs({"0": scans.pop("0"), "1": scans.pop("1")}, scans) == []


@pytest.mark.data
@pytest.mark.parametrize("name", ["acdc", "hippocampus", "la2018", "nuclei"])
def test_frames_of_one_patient_are_told_from_scans_of_others_in_real_sets(name):
    if not (SOURCE / name / "dataset.json").exists():
        pytest.skip(f"SEMIVOX_DATA names no folder that holds '{name}'")
    dataset = read_dataset(SOURCE / name)
    found = {}
    for case in [*dataset.cases.values(), *dataset.tests.values()]:
        volume = read_image(case.images)
        found[case.name] = of(volume.array[0], volume.affine)
    alike = {frozenset(pair[:2]) for pair in alike_pairs(found, found) if pair[0] != pair[1]}
    patients = {case: case.split("_frame")[0] for case in found}
    expected = {frozenset(pair) for pair in combinations(found, 2) if patients[pair[0]] == patients[pair[1]]}
    if name == "acdc":  # the published set holds two patients of the same images
        same = [f"patient07{one}_frame0{frame}" for one in (4, 6) for frame in (1, 2)]
        expected |= {frozenset(pair) for pair in combinations(same, 2)}
    assert alike == expected
