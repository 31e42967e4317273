"""Folds: every labelled case is held out once, with all of its patient, and nothing else moves."""

from dataclasses import replace

import pytest

from semivox.data.dataset import read_dataset
from semivox.data.folds import fold_splits, parts_of, with_hashes
from semivox.data.splitting import Split, check_split, make_split
from semivox.errors import ConfigError
from toys import write_toy_dataset

FRAMES = Split(
    labelled=("a_1", "a_2", "b_1", "c_1", "d_1"),
    unlabelled=("a_3", "b_2", "other", "z_1"),
    held_out=("e_1",),
    patients="^[a-e]",
    hashes={"e_1": "known"},
)


@pytest.mark.parametrize("folds", [2, 3, 4, 7])
def test_every_labelled_case_is_held_out_once_and_trained_on_in_all_other_folds(folds):
    split = Split(tuple(f"case_{n}" for n in range(7)), ("free",), ("sealed",))
    splits = fold_splits(split, folds)
    assert len(splits) == folds
    held_out = [name for fold in splits for name in fold.held_out if name != "sealed"]
    assert sorted(held_out) == list(split.labelled)
    for fold in splits:
        assert sorted({*fold.labelled, *fold.held_out}) == [*split.labelled, "sealed"]
        assert (fold.unlabelled, "sealed" in fold.held_out) == (("free",), True)
    sizes = [len(part) for part in parts_of(split, folds)]
    assert max(sizes) - min(sizes) <= 1


def test_neighbours_by_name_come_into_different_parts():
    split = Split(("north_1", "north_2", "south_1", "south_2"))
    assert parts_of(split, 2) == (("north_1", "south_1"), ("north_2", "south_2"))


def test_a_patient_stays_in_one_part_and_none_of_its_other_scans_is_trained_on():
    assert parts_of(FRAMES, 2) == (("a_1", "a_2", "c_1"), ("b_1", "d_1"))
    first, second = fold_splits(FRAMES, 2)
    assert first.held_out == ("a_1", "a_2", "a_3", "c_1", "e_1")
    assert (first.labelled, first.unlabelled) == (("b_1", "d_1"), ("b_2", "other", "z_1"))
    assert second.held_out == ("b_1", "b_2", "d_1", "e_1")


def test_a_seed_deals_the_cases_out_in_its_own_order_and_always_the_same():
    split = Split(tuple(f"case_{n}" for n in range(9)), seed=1)
    assert parts_of(split, 3) == parts_of(split, 3)
    assert len({parts_of(replace(split, seed=seed), 3) for seed in (None, 1, 2, 3)}) == 4


@pytest.mark.parametrize(("folds", "most"), [(1, 5), (0, 5), (6, 5), (5, 4)])
def test_there_are_two_folds_at_least_and_no_more_than_cases_or_patients(folds, most):
    split = replace(FRAMES, patients=None) if most == 5 else FRAMES
    with pytest.raises(ConfigError, match=f"found {folds}, expected a number from 2 to .*{most}"):
        fold_splits(split, folds)


def test_folds_fit_their_data_set_and_hold_hashes_of_all_that_they_hold_out(tmp_path):
    dataset = read_dataset(write_toy_dataset(tmp_path / "data", cases=6, unlabelled=1))
    whole = make_split(dataset, labelled=4, held_out=1)
    (dataset.folder / "imagesTr" / f"{whole.held_out[0]}_0000.nii.gz").unlink()  # it is not opened again
    for fold in fold_splits(whole, 4):
        check_split(fold, dataset)
        sealed = with_hashes(fold, whole, dataset)
        assert {*sealed.hashes} == {*fold.held_out}
        assert sealed.hashes[whole.held_out[0]] == whole.hashes[whole.held_out[0]]
        assert sealed.digest == fold.digest
