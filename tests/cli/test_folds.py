"""With four labels and none to spare: from a folder of scans to a report of out-of-fold scores, by the README's way."""

import csv
import re
import shlex
from pathlib import Path

import pytest

from semivox import write_phantom
from semivox.scoring.scores import read_scores

README = (Path(__file__).parents[2] / "README.md").read_text()
TINY = ["--set", "steps=4", "--set", "patch=[16,16,16]", "--set", "net.filters=2", "--set", "net.levels=2",
        "--set", "batch_labelled=1", "--set", "batch_unlabelled=1", "--device", "cpu"]  # fmt: skip


def lines_with_folds() -> list[list[str]]:
    """Return the words of the README's commands for people without a hold-out."""
    (block,) = [found for found in re.findall(r"^```\n(.*?)^```", README, flags=re.M | re.S) if "--folds" in found]
    return [shlex.split(line, comments=True)[1:] for line in block.splitlines()]


def test_the_readmes_way_with_four_labels_ends_in_a_report_with_out_of_fold_scores(semivox, tmp_path):
    write_phantom(tmp_path / "DATA", labelled=4, unlabelled=2, held_out=0, shape=(24, 24, 16))
    verbs = [line[0] for line in lines_with_folds()]
    assert verbs == ["check", "train", "train", "report", "predict"]
    (tmp_path / "SCANS").symlink_to(tmp_path / "DATA" / "imagesUn")
    for line in lines_with_folds():
        code, out, err = semivox(*line, *(TINY if line[0] == "train" else []))
        assert code == 0, err
        if line[0] == "train":
            assert "fold 4 of 4" in err
            assert "4 cases, " in out
            assert out.endswith("scores.csv\n")
    labelled = [path.name.removesuffix(".nii.gz") for path in sorted((tmp_path / "DATA" / "labelsTr").iterdir())]
    (report,) = [line for line in lines_with_folds() if line[0] == "report"]
    tables = [Path(word) for word in report if word.endswith("scores.csv")]
    for table in tables:
        assert [row["case"] for row in csv.DictReader(table.read_text().splitlines())] == labelled
        assert read_scores(table).prediction["out_of_fold"]
    page = Path("report.html").read_text()
    assert "averaged_match, supervised: out-of-fold scores" in page
    assert "ot comparable" not in page
    assert "averaged_match" in page
    assert len([*Path("masks").glob("*.nii.gz")]) == 2, "new scans get the mean of all folds"


@pytest.mark.parametrize("number", ["1", "5"])
def test_a_number_of_folds_that_the_labels_do_not_give_is_one_line(number, semivox, tmp_path):
    write_phantom(tmp_path / "data", labelled=4, unlabelled=1, held_out=0, shape=(12, 12, 8))
    code, out, err = semivox("train", "data", "--folds", number, "-o", "run")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "expected a number from 2 to that of labelled cases, 4" in err
    assert not Path("run").exists()


def test_a_budget_that_is_spent_says_so_and_the_same_words_go_on(semivox, tmp_path):
    write_phantom(tmp_path / "data", labelled=2, unlabelled=1, held_out=0, shape=(12, 12, 8))
    small = ["--method", "mean_teacher", "--set", "steps=2", "--set", "patch=[8,8,8]"]
    words = ["train", "data", "--folds", "2", "-o", "run", *TINY, *small, "--resume"]
    ends = [semivox(*words, "--budget", "0.001s") for _ in range(3)]
    assert [code for code, _, _ in ends] == [3, 3, 0]
    assert ["--resume goes on" in err for _, _, err in ends] == [True, True, False]
    assert Path("run/out_of_fold/scores.csv").exists()
