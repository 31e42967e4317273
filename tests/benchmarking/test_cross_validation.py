"""Cross-validation: out-of-fold scores without a label spent on a hold-out; cut and resumed, it is the same."""

import csv
import json
import shutil
import signal
from functools import partial
from pathlib import Path
from typing import Any

import nibabel as nib
import numpy as np
import pytest
import torch

from semivox import cross_validate
from semivox.benchmarking.cross_validation import SCORES
from semivox.data.dataset import read_dataset
from semivox.data.description import write_machine_made
from semivox.data.splitting import Split, make_split, read_split
from semivox.errors import ConfigError, DatasetError, RunError
from semivox.prediction.files import predict
from semivox.reporting.report import write_report
from semivox.runs.folder import open_run, read_checkpoint
from semivox.scoring.comparison import paired_scores
from semivox.scoring.likeness import group_scores
from semivox.scoring.scores import read_scores
from semivox.training.start import train
from toy_training import TINY
from toys import write_toy_dataset

FOLDS = 4
QUICK = {**TINY, "steps": 2, "checkpoint_every": 1}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """Four labelled and two unlabelled scans; not to be written to."""
    return write_toy_dataset(tmp_path_factory.mktemp("folds") / "data", cases=6, unlabelled=2)


def validate(data: Path, output: Path, cache: Path, **others: Any) -> Any:
    """Cross-validate with two steps a fold."""
    words = {"folds": FOLDS, "method": "mean_teacher", "settings": QUICK, "device": "cpu", **others}
    return cross_validate(data, output=output, cache=cache, **words)


@pytest.fixture(scope="module")
def again(data, toy_cache):
    """``again(output, ...)``: the cross-validation of `data`."""
    return lambda output, **others: validate(data, output, toy_cache, **others)


@pytest.fixture(scope="module")
def whole(again, tmp_path_factory) -> Path:
    """The cross-validation that was not cut; not to be written to."""
    output = tmp_path_factory.mktemp("whole") / "run"
    assert again(output).finished
    return output


def weights(run: Path) -> dict[str, torch.Tensor]:
    return read_checkpoint(open_run(run).latest())["method"]


def same_weights(one: Path, other: Path) -> bool:
    mine, theirs = weights(one), weights(other)
    return all(torch.equal(mine[name], theirs[name]) for name in mine)


def rows(output: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((output / SCORES).read_text().splitlines()))


def test_every_labelled_case_has_one_row_by_the_run_that_did_not_train_on_it(whole, data, tmp_path):
    assert [row["case"] for row in rows(whole)] == ["case_00", "case_01", "case_02", "case_03"]
    summary = json.loads((whole / SCORES).with_suffix(".json").read_text())
    assert summary["mean"]["cases"] == FOLDS, "all count: no mask was made by a run that saw its case"
    prediction = summary["prediction"]
    assert prediction["trained_on"] == {}
    assert [Path(run).name for run in prediction["run"]] == [f"fold_{n}" for n in range(FOLDS)]
    scored = [case for cases in prediction["out_of_fold"].values() for case in cases]
    assert sorted(scored) == [*read_dataset(data).labelled]
    for run, cases in prediction["out_of_fold"].items():
        lists = read_split(Path(run) / "split.json")
        assert not {*cases} & {*lists.pool}
        # and the mask is what this run alone makes of the scan
        for case in cases:
            scan = data / "imagesTr" / f"{case}_0000.nii.gz"
            (mask,) = predict([Path(run)], [scan], output=tmp_path / case, device="cpu")
            found = whole / "out_of_fold" / "masks" / mask.name
            assert np.array_equal(nib.load(found).get_fdata(), nib.load(mask).get_fdata())


def test_a_label_of_a_part_reaches_no_training_of_its_fold_and_every_other_one(whole, data, tmp_path):
    changed = shutil.copytree(data, tmp_path / "data")
    label = changed / "labelsTr" / "case_00.nii.gz"
    before = nib.load(label)
    nib.save(nib.Nifti1Image(np.asarray(before.dataobj)[::-1].copy(), before.affine), label)
    validate(changed, tmp_path / "run", tmp_path / "cache")
    same = [same_weights(tmp_path / "run" / f"fold_{n}", whole / f"fold_{n}") for n in range(FOLDS)]
    assert same == [True, False, False, False]
    assert rows(tmp_path / "run")[0]["dice"] != rows(whole)[0]["dice"]


def test_a_copy_of_a_parts_scan_among_the_unlabelled_ones_is_refused(data, tmp_path):
    spoilt = shutil.copytree(data, tmp_path / "data")
    shutil.copy(spoilt / "imagesTr" / "case_02_0000.nii.gz", spoilt / "imagesTr" / "somebody_0000.nii.gz")
    with pytest.raises(DatasetError, match=r"somebody.*case_02|case_02.*somebody"):
        validate(spoilt, tmp_path / "run", tmp_path / "cache")


def test_what_the_split_holds_out_is_neither_trained_on_nor_predicted(data, tmp_path):
    lists = make_split(read_dataset(data), labelled=2, held_out=1)
    sealed = shutil.copytree(data, tmp_path / "data")
    (sealed / "imagesTr" / f"{lists.held_out[0]}_0000.nii.gz").unlink()
    assert validate(sealed, tmp_path / "run", tmp_path / "cache", folds=2, split=lists).finished
    assert [row["case"] for row in rows(tmp_path / "run")] == [*lists.labelled]
    # all folds hold it out, and it alone: their mean may be scored on it
    predict([tmp_path / "run"], [data], output=tmp_path / "masks", held_out=True, device="cpu")
    assert [mask.name for mask in (tmp_path / "masks").glob("*.nii.gz")] == [f"{lists.held_out[0]}.nii.gz"]


def test_the_mean_of_all_folds_is_no_prediction_of_a_case_that_one_of_them_holds_out(whole, data, tmp_path):
    with pytest.raises(ConfigError, match="holds no case out"):
        predict([whole], [data], output=tmp_path / "masks", held_out=True, device="cpu")


def test_the_folder_predicts_as_the_mean_of_its_folds(whole, data, tmp_path):
    scan = data / "imagesTr" / "case_05_0000.nii.gz"
    words = {"scans": [scan], "probabilities": True, "device": "cpu"}
    predict([whole], output=tmp_path / "folder", **words)
    predict(sorted(whole.glob("fold_*")), output=tmp_path / "folds", **words)
    predict([whole / "fold_0"], output=tmp_path / "one", **words)
    found, mean, one = (
        nib.load(tmp_path / name / "case_05_probabilities.nii.gz").get_fdata() for name in ("folder", "folds", "one")
    )
    assert np.array_equal(found, mean)
    assert not np.array_equal(found, one)


def files(folder: Path) -> dict[Path, bytes]:
    """What a cross-validation leaves, without clocks and folders in it."""
    kept = ("scores.csv", "split.json", "folds.json")
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.name in kept}


def assert_same_folds(found: Path, expected: Path) -> None:
    assert files(found) == files(expected)
    assert len(files(found)) == FOLDS + 3
    assert all(same_weights(found / f"fold_{n}", expected / f"fold_{n}") for n in range(FOLDS))


def test_the_budget_holds_over_all_folds_and_a_run_cut_after_every_step_is_the_same_run(again, whole, tmp_path):
    calls = 1
    while not again(tmp_path / "run", resume=True, seconds=1e-9).finished:
        calls += 1
        assert not (tmp_path / "run" / "out_of_fold").exists()
    # two steps a fold; a fold begins in the call that ends the one before
    assert calls == FOLDS + 1
    assert_same_folds(tmp_path / "run", whole)


@pytest.mark.parametrize(("fold", "last"), [(0, 0), (2, 0), (1, 1)])
def test_a_signal_stops_behind_a_checkpoint_and_the_same_words_go_on_in_that_fold(fold, last, again, whole, tmp_path):
    """In a fold's last step, too: the next one is not begun."""
    begun: list[int] = []

    def stop(row: dict[str, Any], total: int) -> None:
        if begun[-1] == fold and row["total_step"] == last:
            signal.raise_signal(signal.SIGTERM)

    told = lambda number, total: begun.append(number)  # noqa: E731
    outcome = again(tmp_path / "run", on_fold=told, on_row=stop)
    assert (outcome.finished, outcome.interrupted, begun) == (False, True, [*range(fold + 1)])
    trained: list[tuple[int, int]] = []
    steps = lambda row, total: trained.append((begun[-1], row["total_step"]))  # noqa: E731
    assert again(tmp_path / "run", resume=True, on_fold=told, on_row=steps).finished
    rest = [(number, step) for number in range(fold + 1, FOLDS) for step in (0, 1)]
    assert trained == [*[(fold, 1)][last:], *rest], "what is done is not trained again"
    assert_same_folds(tmp_path / "run", whole)


def test_without_a_split_a_resumed_run_keeps_the_one_that_it_was_started_with(data, tmp_path):
    grown = shutil.copytree(data, tmp_path / "data")
    go = partial(validate, grown, tmp_path / "run", tmp_path / "cache", resume=True)
    assert not go(seconds=1e-9).finished
    shutil.copy(grown / "labelsTr" / "case_00.nii.gz", grown / "labelsTr" / "case_04.nii.gz")  # somebody labels on
    assert go().finished
    assert len(rows(tmp_path / "run")) == FOLDS


def test_a_resumed_run_keeps_the_folder_of_further_unlabelled_scans(data, tmp_path):
    further = write_toy_dataset(tmp_path / "further", cases=1, unlabelled=1, seed=9) / "imagesTr"
    go = partial(validate, data, tmp_path / "run", tmp_path / "cache", resume=True)
    assert not go(seconds=1e-9, unlabelled=further).finished
    assert go().finished
    pools = [read_split(run / "split.json").unlabelled for run in sorted((tmp_path / "run").glob("fold_*"))]
    assert pools == [("case_04", "case_05", "imagesTr-case_00")] * FOLDS


def test_a_finished_cross_validation_is_told_apart_from_a_new_one(again, whole, tmp_path):
    run = shutil.copytree(whole, tmp_path / "run")
    with pytest.raises(RunError, match="fold_0 holds a run already: continue it with --resume"):
        again(run)
    assert again(run, resume=True).finished
    assert_same_folds(run, whole)


OTHER = {
    "folds": ({"folds": 2}, "started with folds = 4, found 2"),
    "method": ({"method": "supervised"}, "started with method = 'mean_teacher', found 'supervised'"),
    "steps": ({"settings": {**QUICK, "steps": 3}}, "started with steps = 2, found 3"),
}


@pytest.mark.parametrize("word", OTHER)
def test_other_words_than_it_was_started_with_are_refused_in_one_line(word, again, whole, tmp_path):
    run = shutil.copytree(whole, tmp_path / "run")
    words, message = OTHER[word]
    with pytest.raises(RunError, match=message) as found:
        again(run, resume=True, **words)
    assert "\n" not in str(found.value)


def test_another_split_is_refused(again, whole, data, tmp_path):
    run = shutil.copytree(whole, tmp_path / "run")
    other = make_split(read_dataset(data), labelled=["case_00", "case_01", "case_02", "case_03"], seed=3)
    with pytest.raises(RunError, match="started with seed = None, found 3"):
        again(run, resume=True, split=other)


def test_a_folder_with_anything_else_in_it_is_refused(again, whole, data, toy_cache, tmp_path):
    run = shutil.copytree(whole, tmp_path / "run")
    for resume in (False, True):
        with pytest.raises(RunError, match="holds the folds of a cross-validation: give --folds"):
            train(data, output=run, method="supervised", settings=QUICK, cache=toy_cache, resume=resume, device="cpu")
    shutil.copytree(run / "fold_0", run / "fold_4")
    with pytest.raises(RunError, match="holds fold_4, expected no more than 4 folds"):
        again(run, resume=True)
    shutil.copytree(whole / "fold_0", tmp_path / "one")
    with pytest.raises(RunError, match="holds a run, found --folds 4"):
        again(tmp_path / "one", resume=True)
    shutil.rmtree(run / "fold_4")
    shutil.rmtree(run / "fold_3")
    with pytest.raises(RunError, match=r"4 folds, and fold_3 has not begun"):
        predict([run], [data / "imagesTr"], output=tmp_path / "masks", device="cpu")


def test_a_mistake_in_the_words_leaves_nothing_behind(again, tmp_path):
    for words in ({"folds": 5}, {"method": "mean_techer"}, {"settings": ["stepz=1"]}):
        with pytest.raises((ConfigError, LookupError)):
            again(tmp_path / "run", **words)
    assert not (tmp_path / "run").exists()


def test_the_methods_of_folds_are_the_same_or_it_says_so(data, tmp_path):
    lists = Split(("case_00", "case_01"), ("case_04",), patients="(c)ase_0[04]|case_01")  # 00 and 04 are one patient
    with pytest.raises(DatasetError, match="no unlabelled scan"):
        validate(data, tmp_path / "run", tmp_path / "cache", folds=2, method=None, split=lists)


def test_out_of_fold_scores_of_two_methods_are_paired_by_case_in_a_report(again, whole, tmp_path):
    again(tmp_path / "supervised", method="supervised")
    scores = [folder / SCORES for folder in (tmp_path / "supervised", whole)]
    page = write_report(scores, tmp_path / "report.html").read_text()
    assert "mean_teacher" in page
    pairs = paired_scores(*group_scores([read_scores(path) for path in scores]), "dice")
    assert [*pairs] == ["case_00", "case_01", "case_02", "case_03"]
    again(tmp_path / "halves", folds=2)
    one, other, halves = (read_scores(path).split for path in (*scores, tmp_path / "halves" / SCORES))
    assert one == other, "the same folds"
    assert one != halves


def test_a_machine_made_label_is_learnt_in_every_fold_and_scored_in_none(data, toy_cache, tmp_path):
    copied = shutil.copytree(data, tmp_path / "data")
    write_machine_made(copied, {"case_01": {}})
    with pytest.raises(ConfigError, match="found 4, expected a number from 2 to that of labelled cases, 3"):
        validate(copied, tmp_path / "run", toy_cache)
    validate(copied, tmp_path / "run", toy_cache, folds=3, method="supervised")
    assert json.loads((tmp_path / "run/folds.json").read_text())["parts"] == [["case_00"], ["case_02"], ["case_03"]]
    assert all("case_01" in read_split(tmp_path / f"run/fold_{n}/split.json").labelled for n in range(3))
    assert {row["case"] for row in rows(tmp_path / "run")} == {"case_00", "case_02", "case_03"}
    write_machine_made(copied, {}, gone=["case_01"])
    with pytest.raises(RunError, match=r"was started with machine_made = \['case_01'\], found \[\]"):
        validate(copied, tmp_path / "run", toy_cache, folds=3, method="supervised", resume=True)
