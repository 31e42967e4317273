"""A round of labelling by its verbs: a worklist, masks corrected, labels added; and what is refused."""

import csv
import json
import shutil

import nibabel as nib
import numpy as np
import pytest

from semivox.cli.main import main
from semivox.data.dataset import read_dataset
from semivox.data.splitting import make_split, write_split
from semivox.quality.estimate import estimate_quality
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
