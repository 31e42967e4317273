"""`semivox train --track`, as a user types it."""

from pathlib import Path

import pytest

from semivox import write_phantom

TINY = ["--set", "steps=2", "--set", "patch=[8,8,8]", "--set", "net.filters=2", "--set", "net.levels=2",
        "--set", "batch_labelled=1", "--set", "batch_unlabelled=1", "--device", "cpu"]  # fmt: skip


@pytest.mark.filterwarnings("default")  # of the tracker's own package
def test_train_and_its_folds_leave_event_files_in_their_run_folders(semivox, tmp_path):
    write_phantom(tmp_path / "data", labelled=2, unlabelled=1, held_out=0, shape=(12, 12, 8))
    for words in (["-o", "run"], ["--folds", "2", "-o", "folds"]):
        code, _, err = semivox("train", "data", "--method", "mean_teacher", *TINY, "--track", "tensorboard", *words)
        assert code == 0, err
    folders = {path.parent for path in Path().rglob("events.out.tfevents.*")}
    assert folders == {Path("run/tensorboard"), Path("folds/fold_0/tensorboard"), Path("folds/fold_1/tensorboard")}


def test_an_unknown_tracker_is_refused_before_anything_is_written(semivox, tmp_path):
    write_phantom(tmp_path / "data", labelled=2, unlabelled=1, held_out=0, shape=(12, 12, 8))
    code, out, err = semivox("train", "data", "-o", "run", "--track", "wandb")
    assert (code, out) == (2, "")
    assert "'tensorboard', 'mlflow'" in err
    assert not Path("run").exists()
