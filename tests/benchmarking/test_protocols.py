"""Protocol files: numbers or names, rows in order, and every mistake told with the key and what would do."""

import re
from pathlib import Path

import pytest

from semivox.benchmarking.protocols import Protocol, RunSpec, cases_of, groups_of, jobs_of, read_protocol, split_of
from semivox.data.dataset import read_dataset
from semivox.errors import ConfigError
from toys import write_toy_dataset

COUNTED = """
[bench]
title = "Toys"
data = "toys"
config = "demo"
held_out = 1

[[bench.run]]
method = "supervised"
labelled = 1
seeds = [0, 1]

[[bench.run]]
method = "mean_teacher"
labelled = 2
set = { "method.weight" = 0.5 }
"""
NAMED = """
[bench]
title = "Toys"
data = "toys"
config = "demo"
patients = "case_(.)"
further_controls = ["teacher"]

[bench.held_out]
one = ["b"]
two = ["d", "c"]

[[bench.run]]
method = "supervised"
labelled = ["a", "e"]

[[bench.run]]
method = "mean_teacher"
label = "teacher"
labelled = ["a"]
"""


@pytest.fixture
def read(tmp_path):
    """Read a protocol from its text, with one part of it changed."""

    def write(text, old="", new=""):
        assert old in text
        (tmp_path / "toys.toml").write_text(text.replace(old, new, 1))
        return read_protocol(tmp_path / "toys.toml")

    return write


@pytest.fixture
def patients(tmp_path):
    """Return a data set of the patients a to f, the last of them without labels; b has two scans."""
    folder = write_toy_dataset(tmp_path / "toys", cases=7, unlabelled=1, shape=(6, 6, 4))
    for number, name in enumerate(["a", "b1", "b2", "c", "d", "e", "f"]):
        for file in folder.glob(f"*/case_0{number}*"):
            file.rename(file.with_name(file.name.replace(f"_0{number}", f"_{name}", 1)))
    return read_dataset(folder)


def test_all_rows_come_with_their_first_seed_before_any_with_its_second(read):
    jobs = jobs_of(read(COUNTED), Path("out"))
    assert [(job.spec.method, job.seed) for job in jobs] == [("supervised", 0), ("mean_teacher", 0), ("supervised", 1)]
    assert jobs[1].settings == {"seed": 0, "label": "mean_teacher", "method": {"weight": 0.5}}


def test_two_rows_of_one_method_and_budget_need_labels(read):
    same = '"supervised"\nlabelled = 1'
    with pytest.raises(ConfigError, match="twice: give one of the rows another label"):
        jobs_of(read(COUNTED, '"mean_teacher"\nlabelled = 2', same), Path("out"))
    found = read(COUNTED, '"mean_teacher"\nlabelled = 2', f'{same}\nlabel = "control"')
    assert [job.label for job in jobs_of(found, Path("out"))] == ["supervised", "control", "supervised"]


def test_counted_cases_are_one_nameless_group(read, patients):
    protocol = read(COUNTED)
    (job, *_) = jobs_of(protocol, Path("out"))
    assert job.scores == {"": Path("out/supervised-1-seed0/scores.csv")}
    assert groups_of(protocol, split_of(protocol, 1, patients), patients) == {"": ["case_e"]}


def test_each_named_group_has_scores_of_its_own_and_all_are_held_out(read, patients):
    protocol = read(NAMED)
    jobs = jobs_of(protocol, Path("out"))
    assert jobs[0].folder == Path("out/supervised-2-seed0"), "two patients"
    assert jobs[1].scores == {
        "one": Path("out/teacher-1-seed0/scores-one.csv"),
        "two": Path("out/teacher-1-seed0/scores-two.csv"),
    }
    split = split_of(protocol, ("a",), patients)
    assert split.labelled == ("case_a",)
    assert split.unlabelled == ("case_e", "case_f"), "other rows' labelled patients are unlabelled here"
    assert split.held_out == ("case_b1", "case_b2", "case_c", "case_d")
    groups = {"one": ["case_b1", "case_b2"], "two": ["case_c", "case_d"]}
    assert groups_of(protocol, split, patients) == groups


def test_a_patient_stands_for_all_labelled_scans_of_it_and_without_patients_a_name_is_a_case(patients):
    assert cases_of(["b", "a"], patients, "case_(.)") == ["case_a", "case_b1", "case_b2"]
    assert cases_of(["case_b2"], patients, None) == ["case_b2"]
    with pytest.raises(ConfigError, match="no patient 'f' with a label"):
        cases_of(["f"], patients, "case_(.)")
    with pytest.raises(ConfigError, match="no case 'case_b' with a label: did you mean 'case_b"):
        cases_of(["case_b"], patients, None)


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ('labelled = ["a"]', "labelled = []", r"'labelled' .*row 2.*found \[\], but input should be a whole number"),
        ('labelled = ["a"]', "labelled = true", "found True.*a list of names, each once"),
        ('labelled = ["a"]', "labelled = 0", "found 0"),
        ('labelled = ["a"]', 'labelled = ["a", "a"]', "found .*a list of names, each once"),
        ('labelled = ["a"]', "labelled = [1]", r"found \[1\]"),
        ('one = ["b"]', 'one = "b"', "'held_out' .*a table of lists of names, each name once"),
        ('one = ["b"]', 'one = ["c"]', "'held_out' .*each name once"),
        ('one = ["b"]', '"../one" = ["b"]', "'held_out' .*a table of lists"),
        ('["teacher"]', '["techer"]', "no row is the further control 'techer': did you mean 'teacher'"),
    ],
)
def test_what_is_neither_a_number_nor_names_is_refused_with_its_key(old, new, text, read):
    with pytest.raises(ConfigError, match=text):
        read(NAMED, old, new)


def test_a_protocol_file_that_is_absent_says_so(tmp_path):
    with pytest.raises(ConfigError, match="no protocol file"):
        read_protocol(tmp_path / "none.toml")


PAGE = Path(__file__).parents[2] / "docs" / "bench.md"


def test_the_page_of_protocols_has_every_key_and_its_example_is_one(tmp_path):
    text = PAGE.read_text()
    for heading, model in (("`[bench]`", Protocol), ("`[[bench.run]]`", RunSpec)):
        table = text.split(f"## Keys of {heading}\n")[1].split("\n## ")[0]
        assert re.findall(r"^\| `(\w+)` \|", table, flags=re.MULTILINE) == list(model.model_fields), heading
    (example,) = re.findall(r"^```toml\n(.*?)^```", text, flags=re.DOTALL | re.MULTILINE)
    file = tmp_path / "example.toml"
    file.write_text(example)
    jobs = jobs_of(read_protocol(file), tmp_path)
    assert [job.folder.name for job in jobs[:2]] == ["supervised-4-seed0", "mean-teacher-4-seed0"]
    assert len(jobs) == 6
