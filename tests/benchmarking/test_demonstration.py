"""The demo: two methods on phantom scans, one report that says what labels cover; what is done stays done."""

import csv
import os
import signal
from functools import partial

import pytest

from semivox.benchmarking import demonstration
from semivox.benchmarking.demonstration import demo
from semivox.errors import DatasetError, RunError

TINY = {
    "steps": 2,
    "patch": (8, 8),
    "batch_labelled": 1,
    "batch_unlabelled": 1,
    "log_every": 1,
    "net": {"filters": 2, "levels": 2},
}


@pytest.fixture
def tiny(monkeypatch):
    """Make the demo's data and training tiny."""
    monkeypatch.setattr(demonstration, "SHAPE", (12, 12, 8))
    monkeypatch.setattr(demonstration, "train", partial(demonstration.train, settings=TINY))
    monkeypatch.setattr(demonstration, "LABELLED", 1)
    monkeypatch.setattr(demonstration, "UNLABELLED", 1)
    monkeypatch.setattr(demonstration, "HELD_OUT", 2)


@pytest.mark.usefixtures("tiny")
def test_the_demo_ends_in_scores_and_a_report_and_goes_on_where_it_was_cut(tmp_path, monkeypatch):
    output, said, seen = tmp_path / "demo", [], []

    def stop(*given):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(demonstration, "write_split", stop)
        with pytest.raises(KeyboardInterrupt):
            demo(output, device="cpu")

    def stop_in_the_second_method(name, row, total):
        seen.append((name, row["total_step"], total))
        if name == "averaged_match":
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        demo(output, device="cpu", on_progress=stop_in_the_second_method)
    assert seen == [("supervised", 0, 2), ("supervised", 1, 2), ("averaged_match", 0, 2)]
    assert not (output / "report.html").exists()

    seen.clear()
    report = demo(
        output,
        device="cpu",
        say=said.append,
        on_progress=lambda name, row, total: seen.append((name, row["total_step"])),
    )
    assert seen == [("averaged_match", 1)]
    assert said[0] == f"1 labelled, 1 unlabelled and 2 held-out phantom scans: {output / 'data'}"
    assert report == output / "report.html"
    page = report.read_text()
    assert "With unlabelled scans, averaged_match reached a mean Dice of" in page
    assert "of 4 kinds, named by scanner and anatomy; the 1 labelled ones" in page
    assert "and of the others: supervised – and 0." in page
    with (output / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["method"], row["case"]) for row in rows] == [
        (method, case) for method in demonstration.METHODS for case in ("phantom_0002", "phantom_0003")
    ]
    assert all(0 <= float(row["dice"]) <= 1 for row in rows)


@pytest.mark.usefixtures("tiny")
def test_another_seed_has_other_patients_and_wants_another_folder(tmp_path, monkeypatch):
    seeds = []
    write = demonstration.write_phantom
    monkeypatch.setattr(demonstration, "write_phantom", lambda *a, **k: (seeds.append(k["seed"]), write(*a, **k)))
    monkeypatch.setattr(demonstration, "train", lambda *a, **k: pytest.fail("trained"))
    with pytest.raises(pytest.fail.Exception):
        demo(tmp_path / "demo", seed=3, device="cpu")
    assert seeds == [3]
    with pytest.raises(DatasetError, match="name a new folder"):
        demo(tmp_path / "demo", seed=4, device="cpu")


def test_the_report_tells_scans_of_covered_kinds_from_the_others():
    kinds = {"a": "usual, usual", "b": "usual, turned", "c": "usual, usual", "d": "usual, turned"}
    rows = [{"method": method, "case": case, "dice": dice} for method, case, dice in (
        ("supervised", "c", "0.8"), ("supervised", "d", "0.5"), ("averaged_match", "c", "0.75"),
        ("averaged_match", "d", "0.625"),
    )]  # fmt: skip
    pool, found = demonstration.pool_notes(rows, kinds, ["a"])
    assert "2 kinds" in pool
    assert "1 labelled ones, as in many real pools, of 1: usual, usual" in pool
    assert found.endswith("and of the others: supervised 0.800 and 0.500, averaged_match 0.750 and 0.625.")
    assert "supervised – and 0.500" in demonstration.pool_notes(rows[1:2], kinds, ["a"])[1]


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(RunError, match="holds other files"):
        demo(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
