"""A round of labelling by its verbs: a worklist, masks corrected, labels added; and what is refused."""

import csv
import json
import shutil

import nibabel as nib
import numpy as np
import pytest

from reviewing_folders import write_review
from semivox.cli.main import main
from semivox.data.dataset import read_dataset
from semivox.data.folds import parts_of
from semivox.data.splitting import make_split, write_split
from semivox.errors import DatasetError
from semivox.files import file_digest
from semivox.quality.estimate import estimate_quality
from semivox.scoring.evaluation import evaluate_masks
from toys import write_toy_dataset


@pytest.fixture(scope="module")
def trained(toy_data, train_toy, tmp_path_factory):
    """A run on toys: case_03 and case_04 have no label."""
    folder = tmp_path_factory.mktemp("selection")
    train_toy(folder / "run")
    return folder / "run"


@pytest.fixture
def semivox(monkeypatch, capsys):
    def call(*words):
        monkeypatch.setattr("sys.argv", ["semivox", *map(str, words)])
        with pytest.raises(SystemExit) as caught:
            main()
        return caught.value.code, *capsys.readouterr()

    return call


def rows_of(file):
    with file.open() as handle:
        return list(csv.DictReader(handle))


@pytest.mark.parametrize("strategy", ["random", "uncertainty", "typical", "mixed"])
def test_every_strategy_writes_a_worklist_with_masks_to_correct(semivox, trained, toy_data, tmp_path, strategy):
    words = ["next", trained, toy_data, "-o", tmp_path / "list.csv", "--count", 1, "--strategy", strategy]
    code, out, _ = semivox(*words, "--device", "cpu")
    assert code == 0
    [row] = rows_of(tmp_path / "list.csv")
    assert row["case"] in ("case_03", "case_04")
    assert row["reason"] in out
    mask = nib.load(row["mask"])
    assert mask.shape == nib.load(row["image"]).shape
    assert (tmp_path / "list" / f"{row['case']}.nii.gz").exists()


def test_estimates_of_quality_say_how_doubtful_a_scan_is(semivox, trained, toy_data, tmp_path):
    assert semivox("predict", trained, toy_data / "imagesTr", "-o", tmp_path / "masks", "--device", "cpu")[0] == 0
    estimate_quality(trained, tmp_path / "masks", output=tmp_path / "q.csv", device="cpu")
    text = (tmp_path / "q.csv").read_text().splitlines()
    cells = [line.split(",") for line in text[1:]]
    for line in cells:
        line[3] = "0.9" if line[0] == "case_03" else "0.2"
    (tmp_path / "q.csv").write_text("\n".join([text[0], *(",".join(line) for line in cells)]) + "\n")
    words = ["next", trained, toy_data, "-o", tmp_path / "list.csv", "--count", 1, "--strategy", "uncertainty"]
    code, out, _ = semivox(*words, "--quality", tmp_path / "q.csv", "--device", "cpu")
    assert code == 0
    assert out.startswith("1  case_04  doubt 0.80\n")
    (tmp_path / "q.csv").write_text("\n".join([text[0], ",".join(cells[0])]) + "\n")
    code, _, err = semivox(*words, "--quality", tmp_path / "q.csv", "--device", "cpu")
    assert code == 2
    assert "found no row of" in err


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--strategy", "randon"], "did you mean 'random'"),
        (["--count", "0"], "count"),
        (["-o", "list.txt"], "a .csv file"),
    ],
)
def test_what_no_worklist_follows_from_is_refused(semivox, trained, toy_data, tmp_path, monkeypatch, words, text):
    monkeypatch.chdir(tmp_path)
    code, _, err = semivox("next", trained, toy_data, *words)
    assert code == 2
    assert text in err
    assert not list(tmp_path.iterdir())


@pytest.fixture
def corrected(tmp_path):
    """A data set and corrected masks of its two scans without a label."""
    data = write_toy_dataset(tmp_path / "data", cases=4)
    (tmp_path / "corrected").mkdir()
    for name in ("case_02", "case_03"):
        shutil.copy(data / "labelsTr" / "case_00.nii.gz", tmp_path / "corrected" / f"{name}.nii.gz")
    return tmp_path


def test_corrected_masks_become_labels(semivox, corrected):
    code, out, _ = semivox("add-labels", corrected / "data", corrected / "corrected")
    assert code == 0
    assert len(out.splitlines()) == 2
    assert read_dataset(corrected / "data").labelled == ("case_00", "case_01", "case_02", "case_03")


def test_a_label_is_replaced_only_when_asked_for(semivox, corrected):
    place, mask = corrected / "data" / "labelsTr" / "case_01.nii.gz", corrected / "corrected" / "case_01.nii.gz"
    shutil.copy(corrected / "corrected" / "case_02.nii.gz", mask)
    before = place.read_bytes()
    code, _, err = semivox("add-labels", corrected / "data", corrected / "corrected")
    assert code == 2
    assert "'case_01' has the label case_01.nii.gz: give --replace" in err
    assert place.read_bytes() == before
    assert len(read_dataset(corrected / "data").labelled) == 2, "the others were not copied either"
    assert semivox("add-labels", corrected / "data", corrected / "corrected", "--replace")[0] == 0
    assert place.read_bytes() == mask.read_bytes() != before


def poisoned(corrected, change):
    file = corrected / "corrected" / "case_02.nii.gz"
    image = nib.load(file)
    array, affine = change(np.asarray(image.dataobj).copy(), image.affine.copy())
    nib.save(nib.Nifti1Image(array, affine), file)


def with_a_nine(array, affine):
    array[0, 0, 0] = 9
    return array, affine


def shifted(array, affine):
    affine[0, 3] += 5
    return array, affine


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda c: poisoned(c, with_a_nine), "found the values [9], expected those of dataset.json, [0, 1]"),
        (lambda c: poisoned(c, shifted), "case_02.nii.gz: origin"),
        (lambda c: (c / "corrected/case_02.nii.gz").rename(c / "corrected/case_20.nii.gz"), "no scan 'case_20'"),
        (lambda c: (c / "corrected/case_02.nii.gz").write_bytes(b"no image"), "case_02"),
        (lambda c: shutil.rmtree(c / "corrected"), "there is no"),
    ],
    ids=["values", "grid", "name", "broken", "gone"],
)
def test_one_wrong_mask_keeps_all_out(semivox, corrected, spoil, text):
    spoil(corrected)
    code, _, err = semivox("add-labels", corrected / "data", corrected / "corrected")
    assert code == 2
    assert text in err
    assert len(read_dataset(corrected / "data").labelled) == 2


def test_what_the_split_holds_out_gets_no_label(semivox, corrected):
    data = corrected / "data"
    write_split(make_split(read_dataset(data), labelled=1, held_out=["case_01"]), corrected / "split.json")
    (data / "labelsTr" / "case_01.nii.gz").rename(corrected / "corrected" / "case_01.nii.gz")
    code, _, err = semivox("add-labels", data, corrected / "corrected", "--split", corrected / "split.json")
    assert code == 2
    assert "the split holds 'case_01' out" in err
    assert read_dataset(data).labelled == ("case_00",)


def test_labels_that_a_list_would_not_name_are_refused(semivox, corrected):
    file = corrected / "data" / "dataset.json"
    listed = [{"image": f"./imagesTr/case_0{n}.nii.gz", "label": f"./labelsTr/case_0{n}.nii.gz"} for n in (0, 1)]
    file.write_text(json.dumps(json.loads(file.read_text()) | {"training": listed}))
    code, _, err = semivox("add-labels", corrected / "data", corrected / "corrected")
    assert code == 2
    assert "found 'training', a list without which no label is used" in err


@pytest.fixture
def reviewed(tmp_path):
    """A data set of which four scans have no label, masks of them, and a review: two accepted, one to correct."""
    data = write_toy_dataset(tmp_path / "data", cases=6, unlabelled=4)
    (tmp_path / "masks").mkdir()
    for number in range(2, 6):
        source = data / f"labelsTr/case_0{number % 2}.nii.gz"
        shutil.copy(source, tmp_path / f"masks/case_0{number}.nii.gz")
    (tmp_path / "masks/prediction.json").write_text("{}")
    said = {"case_05": "correct", "case_02": "accept", "case_03": "reject", "case_04": "accept"}
    write_review(tmp_path / "review.json", tmp_path / "masks", said)
    return tmp_path


def of_review(place, *more):
    words = ("--review", place / "review.json", "--masks", place / "masks", "-o", place / "list.csv")
    return ("add-labels", place / "data", *words, *more)


def test_a_review_gives_a_worklist_with_masks_and_leaves_accepted_masks_where_they_are(semivox, reviewed):
    before = (reviewed / "data/dataset.json").read_bytes()
    code, out, _ = semivox(*of_review(reviewed))
    assert code == 0
    assert out == (
        f"1 to be corrected: {reviewed / 'list.csv'}; their masks: {reviewed / 'list'}\n"
        "2 accepted, left where they are (--accepted: labels)\n1 rejected, of which nothing is kept\n"
    )
    [row] = rows_of(reviewed / "list.csv")
    assert (row["rank"], row["case"], row["reason"]) == ("1", "case_05", "seen")
    assert row["image"].endswith("imagesTr/case_05_0000.nii.gz")
    assert [path.name for path in (reviewed / "list").iterdir()] == ["case_05.nii.gz"]
    assert (reviewed / "list/case_05.nii.gz").read_bytes() == (reviewed / "masks/case_05.nii.gz").read_bytes()
    assert read_dataset(reviewed / "data").labelled == ("case_00", "case_01")
    assert (reviewed / "data/dataset.json").read_bytes() == before


def test_corrections_in_the_folder_of_a_worklist_are_never_written_over(semivox, reviewed):
    assert semivox(*of_review(reviewed))[0] == 0
    (reviewed / "list/case_05.nii.gz").write_bytes(b"corrected for an hour")
    code, _, err = semivox(*of_review(reviewed, "--accepted"))
    assert code == 2
    assert "list is not empty" in err
    assert (reviewed / "list/case_05.nii.gz").read_bytes() == b"corrected for an hour"
    assert read_dataset(reviewed / "data").machine_made == ()


def test_accepted_masks_become_labels_by_word_that_nothing_is_scored_by(semivox, reviewed):
    data = reviewed / "data"
    code, out, _ = semivox(*of_review(reviewed, "--accepted"))
    assert code == 0
    assert "2 accepted, 2 of them now labels, noted as machine-made" in out
    dataset = read_dataset(data)
    assert dataset.labelled == ("case_00", "case_01", "case_02", "case_04")
    assert dataset.machine_made == ("case_02", "case_04")
    note = json.loads((data / "dataset.json").read_text())["machine_made"]["case_02"]
    assert note == {
        "mask": file_digest(reviewed / "masks/case_02.nii.gz"), "reviewer": "A. B.", "time": "2026-01-31T12:00:00.000Z"
    }  # fmt: skip
    split = make_split(dataset, held_out=1)
    assert (split.held_out, split.labelled) == (("case_01",), ("case_00", "case_02", "case_04"))
    assert make_split(dataset, labelled=2).labelled == ("case_00", "case_01"), "numbers count what people drew"
    with pytest.raises(DatasetError, match="asked for 3 held-out"):
        make_split(dataset, held_out=3)
    with pytest.raises(DatasetError, match="case_02: held out: found a machine-made label"):
        make_split(dataset, held_out=["case_02"])
    assert parts_of(make_split(dataset), 2, machine_made=dataset.machine_made) == (("case_00",), ("case_01",))
    (reviewed / "masks/prediction.json").unlink()
    shutil.copy(reviewed / "masks/case_03.nii.gz", reviewed / "masks/case_00.nii.gz")
    rows = evaluate_masks(reviewed / "masks", data, reviewed / "scores.csv")
    assert {row["case"] for row in rows} == {"case_00"}


def test_the_same_review_twice_does_what_is_left_and_says_why_not_the_rest(semivox, reviewed):
    assert semivox(*of_review(reviewed, "--accepted"))[0] == 0
    shutil.rmtree(reviewed / "list")
    code, out, _ = semivox(*of_review(reviewed, "--accepted"))
    assert code == 0
    assert "left out: case_02: it has a label" in out
    assert (reviewed / "list/case_05.nii.gz").exists()


def test_a_label_that_a_person_corrects_is_machine_made_no_more(semivox, reviewed):
    assert semivox(*of_review(reviewed, "--accepted"))[0] == 0
    (reviewed / "corrected").mkdir()
    shutil.copy(reviewed / "data/labelsTr/case_01.nii.gz", reviewed / "corrected/case_02.nii.gz")
    assert semivox("add-labels", reviewed / "data", reviewed / "corrected", "--replace")[0] == 0
    assert read_dataset(reviewed / "data").machine_made == ("case_04",)


def test_what_the_split_holds_out_stays_out_of_a_review_too(semivox, reviewed):
    split = {"labelled": ["case_00"], "unlabelled": ["case_03"], "held_out": ["case_02", "case_05"]}
    (reviewed / "split.json").write_text(json.dumps(split))
    code, out, _ = semivox(*of_review(reviewed, "--accepted", "--split", reviewed / "split.json"))
    assert code == 0
    assert out.splitlines() == [
        "0 to be corrected", "1 accepted, 1 of them now labels, noted as machine-made",
        "1 rejected, of which nothing is kept", "left out: case_05: held out", "left out: case_02: held out",
    ]  # fmt: skip
    assert not (reviewed / "list.csv").exists()


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda c: shutil.copy(c / "masks/case_03.nii.gz", c / "masks/case_02.nii.gz"), "another mask of 'case_02'"),
        (lambda c: (c / "masks/case_04.nii.gz").unlink(), "masks: found no mask of 'case_04'"),
        (lambda c: (c / "data/imagesTr/case_05_0000.nii.gz").unlink(), "the review speaks of 'case_05', found no such"),
        (lambda c: (c / "review.json").write_text("{"), "review.json is damaged"),
        (lambda c: (c / "review.json").unlink(), "there is no"),
        (lambda c: spoilt(c, with_a_nine), "case_04.nii.gz: found the values [9]"),
        (lambda c: spoilt(c, shifted), "case_04.nii.gz: origin"),
        (lambda c: (c / "list.csv").mkdir(), "list.csv: found a folder"),
    ],
    ids=["other mask", "no mask", "no scan", "no review", "gone", "values", "grid", "output"],
)
def test_a_review_that_does_not_fit_changes_nothing(semivox, reviewed, spoil, text):
    spoil(reviewed)
    before = {path: path.read_bytes() for path in (reviewed / "data").rglob("*") if path.is_file()}
    code, _, err = semivox(*of_review(reviewed, "--accepted"))
    assert code == 2
    assert text in err
    assert before == {path: path.read_bytes() for path in (reviewed / "data").rglob("*") if path.is_file()}
    assert not (reviewed / "list").exists()


def spoilt(place, change):
    """Spoil an accepted mask, and let the review speak of what it is now."""
    file = place / "masks/case_04.nii.gz"
    image = nib.load(file)
    array, affine = change(np.asarray(image.dataobj).copy(), image.affine.copy())
    nib.save(nib.Nifti1Image(array, affine), file)
    write_review(place / "review.json", place / "masks", {"case_04": "accept", "case_05": "correct"})


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "expected CORRECTED, or --review with --masks"),
        (["masks", "--accepted"], "to which alone -o and --accepted belong"),
        (["--review", "review.json"], "--review takes --masks"),
        (["masks", "--review", "review.json", "--masks", "masks"], "neither CORRECTED nor --replace"),
        (["--review", "review.json", "--masks", "masks", "-o", "list.txt"], "expected a .csv file"),
    ],
)
def test_words_that_do_not_go_together_are_refused(semivox, reviewed, monkeypatch, words, text):
    monkeypatch.chdir(reviewed)
    code, _, err = semivox("add-labels", "data", *words)
    assert code == 2
    assert text in err
