"""Folds on disk: one folder stands for all its runs, and a damaged record is one line."""

import json

import pytest

from semivox.errors import RunError
from semivox.runs.folds import each_run, fold_folders, is_run, read_folds

DAMAGED = {
    "no JSON": "{",
    "list": "[]",
    "no folds": "{}",
    "one fold": json.dumps({"folds": 1, "parts": [["a"]]}),
    "truth": json.dumps({"folds": True, "parts": [["a"]]}),
    "more folds than parts": json.dumps({"folds": 10**12, "parts": [["a"], ["b"]]}),
    "parts of another kind": json.dumps({"folds": 2, "parts": {"a": 1, "b": 2}}),
}


@pytest.mark.parametrize("text", DAMAGED.values(), ids=DAMAGED)
def test_a_damaged_record_is_one_line(text, tmp_path):
    (tmp_path / "folds.json").write_text(text)
    with pytest.raises(RunError, match=r"folds.json is damaged.*restore it") as found:
        each_run([tmp_path])
    assert "\n" not in str(found.value)


def test_a_folder_stands_for_all_its_folds_and_a_run_for_itself(tmp_path):
    folds = fold_folders(tmp_path / "folds", 2)
    for run in (*folds, tmp_path / "run"):
        run.mkdir(parents=True)
        (run / "run.json").write_text("{}")
    (tmp_path / "folds" / "folds.json").write_text(json.dumps({"folds": 2, "parts": [["a"], ["b"]]}))
    assert each_run([tmp_path / "folds", tmp_path / "run"]) == [*folds, tmp_path / "run"]
    assert [is_run(tmp_path / name) for name in ("folds", "run", "")] == [True, True, False]
    assert read_folds(tmp_path / "run") == {}
