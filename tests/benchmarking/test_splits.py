"""Splits of a protocol: by number, by name, drawn; budgets nest within a draw, and nothing held out is drawn."""

from pathlib import Path

import pytest

from semivox.benchmarking.protocols import Protocol, RunSpec, jobs_of
from semivox.benchmarking.splits import cases_of, deal, deal_jobs
from semivox.data.dataset import Dataset, read_dataset
from semivox.data.splitting import make_split
from semivox.errors import ConfigError, DatasetError
from toys import write_toy_dataset


def protocol_of(labelled=1, **others) -> Protocol:
    words = {"title": "Toys", "data": "toys", "config": "demo", "held_out": 1} | others
    return Protocol(run=(RunSpec(method="supervised", labelled=labelled),), **words)


@pytest.fixture
def patients(tmp_path) -> Dataset:
    """Return a data set of the patients a to f, the last of them without labels; b has two scans."""
    folder = write_toy_dataset(tmp_path / "toys", cases=7, unlabelled=1, shape=(6, 6, 4))
    for number, name in enumerate(["a", "b1", "b2", "c", "d", "e", "f"]):
        for file in folder.glob(f"*/case_0{number}*"):
            file.rename(file.with_name(file.name.replace(f"_0{number}", f"_{name}", 1)))
    return read_dataset(folder)


@pytest.fixture
def many(tmp_path) -> Dataset:
    """Return a data set of twelve labelled cases and one without a label."""
    return read_dataset(write_toy_dataset(tmp_path / "toys", cases=13, unlabelled=1, shape=(4, 4, 4)))


def test_counted_cases_are_one_nameless_group(patients):
    assert deal(protocol_of(), 1, patients).groups == {"": ["case_e"]}


def test_named_groups_are_held_out_together_and_other_rows_labelled_patients_are_unlabelled(patients):
    groups = {"one": ("b",), "two": ("d", "c")}
    found = deal(protocol_of(("a", "e"), held_out=groups, patients="case_(.)"), ("a",), patients)
    assert found.split.labelled == ("case_a",)
    assert found.split.unlabelled == ("case_e", "case_f")
    assert found.split.held_out == ("case_b1", "case_b2", "case_c", "case_d")
    assert found.groups == {"one": ["case_b1", "case_b2"], "two": ["case_c", "case_d"]}


def test_a_patient_stands_for_all_labelled_scans_of_it_and_without_patients_a_name_is_a_case(patients):
    assert cases_of(["b", "a"], patients, "case_(.)") == ["case_a", "case_b1", "case_b2"]
    assert cases_of(["case_b2"], patients, None) == ["case_b2"]
    with pytest.raises(ConfigError, match="no patient 'f' with a label"):
        cases_of(["f"], patients, "case_(.)")
    with pytest.raises(ConfigError, match="no case 'case_b' with a label: did you mean 'case_b"):
        cases_of(["case_b"], patients, None)


def test_subgroups_are_of_held_out_cases(many):
    protocol = protocol_of(held_out=3, subgroups={"turned": ("case_10", "case_11")})
    assert len(deal_jobs(protocol, jobs_of(protocol, Path("out")), many)) == 1
    for names, told in ((("case_02",), "subgroup 'turned': found case_02, which is not held out"),
                        (("case_99",), "no case 'case_99' with a label")):  # fmt: skip
        wrong = protocol_of(held_out=3, subgroups={"turned": names})
        with pytest.raises(ConfigError, match=told):
            deal_jobs(wrong, jobs_of(wrong, Path("out")), many)


def test_draw_0_takes_the_first_cases_and_its_split_is_that_of_before(many):
    assert deal(protocol_of(held_out=3), 4, many).split == make_split(many, labelled=4, held_out=3, hash_held_out=False)


def test_within_a_draw_budgets_nest_and_no_draw_takes_what_is_held_out(many):
    protocol = protocol_of(held_out=3, draws=6)
    first = {}
    for draw in range(6):
        splits = [deal(protocol, labelled, many, draw=draw).split for labelled in (1, 2, 4, 9)]
        labelled = [{*split.labelled} for split in splits]
        assert [len(cases) for cases in labelled] == [1, 2, 4, 9]
        assert labelled[0] < labelled[1] < labelled[2] < labelled[3]
        assert {split.held_out for split in splits} == {("case_09", "case_10", "case_11")}
        assert all({*split.pool} == {*many.cases} - {*split.held_out} for split in splits)
        first[draw] = splits[1].labelled
    assert len({*first.values()}) > 3, "other draws label other cases"
    assert deal(protocol, 2, many, draw=5).split.labelled == first[5], "and the same every time"
    with pytest.raises(DatasetError, match="asked for 10 labelled: found 9"):
        deal(protocol, 10, many, draw=5)


def test_a_draw_keeps_patients_whole(patients):
    drawn = [deal(protocol_of(patients="case_(.)"), 2, patients, draw=draw).split for draw in range(20)]
    assert {frozenset(case[5] for case in split.labelled) for split in drawn} == {
        frozenset(pair) for pair in ("ab", "ac", "ad", "bc", "bd", "cd")
    }
    assert all(("case_b1" in split.labelled) == ("case_b2" in split.labelled) for split in drawn)


@pytest.mark.parametrize("draw", [0, 2])
def test_validation_cases_come_out_of_the_budget_are_the_same_in_all_budgets_and_scored_apart(many, draw):
    protocol = protocol_of(held_out=3, validation=1, draws=3)
    whole = [{*deal(protocol_of(held_out=3), labelled, many, draw=draw).split.labelled} for labelled in (2, 4)]
    deals = [deal(protocol, labelled, many, draw=draw) for labelled in (2, 4)]
    for found, budget in zip(deals, whole, strict=True):
        assert {*found.split.labelled, *found.groups["validation"]} == budget
        assert len(found.groups["validation"]) == 1
        assert {*found.split.held_out} == {*found.groups[""], *found.groups["validation"]}
    assert deals[0].groups == deals[1].groups
    assert deals[0].groups[""] == ["case_09", "case_10", "case_11"]


def test_named_validation_cases_are_the_first_that_are_named(patients):
    found = deal(protocol_of(("d", "b"), patients="case_(.)", validation=1), ("d", "b"), patients)
    assert found.split.labelled == ("case_b1", "case_b2")
    assert found.groups == {"": ["case_e"], "validation": ["case_d"]}


def test_every_jobs_split_knows_the_hashes_of_what_it_holds_out(many):
    protocol = protocol_of((2, 3), held_out=2, draws=2, validation=1)
    jobs = jobs_of(protocol, Path("out"))
    found = deal_jobs(protocol, jobs, many)
    assert [*found] == [job.folder for job in jobs]
    for job in jobs:
        split = found[job.folder].split
        assert {*split.hashes} == {*split.held_out}
        assert split.seed == (job.draw or None)
    apart = make_split(many, labelled=3, held_out=2).hashes
    assert {name: found[jobs[0].folder].split.hashes[name] for name in apart} == apart
