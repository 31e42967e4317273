"""The page of results: scores are collected without paths, and groups of held-out cases are shown each on its own."""

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest

FILE = Path(__file__).parents[1] / "benchmarks" / "results.py"
PROTOCOL = """
[bench]
title = "Hearts"
data = "hearts"
config = "demo"
further_controls = ["teacher"]

[bench.held_out]
val = ["a0", "a1", "a2", "a3", "a4", "a5"]
tail = ["b0", "b1", "b2", "b3", "b4", "b5"]

[[bench.run]]
method = "supervised"
labelled = ["c"]

[[bench.run]]
label = "teacher"
method = "mean_teacher"
labelled = ["c"]
"""
GAIN = {("teacher", "val"): 0.1, ("teacher", "tail"): -0.2}


@pytest.fixture
def results(tmp_path, monkeypatch):
    """Return the script with a protocol of its own, whose two runs are scored on two groups, and collected."""
    spec = importlib.util.spec_from_file_location("results", FILE)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.syspath_prepend(FILE.parent)  # as for a script, which imports what lies beside it
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "HERE", tmp_path)
    monkeypatch.setattr(module, "RESULTS", tmp_path / "results")
    monkeypatch.setattr(module, "TABLES", {})
    (tmp_path / "results").mkdir()
    (tmp_path / "results" / "reading.md").write_text("All told.\n")
    (tmp_path / "hearts.toml").write_text(PROTOCOL)
    for name in ("supervised", "teacher"):
        for seed in range(3):
            write_run(tmp_path / "runs" / "hearts" / f"{name}-1-seed{seed}", name, seed)
    module.collect(tmp_path / "runs" / "hearts")
    return module


def write_run(folder, name, seed):
    (folder / "run").mkdir(parents=True)
    shown = {"class1_variance": 0.5, "class1_fill": 32.0, "weight": 1.0} if name == "teacher" else {}
    (folder / "run" / "log.jsonl").write_text(json.dumps({"shown": {}}) + "\n" + json.dumps({"shown": shown}) + "\n")
    keys = dict.fromkeys(("split", "weights", "options", "versions"), "s")
    prediction = {"method": name, "group": name, "seed": seed, "run": [str(folder)], **keys}
    for group, letter in (("val", "a"), ("tail", "b")):
        dice = np.linspace(0.5, 0.7, 6) + GAIN.get((name, group), 0.0)
        rows = [
            f"{letter}{case},{value},{label},{score},3,{size}"
            for case, score in enumerate(dice)
            for value, label, size in ((1, "large", 90), (2, "small", 10))
        ]
        table = "\n".join(["case,label,name,dice,hd95_voxel,truth_voxels", *rows])
        (folder / f"scores-{group}.csv").write_text(table + "\n")
        facts = {"unit": "voxel", "tolerance": 2.0, "hd95": "pooled", "scored": 6, "prediction": prediction}
        (folder / f"scores-{group}.json").write_text(json.dumps(facts))


def test_each_group_is_collected_without_any_path(results, tmp_path):
    found = sorted(path for path in (tmp_path / "results").rglob("*") if path.is_file())
    names = ["last_row.json", "scores-tail.csv", "scores-tail.json", "scores-val.csv", "scores-val.json"]
    assert [path.name for path in found if "teacher-1-seed0" in str(path)] == names
    assert not any(str(tmp_path) in path.read_text() for path in found)


def test_groups_are_shown_each_on_its_own_with_the_rarest_class_first(results):
    head, val, tail = results.page().split("### Scored on ")
    assert "## Hearts" in head
    assert "All told." in head
    for part, mean, other in ((val, "0.700", "0.400"), (tail, "0.400", "0.700")):
        assert re.search(rf"\| teacher \| 3 \| 6 \| {mean} ", part)
        assert other not in part.partition("Dice by class")[0]
        assert f"| teacher | {mean} | {mean} |" in part
        assert "| Method | small (10.0 %) | large (90.0 %) |" in part
        assert "HD95 (voxel)" in part
    assert "so it did better" in val
    assert "so it did worse" in tail


def test_the_page_begins_with_all_verdicts_in_one_table(results):
    table = results.page().partition("All told.")[0]
    assert "| Data and labels | Method | Dice | Paired difference [95 %] | Seeds | Verdict |" in table
    assert "| Hearts, val | supervised | 0.600 | – | 3 | – |" in table
    assert "| Hearts, val | teacher | 0.700 | +0.100 [+0.100, +0.100] | 3 | **better** |" in table
    assert "| Hearts, tail | teacher | 0.400 | −0.200 [−0.200, −0.200] | 3 | **worse** |" in table


def test_further_controls_and_collapse_have_their_tables(results):
    page = results.page()
    assert "| Method | minus teacher |\n| --- | ---: |\n| supervised | −0.100 [−0.100, −0.100], 0.031, worse |" in page
    assert "| teacher | – |" in page
    assert "| Run, last batch | Class1 variance | Class1 fill |" in page
    assert "| teacher-1-seed0 | 0.5 | 32 |" in page
