"""Protocol files: numbers or names, rows in order, and every mistake told with the key and what would do."""

import re
from pathlib import Path

import pytest

from semivox.benchmarking.protocols import Protocol, RunSpec, jobs_of, read_protocol
from semivox.errors import ConfigError

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


def test_each_named_group_has_scores_of_its_own(read):
    assert jobs_of(read(COUNTED), Path("out"))[0].scores == {"": Path("out/supervised-1-seed0/scores.csv")}
    jobs = jobs_of(read(NAMED), Path("out"))
    assert jobs[0].folder == Path("out/supervised-2-seed0"), "two patients"
    assert jobs[1].scores == {
        "one": Path("out/teacher-1-seed0/scores-one.csv"),
        "two": Path("out/teacher-1-seed0/scores-two.csv"),
    }


def test_a_row_with_several_budgets_and_draws_has_a_job_each_and_its_folder_names_them(read):
    protocol = read(COUNTED, "labelled = 1\nseeds = [0, 1]", "labelled = [1, 3]\nseeds = [0, 1]")
    protocol = protocol.model_copy(update={"draws": 2})
    assert protocol.groups == ("",)
    assert protocol.model_copy(update={"validation": 1}).groups == ("", "validation")
    jobs = jobs_of(protocol, Path("out"))
    assert [job.folder.name for job in jobs] == [
        "supervised-1-seed0", "supervised-3-seed0", "mean-teacher-2-seed0",
        "supervised-1-draw1-seed0", "supervised-3-draw1-seed0", "mean-teacher-2-draw1-seed0",
        "supervised-1-seed1", "supervised-3-seed1", "supervised-1-draw1-seed1", "supervised-3-draw1-seed1",
    ]  # fmt: skip
    assert [(job.labelled, job.draw, job.seed) for job in jobs[3:5]] == [(1, 1, 0), (3, 1, 0)]


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ('labelled = ["a"]', "labelled = []", r"'labelled' .*row 2.*found \[\], but input should be a whole number"),
        ('labelled = ["a"]', "labelled = true", "found True.*a list of names, each once"),
        ('labelled = ["a"]', "labelled = 0", "found 0"),
        ('labelled = ["a"]', 'labelled = ["a", "a"]', "found .*a list of names, each once"),
        ('labelled = ["a"]', "labelled = [1, 1]", r"found \[1, 1\].*a list of such, or a list of names, each once"),
        ('labelled = ["a"]', 'labelled = [1, "a"]', r"found \[1, 'a'\]"),
        ('labelled = ["a"]', "labelled = [0]", r"found \[0\]"),
        ('patients = "case_(.)"', "draws = 2", "row 1 names its labelled cases, and draws = 2: only numbers"),
        ('patients = "case_(.)"', "draws = 0", "'draws' .*found 0"),
        ('patients = "case_(.)"', "validation = 1", "row 2 has 1 labelled, of which validation = 1 takes all"),
        ('one = ["b"]', 'validation = ["b"]', "the group 'validation' is that of the key validation"),
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
