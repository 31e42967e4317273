"""The pseudo-label store: a seeded partition, labels that are there whole or not at all, and cuts."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from semivox.data.dataset import read_dataset
from semivox.data.pseudo import Key, PseudoLabels, PseudoStore, partition
from semivox.data.splitting import training_split
from semivox.errors import RunError
from toys import write_toy_dataset

NAMES = [f"case_{index}" for index in range(7)]


def a_label(value: int = 1, shape: tuple[int, ...] = (3, 4, 5)) -> tuple[np.ndarray, np.ndarray]:
    return np.full(shape, value, np.int64), np.full(shape, 0.75, np.float32)


def refuse() -> tuple[np.ndarray, np.ndarray]:
    raise AssertionError("made again")


def test_the_parts_are_a_function_of_seed_names_and_number_and_of_equal_size():
    parts = partition(NAMES, 3, seed=0)
    assert partition(NAMES[::-1], 3, seed=0) == parts
    assert sorted(np.bincount(list(parts.values()))) == [2, 2, 3]
    assert partition(NAMES, 1, seed=0) == dict.fromkeys(NAMES, 0)
    others = [partition(NAMES, 3, seed=seed) for seed in range(1, 6)]
    assert all(other.keys() == parts.keys() for other in others)
    assert any(other != parts for other in others)
    # A resumed run of an older version must find the same parts.
    assert list(partition(NAMES, 2, seed=0).values()) == [1, 1, 0, 1, 0, 0, 0]


def test_a_kept_label_is_read_as_bytes_and_half_floats_mapped_and_is_made_once(tmp_path):
    store, key = PseudoStore(tmp_path / "pseudo"), Key("case_1", 0, 2)
    store.keep(key, a_label)
    store.keep(key, refuse)
    label, weight = store.read(key)
    assert (label.dtype, weight.dtype) == (np.uint8, np.float16)
    assert not label.flags.owndata
    assert not label.flags.writeable
    np.testing.assert_array_equal(label, 1)
    np.testing.assert_array_equal(weight, 0.75)


@pytest.mark.parametrize("other", [Key("case_2", 0, 2), Key("case_1", 1, 2), Key("case_1", 0, 1)])
def test_case_part_and_generation_tell_labels_apart(other, tmp_path):
    store, key = PseudoStore(tmp_path), Key("case_1", 0, 2)
    store.keep(key, a_label)
    with pytest.raises(RunError, match=f"'{other.case}' is missing or damaged, expected in .* put the folder back"):
        store.read(other)
    store.keep(other, lambda: a_label(2))
    assert [int(store.read(k)[0].max()) for k in (key, other)] == [1, 2]


@pytest.mark.parametrize("name", ["label.npy", "weight.npy", "entry.json"])
def test_a_damaged_label_is_refused_when_read_and_made_again_when_kept(name, tmp_path):
    store, key = PseudoStore(tmp_path), Key("case_1", 0, 1)
    store.keep(key, a_label)
    (spoilt,) = tmp_path.rglob(name)
    spoilt.write_bytes(spoilt.read_bytes()[:20])
    with pytest.raises(RunError, match="missing or damaged"):
        store.read(key)
    store.keep(key, lambda: a_label(2))
    assert int(store.read(key)[0].max()) == 2


def test_an_edited_label_is_refused_and_one_of_before_there_were_sums_is_read(tmp_path):
    store, key = PseudoStore(tmp_path), Key("case_1", 0, 1)
    store.keep(key, a_label)
    (listed,) = tmp_path.rglob("entry.json")
    (label,) = tmp_path.rglob("label.npy")
    np.save(label, 1 - np.load(label))
    with pytest.raises(RunError, match="missing or damaged"):
        store.read(key)
    found = json.loads(listed.read_text())
    listed.write_text(json.dumps({"arrays": found["arrays"], "facts": found["facts"]}))
    store.read(key)


def test_a_making_that_fails_leaves_nothing(tmp_path):
    store = PseudoStore(tmp_path)
    with pytest.raises(AssertionError, match="made again"):
        store.keep(Key("case_1", 0, 1), refuse)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


def test_a_disk_that_takes_nothing_is_named_with_what_to_do(tmp_path):
    (tmp_path / "pseudo").write_text("a file where the folder should be")
    with pytest.raises(RunError, match=r"cannot write the pseudo label of 'case_1' .* go on with --resume"):
        PseudoStore(tmp_path / "pseudo").keep(Key("case_1", 0, 1), a_label)


def test_a_cut_removes_later_generations_and_what_killed_processes_left(tmp_path):
    store = PseudoStore(tmp_path)
    for generation in (1, 2, 10):
        store.keep(Key("case_1", 0, generation), a_label)
    left = tmp_path / "generation_001" / "part_0" / ".unfinished-1"
    left.mkdir()
    store.cut(2)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["generation_001", "generation_002"]
    assert not left.exists()
    store.read(Key("case_1", 0, 2))
    store.cut(0)
    assert not any(tmp_path.iterdir())
    PseudoStore(tmp_path / "never made").cut(0)


def test_labels_of_a_stage_are_found_by_case_and_hold_no_file_open(tmp_path):
    store = PseudoStore(tmp_path)
    keys = [Key(name, 0, 1) for name in NAMES]
    for value, key in enumerate(keys):
        store.keep(key, lambda value=value: a_label(value))
    before = open_files()
    labels = PseudoLabels(store, keys, [(3, 4, 5)] * len(keys))
    assert [int(labels[name][0].max()) for name in labels] == list(range(7))
    assert len(labels) == 7
    assert open_files() == before


def open_files() -> int:
    listed = Path("/proc/self/fd")
    return len(os.listdir(listed)) if listed.exists() else 0


def test_labels_of_another_shape_than_the_image_or_missing_are_refused_at_once(tmp_path):
    store, key = PseudoStore(tmp_path), Key("case_1", 0, 1)
    with pytest.raises(RunError, match="'case_1' is missing"):
        PseudoLabels(store, [key], [(3, 4, 5)])
    store.keep(key, a_label)
    with pytest.raises(RunError, match=r"'case_1' .* has \(3, 4, 5\) voxels, its prepared image has \(3, 4, 6\)"):
        PseudoLabels(store, [key], [(3, 4, 6)])


@pytest.mark.parametrize("case", ["unfinished-x", ".unfinished-x"])
def test_a_case_that_is_named_like_what_is_half_written_keeps_its_pseudo_label(case, tmp_path):
    folder = write_toy_dataset(tmp_path / "toy", cases=2, unlabelled=1, shape=(6, 5, 4))
    (folder / "imagesTr/case_01_0000.nii.gz").rename(folder / f"imagesTr/{case}_0000.nii.gz")
    unlabelled = training_split(read_dataset(folder), None).unlabelled
    assert unlabelled == ((case,) if case[0] != "." else ())  # hidden files are no scans
    store = PseudoStore(tmp_path / "pseudo")
    for name in unlabelled:
        store.keep(Key(name, 0, 1), lambda: (np.ones((6, 5, 4), np.uint8), np.ones((6, 5, 4), np.float16)))
        store.cut(1)
        assert store.read(Key(name, 0, 1))[0].all()
