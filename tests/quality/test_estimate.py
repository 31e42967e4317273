"""Quality by the verb, on toy runs: second opinions, calibration out of fold, flags, and what is refused."""

import csv
import json
import shutil
from functools import partial

import nibabel as nib
import numpy as np
import pytest

from semivox.benchmarking.cross_validation import cross_validate
from semivox.cli.main import main
from semivox.errors import ConfigError, DatasetError
from semivox.prediction.files import predict
from semivox.quality.estimate import estimate_quality
from toy_training import TINY


@pytest.fixture(scope="module")
def made(toy_data, toy_cache, train_toy, tmp_path_factory):
    """Two runs, the masks of the first, and a cross-validation of either."""
    folder = tmp_path_factory.mktemp("quality")
    validate = partial(cross_validate, toy_data, folds=3, cache=toy_cache, device="cpu", settings=TINY)
    for method in ("mean_teacher", "supervised"):
        train_toy(folder / method, method=method)
        validate(output=folder / f"{method}_folds", method=method)
    predict([folder / "mean_teacher"], [toy_data / "imagesTr"], output=folder / "masks", device="cpu")
    return folder


def dice(one, other):
    a, b = (np.asarray(nib.load(path).dataobj) == 1 for path in (one, other))
    return 2 * (a & b).sum() / (a.sum() + b.sum())


def run_verb(monkeypatch, *words):
    monkeypatch.setattr("sys.argv", ["semivox", "quality", *map(str, words)])
    with pytest.raises(SystemExit) as caught:
        main()
    return caught.value.code


def test_the_estimate_is_the_dice_with_the_mask_of_the_other_run(made, toy_data, tmp_path, monkeypatch, capsys):
    assert run_verb(monkeypatch, made / "supervised", made / "masks", "-o", tmp_path / "q.csv") == 0
    assert "5 masks, the likely worst first" in capsys.readouterr().out
    predict([made / "supervised"], [toy_data / "imagesTr"], output=tmp_path / "other", device="cpu")
    with (tmp_path / "q.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 5
    for row in rows:
        wanted = dice(made / "masks" / f"{row['case']}.nii.gz", tmp_path / "other" / f"{row['case']}.nii.gz")
        assert float(row["agreement"]) == pytest.approx(wanted, abs=1e-3)
        assert row["dice_estimated"] == row["agreement"], "nothing to calibrate by"
        assert row["dice_lower"] == ""
        assert row["remark"] == "no bound: a coverage of 80% takes 4 calibration cases, found 0"
    estimates = [float(row["dice_estimated"]) for row in rows]
    assert estimates == sorted(estimates)


def test_cross_validations_give_the_excess_and_the_bound(made, tmp_path):
    folds = [made / "mean_teacher_folds", made / "supervised_folds"]
    find = partial(estimate_quality, made / "supervised", made / "masks", out_of_fold=folds, device="cpu")
    rows = find(output=tmp_path / "q.csv", coverage=0.75)
    with (folds[0] / "out_of_fold" / "scores.csv").open() as file:
        scores = {row["case"]: float(row["dice"]) for row in csv.DictReader(file)}
    masks = [folder / "out_of_fold" / "masks" for folder in folds]
    excess = sorted(dice(*(folder / f"{case}.nii.gz" for folder in masks)) - scores[case] for case in scores)
    assert len(excess) == 3
    for row in rows:
        assert row["calibration_cases"] == 3
        assert row["dice_estimated"] == pytest.approx(np.clip(row["agreement"] - excess[1], 0, 1), abs=1e-6)
        assert row["dice_lower"] == pytest.approx(np.clip(row["agreement"] - excess[2], 0, 1), abs=1e-6)
    assert "takes 4 calibration cases, found 3" in find(output=tmp_path / "q.csv", coverage=0.8)[0]["remark"]


def test_a_run_alone_is_its_own_second_opinion_on_mirrored_copies(made, tmp_path):
    rows = estimate_quality(
        made / "mean_teacher",
        made / "masks",
        output=tmp_path / "q.csv",
        out_of_fold=made / "mean_teacher_folds",
        coverage=0.75,
        device="cpu",
    )
    assert all(0 <= row["agreement"] < 1 for row in rows)
    assert all(row["calibration_cases"] == 3 for row in rows)


def test_labels_of_other_cases_than_the_labelled_ones_are_never_read(made, toy_data, tmp_path):
    """The run's data set is gone on with poison in place of every label that it did not train on."""
    data = shutil.copytree(toy_data, tmp_path / "data")
    for name in ("case_03", "case_04"):
        (data / "labelsTr" / f"{name}.nii.gz").write_bytes(b"no image")
    run = shutil.copytree(made / "supervised", tmp_path / "run")
    facts = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(facts | {"data": str(data)}))
    notes = []
    estimate_quality(run, made / "masks", output=tmp_path / "q.csv", device="cpu", on_note=notes.append)
    assert not notes


def test_where_the_data_are_gone_masks_are_compared_with_nothing(made, tmp_path):
    run = shutil.copytree(made / "supervised", tmp_path / "run")
    facts = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(facts | {"data": str(tmp_path / "gone")}))
    notes = []
    rows = estimate_quality(run, made / "masks", output=tmp_path / "q.csv", device="cpu", on_note=notes.append)
    assert "the labelled scans cannot be read" in notes[0]
    assert len(rows) == 5


@pytest.mark.parametrize(
    ("words", "error", "text"),
    [
        ({"coverage": 1.0}, ConfigError, "a part below 1"),
        ({"output": "q.txt"}, ConfigError, "expected a .csv file"),
        ({"masks": "supervised"}, DatasetError, "found no prediction.json"),
        ({"out_of_fold": ["mean_teacher_folds"]}, ConfigError, "found 1, expected 2 cross-validations"),
        ({"out_of_fold": ["supervised", "mean_teacher"]}, ConfigError, "which is none, expected 2 cross-validations"),
    ],
)
def test_what_cannot_be_used_is_refused(made, tmp_path, words, error, text):
    output = tmp_path / words.get("output", "q.csv")
    masks, folds = made / words.get("masks", "masks"), [made / name for name in words.get("out_of_fold", [])]
    coverage = words.get("coverage", 0.8)
    with pytest.raises(error, match=text):
        estimate_quality(
            made / "supervised", masks, output=output, out_of_fold=folds, coverage=coverage, device="cpu"
        )
    assert not list(tmp_path.iterdir())


def test_one_path_alone_is_no_question(made, monkeypatch, capsys):
    assert run_verb(monkeypatch, made / "masks") == 2
    assert "RUN... MASKS" in capsys.readouterr().err
