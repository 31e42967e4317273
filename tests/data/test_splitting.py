"""Splits: budgets, patients, draws, files, and what is refused."""

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest

from semivox.data.dataset import Case, Dataset, read_dataset
from semivox.data.splitting import (
    Split,
    check_split,
    make_split,
    read_names,
    read_split,
    with_unlabelled,
    write_split,
)
from semivox.data.volume import content_hash, read_image
from semivox.errors import DatasetError, RunError
from toys import write_toy_dataset


def dataset_of(names: str, labelled: str, *, tests: str = "", added: str = "") -> Dataset:
    """A data set of names alone."""
    cases = {name: Case(name, (Path(name),), Path("label") if name in labelled.split() else None)
             for name in sorted(names.split())}  # fmt: skip
    return Dataset(
        Path("folder"), "names", cases, ("MRI",), ("background", "liver"), (0, 1),
        tests={name: Case(name, (Path(name),)) for name in tests.split()}, added=tuple(added.split()),
    )  # fmt: skip


TEN = "a0 a1 b0 b1 c0 c1 d0 d1 e0 e1"


def names(text: str) -> tuple[str, ...]:
    return tuple(text.split())


def test_without_a_seed_the_first_are_labelled_and_the_last_labelled_ones_held_out():
    dataset = dataset_of("a b c d e f", "a b c e")
    split = make_split(dataset, labelled=1, held_out=2, hash_held_out=False)
    assert (split.labelled, split.unlabelled, split.held_out) == (names("a"), names("b d f"), names("c e"))
    assert split.pool == names("a b d f")
    every = make_split(dataset, held_out=1, hash_held_out=False)
    assert (every.labelled, every.unlabelled, every.held_out) == (names("a b c"), names("d f"), names("e"))


def test_a_seed_draws_budgets_that_lie_within_one_another():
    dataset = dataset_of(TEN, TEN)
    splits = [make_split(dataset, labelled=n, held_out=3, seed=1, hash_held_out=False) for n in (2, 4, 7)]
    assert len({split.held_out for split in splits}) == 1
    for small, large in pairwise(splits):
        assert {*small.labelled} < {*large.labelled}
    assert [len(split.labelled) for split in splits] == [2, 4, 7]
    assert make_split(dataset, labelled=4, held_out=3, seed=1, hash_held_out=False) == splits[1]
    assert make_split(dataset, labelled=4, held_out=3, seed=2, hash_held_out=False).labelled != splits[1].labelled


@pytest.mark.parametrize("seed", [None, 0, 5])
def test_numbers_count_patients_and_no_patient_is_on_two_sides(seed):
    dataset = dataset_of(TEN + " a2 e2", TEN)
    split = make_split(dataset, labelled=1, held_out=2, patients=r"^(\w)\d", seed=seed, hash_held_out=False)
    assert (len(split.labelled), len(split.held_out)) == (2, 4)
    assert not {name[0] for name in split.pool} & {name[0] for name in split.held_out}
    # Nothing of a held-out patient stays in the pool, not even a scan without a label.
    assert {name[0] for name in dataset.cases} - {name[0] for name in split.held_out} == {n[0] for n in split.pool}


def test_lists_name_the_cases_and_may_hold_out_those_of_images_ts():
    dataset = dataset_of("a b c d", "a b c", tests="t1 t2")
    split = make_split(dataset, labelled=["c"], held_out=["t1"], hash_held_out=False)
    assert (split.labelled, split.unlabelled, split.held_out) == (names("c"), names("a b d"), names("t1"))
    assert make_split(dataset, labelled=["c"], held_out=1, hash_held_out=False).held_out == names("b")


def test_scans_of_any_name_join_a_split_with_patients():
    dataset = dataset_of("p1_a p1_b p2_a other", "p1_a p1_b p2_a", added="other")
    split = make_split(dataset, labelled=1, held_out=1, patients=r"p\d", hash_held_out=False)
    assert split.unlabelled == names("other")
    earlier = Split(names("p1_a"), names("p1_b"), names("p2_a"))
    assert with_unlabelled(earlier, dataset) == replace(earlier, unlabelled=names("other p1_b"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"labelled": 4, "held_out": 1}, "asked for 4 labelled: found 3"),
        ({"held_out": 5}, "asked for 5 held-out: found 4"),
        ({"held_out": 4}, "nothing is labelled: found 4 labelled cases (or patients), of which 4 are held out"),
        ({"labelled": 1, "held_out": 4}, "found 0 labelled cases (or patients) to take them from (4 are held out)"),
        ({"labelled": ["a0"], "held_out": 4}, "found 3 labelled cases (or patients) to take them from (1 are listed"),
        ({"labelled": ["d0"]}, "d0: listed as labelled: found no file in labelsTr"),
        ({"labelled": ["a9"]}, "a9: in the split: found no such case"),
        ({"labelled": ["a0"], "held_out": ["a0"]}, "a0: in the split: found 2 entries"),
        ({"labelled": ["a0"], "held_out": ["a1"], "patients": r"^\w"}, "a1: patient 'a' is on both sides"),
        ({"patients": "x"}, "case 'a0': found no patient by 'x'"),
        ({"patients": "("}, "found no regular expression"),
    ],
)
def test_what_cannot_be_split_is_refused_with_the_reason(arguments, words):
    with pytest.raises(DatasetError) as caught:
        make_split(dataset_of("a0 a1 b0 b1 d0", "a0 a1 b0 b1"), hash_held_out=False, **arguments)
    assert words in str(caught.value)


def test_held_out_images_are_hashed_and_no_other_is_opened(tmp_path):
    folder = write_toy_dataset(tmp_path / "toy", cases=3, unlabelled=1, shape=(4, 4, 4))
    for name in ("case_00", "case_02"):
        (folder / f"imagesTr/{name}_0000.nii.gz").write_bytes(b"no image")
    dataset = read_dataset(folder)
    split = make_split(dataset, labelled=1, held_out=1)
    assert split.hashes == {"case_01": content_hash(read_image(dataset.case("case_01").images).array)}
    write_split(split, tmp_path / "out" / "split.json")
    assert read_split(tmp_path / "out" / "split.json") == split
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["split.json"]


def test_the_digest_depends_on_the_lists_alone():
    split = Split(names("a"), names("b"), names("c"))
    assert split.digest == replace(split, hashes={"c": "0"}, seed=3).digest
    assert split.digest != Split(names("a"), names("c"), names("b")).digest


def test_the_first_fold_of_nnu_net_is_read(tmp_path):
    path = tmp_path / "splits_final.json"
    path.write_text(json.dumps([{"train": ["b", "a"], "val": ["c"]}, {"train": ["c"], "val": ["a", "b"]}]))
    assert read_split(path) == Split(names("a b"), (), names("c"))
    assert read_split(path, dataset_of("a b c d", "a b c")) == Split(names("a b"), names("d"), names("c"))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("{", "found no split"),
        ("[]", "found no list 'labelled'"),
        ('{"labelled": ["a"], "heldout": []}', "unknown key 'heldout': did you mean 'held_out'"),
        ('{"labelled": [1]}', "expected a list of case names"),
        ('{"labelled": ["a"], "patients": 3}', "expected a regular expression or null"),
        ('{"labelled": ["a"], "unlabelled": ["a"]}', "a: in the split: found 2 entries"),
    ],
)
def test_a_file_that_is_no_split_is_refused_by_name(content, words, tmp_path):
    (tmp_path / "split.json").write_text(content)
    with pytest.raises(DatasetError, match=r"split\.json") as caught:
        read_split(tmp_path / "split.json")
    assert words in str(caught.value)


def test_a_split_that_cannot_be_written_says_where(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(RunError, match=r"cannot write .*split\.json: "):
        write_split(Split(names("a")), tmp_path / "file" / "split.json")


def test_a_patient_on_both_sides_of_a_split_is_refused_unlabelled_scans_included():
    dataset = dataset_of("a1 b1 b2", "a1 b2")
    with pytest.raises(DatasetError, match="b2: patient 'b' is on both sides: found 'b1' in the pool"):
        check_split(Split(names("a1"), names("b1"), names("b2"), patients=r"^\w"), dataset)
    check_split(Split(names("a1"), (), names("b1 b2"), patients=r"^\w"), dataset)


def test_a_list_names_one_case_a_line_spaces_within_and_a_byte_order_mark_before(tmp_path):
    file = tmp_path / "cases.txt"
    file.write_bytes(b"\xef\xbb\xbfcase 1\r\n\r\n  case 2\t\r\n")
    assert read_names(file) == ["case 1", "case 2"]


@pytest.mark.parametrize(("content", "found"), [(b"\n \n", "no name"), (b"\xff\xfe", "no list"), (None, "no list")])
def test_a_list_without_a_name_is_refused_and_never_means_all_cases(tmp_path, content, found):
    if content:
        (tmp_path / "cases.txt").write_bytes(content)
    with pytest.raises(DatasetError, match=f"cases.txt: found {found}"):
        read_names(tmp_path / "cases.txt")
