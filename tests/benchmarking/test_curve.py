"""The label-efficiency curve: from runs that are scored to what labels are worth, and one protocol a folder."""

import csv
import json
import re

import numpy as np
import pytest

from semivox.benchmarking.curve import curve
from semivox.benchmarking.protocols import jobs_of, read_protocol
from semivox.errors import ConfigError, RunError
from toys import write_toy_dataset

MEANS = {"supervised": {1: 0.5, 2: 0.6, 4: 0.7}, "mean_teacher": {1: 0.55, 2: 0.65, 4: 0.75}}
"""By hand: .55 is half a doubling above .5 at 1, .65 half a doubling above .6 at 2, and .75 above all."""


@pytest.fixture
def asked(tmp_path) -> dict:
    """Return the words of a curve whose runs take seconds, and which are scored already once `score` wrote them."""
    data = write_toy_dataset(tmp_path / "toys", cases=9, unlabelled=1, shape=(4, 4, 4))
    (tmp_path / "tiny.toml").write_text("steps = 1\npatch = [4, 4, 4]\n[net]\nfilters = 2\nlevels = 2\n")
    return {"data": data, "labelled": [4, 1, 2], "output": tmp_path / "out", "methods": ["supervised", "mean_teacher"],
            "config": tmp_path / "tiny.toml", "held_out": 4, "seeds": [0, 1, 2], "device": "cpu",
            "cache": tmp_path / "cache"}  # fmt: skip


def score(output, means=MEANS):
    """Write the scores of every job of a curve's protocol, as a run would have left them; cases differ, runs do not."""
    jobs = jobs_of(read_protocol(output / "protocol.toml"), output / "runs")
    for job in jobs:
        (job.folder / "run").mkdir(parents=True)
        (job.folder / "run" / "split.json").write_text(json.dumps({"labelled": ["a"], "unlabelled": ["b", "c"]}))
        dice = means[job.spec.name][job.labelled] + np.array([-0.1, 0.0, 0.02, 0.08])
        rows = [f"case_0{4 + case},1,blob_1,{value}" for case, value in enumerate(dice)]
        job.scores[""].write_text("\n".join(["case,label,name,dice", *rows]) + "\n")
        told = {"group": job.label, "method": job.spec.name, "seed": job.seed, "labelled": job.labelled, "draw": 0}
        job.scores[""].with_suffix(".json").write_text(json.dumps({"prediction": told}))
    return jobs


def begun(asked) -> None:
    """Write the protocol, and stop before the first run."""
    with pytest.raises(ConfigError, match="abacus"):
        curve(**asked | {"device": "abacus"})


def test_what_labels_are_worth_is_the_answer_worked_out_by_hand(asked):
    begun(asked)
    output = asked["output"]
    assert len(score(output)) == 2 * 3 * 3
    found = curve(**asked)
    assert [(saving.labelled, saving.worth) for saving in found.savings] == [
        (1, pytest.approx(2**0.5)), (2, pytest.approx(2 * 2**0.5)), (4, float("inf")),
    ]  # fmt: skip
    assert found.sentences == (
        "With mean_teacher, 1 labelled + 2 unlabelled are worth 1.4 labelled [1.4, 1.4].",
        "With mean_teacher, 2 labelled + 2 unlabelled are worth 2.8 labelled [2.8, 2.8].",
        "With mean_teacher, 4 labelled + 2 unlabelled are worth at least 4 labelled [over 4, over 4].",
    )
    points = list(csv.DictReader((output / "curve.csv").read_text().splitlines()))
    assert [(row["method"], row["labelled"], row["runs"], row["over"]) for row in points] == [
        (name, str(budget), "3", "cases and seeds") for name in MEANS for budget in (1, 2, 4)
    ]
    assert [float(row["dice"]) for row in points] == pytest.approx([*MEANS["supervised"].values(),
                                                                   *MEANS["mean_teacher"].values()])  # fmt: skip
    worth = list(csv.DictReader((output / "savings.csv").read_text().splitlines()))
    assert [row["worth"] for row in worth][2] == "inf"
    assert float(worth[0]["times"]) == pytest.approx(2**0.5)


def test_the_page_stands_alone_and_has_figure_sentences_and_tables(asked):
    begun(asked)
    score(asked["output"])
    found = curve(**asked)
    html = (asked["output"] / "curve.html").read_text()
    assert "http" not in html
    assert not re.search(r"<(script|link|iframe)\b|@import|url\((?!#)", html)
    assert html.count("<svg") == 1
    for sentence in found.sentences:
        assert sentence in html
    assert "at least 4" in html
    assert (asked["output"] / "runs" / "report.html").exists()


def test_a_folder_is_of_one_curve_and_the_control_is_always_there(asked):
    begun(asked)
    others = ({"labelled": [1, 2]}, {"seeds": [0]}, {"draws": 2}, {"steps": 7}, {"methods": ["supervised", "arco"]})
    for other in others:
        with pytest.raises(ConfigError, match="the protocol of another curve"):
            curve(**asked | other)
    for methods in (["mean_teacher"], ["supervised"], ["supervised", "supervised"], []):
        with pytest.raises(ConfigError, match="expected supervised and at least one other"):
            curve(**asked | {"methods": methods})


def test_its_protocol_is_one_of_bench_with_draws_steps_and_patients(asked):
    begun(asked | {"draws": 2, "steps": 7, "patients": r"case_\d+"})
    protocol = read_protocol(asked["output"] / "protocol.toml")
    assert (protocol.draws, protocol.patients, protocol.control) == (2, r"case_\d+", "supervised")
    assert [(spec.method, spec.labelled, spec.seeds, spec.set) for spec in protocol.run] == [
        (name, (1, 2, 4), (0, 1, 2), {"steps": 7}) for name in ("supervised", "mean_teacher")
    ]


def test_without_a_config_all_runs_share_one_plan_which_stays(asked):
    begun(asked | {"config": None})
    plan = asked["output"] / "config.toml"
    assert "patch = " in plan.read_text()
    plan.write_text(f"# as it was\n{plan.read_text()}")
    begun(asked | {"config": None})
    assert plan.read_text().startswith("# as it was")


def test_a_curve_without_a_run_of_the_control_says_so(asked, monkeypatch):
    begun(asked)
    monkeypatch.setattr("semivox.benchmarking.curve.bench", lambda *given, **told: ())
    with pytest.raises(RunError, match="no finished run of supervised"):
        curve(**asked)
