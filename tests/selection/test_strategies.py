"""Strategies, worked by hand on points that a person can see."""

import numpy as np
import pytest
import torch

from semivox.selection.embedding import crops
from semivox.selection.strategies import at_random, most_doubtful, of_every_kind

# Three groups far apart: five scans at 0, three at 100, two at 200; a labelled scan at 0.
POINTS = {f"a{i}": 0.1 * i for i in range(5)} | {f"b{i}": 100 + 0.1 * i for i in range(3)} | {"c0": 200, "c1": 200.5}
VECTORS = {name: np.array([x, 1.0]) for name, x in POINTS.items()}
LABELLED = [np.array([0.05, 1.0])]


def test_random_is_a_draw_by_the_seed():
    first, again, other = (at_random(list(POINTS), 4, seed) for seed in (0, 0, 1))
    assert first == again != other
    assert len({choice.case for choice in first}) == 4
    assert len(at_random(list(POINTS), 99, 0)) == len(POINTS)


def test_the_most_doubtful_come_first_and_names_settle_draws():
    found = most_doubtful({"x": 0.2, "z": 0.5, "y": 0.5, "w": 0.1}, 3)
    assert [choice.case for choice in found] == ["y", "z", "x"]
    assert found[0].reason == "doubt 0.50"


def test_typical_takes_the_middle_of_the_largest_groups_without_a_label():
    found = of_every_kind(VECTORS, LABELLED, 2, 0)
    assert [choice.case for choice in found] == ["b1", "c0"], "b1 is in the middle of its group; of two the first"
    assert found[0].reason == "typical of 3 scans; no labelled scan is alike"


def test_mixed_takes_the_most_doubtful_of_the_same_groups():
    doubts = {name: 0.0 for name in POINTS} | {"b2": 0.3, "c1": 0.2, "a4": 0.9}
    found = of_every_kind(VECTORS, LABELLED, 2, 0, doubts=doubts)
    assert [choice.case for choice in found] == ["b2", "c1"]
    assert found[0].reason == "doubt 0.30, the largest of 3 scans; no labelled scan is alike"


def test_where_new_kinds_run_out_all_are_taken_in_turn_and_none_twice():
    found = of_every_kind(VECTORS, LABELLED, 99, 0)
    assert sorted(choice.case for choice in found) == sorted(POINTS)


def test_all_scans_alike_are_no_trouble():
    same = {name: np.ones(3) for name in "abc"}
    assert len({choice.case for choice in of_every_kind(same, [np.ones(3)], 2, 0)}) == 2


@pytest.mark.parametrize(("shape", "patch", "count"), [
    ((10, 16, 9), (8, 8, 12), 4),  # two by two by one, the last axis padded
    ((3, 10, 16), (8, 8), 12),  # three slices of two by two
])  # fmt: skip
def test_the_crops_of_an_embedding_cover_the_scan(shape, patch, count):
    voxels = torch.arange(1, 1 + np.prod(shape)).view(1, *shape)
    found = list(crops(voxels, patch))
    assert {tuple(crop.shape) for crop in found} == {(1, 1, *patch)}
    assert len(found) == count
    assert set(torch.cat(found).flatten().tolist()) - {0} == set(voxels.flatten().tolist())
