"""The demo: two methods on phantom scans, one report; what is done stays done."""

import csv
import os
import signal
from functools import partial

import pytest

from semivox.benchmarking import demonstration
from semivox.benchmarking.demonstration import demo
from semivox.errors import RunError

TINY = {
    "steps": 2,
    "patch": (8, 8, 8),
    "batch_labelled": 1,
    "batch_unlabelled": 1,
    "log_every": 1,
    "net": {"filters": 2, "levels": 2},
}


@pytest.fixture
def tiny(monkeypatch):
    """Make the demo's data and training tiny."""
    monkeypatch.setattr(demonstration, "write_phantom", partial(demonstration.write_phantom, shape=(12, 12, 8)))
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
        if name == "simcvd":
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(KeyboardInterrupt):
        demo(output, device="cpu", on_progress=stop_in_the_second_method)
    assert seen == [("supervised", 0, 2), ("supervised", 1, 2), ("simcvd", 0, 2)]
    assert not (output / "report.html").exists()

    seen.clear()
    report = demo(
        output, device="cpu", say=said.append, on_progress=lambda name, row, total: seen.append((name, row["step"]))
    )
    assert seen == [("simcvd", 1)]
    assert said[0] == f"1 labelled, 1 unlabelled and 2 held-out phantom scans: {output / 'data'}"
    assert report == output / "report.html"
    page = report.read_text()
    assert "supervised" in page
    assert "simcvd" in page
    with (output / "scores.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["method"], row["case"]) for row in rows] == [
        (method, case) for method in demonstration.METHODS for case in ("phantom_0002", "phantom_0003")
    ]
    assert all(0 <= float(row["dice"]) <= 1 for row in rows)


def test_a_folder_with_other_files_is_left_alone(tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(RunError, match="holds other files"):
        demo(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]
