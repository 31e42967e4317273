"""What made the scores: counts and names of scans, the day, the time that training took; and what nobody says."""

import json

import pytest

from score_files import LABELLED, UNLABELLED, write_experiment
from semivox.errors import DatasetError
from semivox.reporting.details import run_details, time_text
from semivox.reporting.report import write_report
from semivox.scoring.scores import read_scores


def test_a_run_tells_its_scans_its_day_and_its_time(tmp_path):
    [path] = write_experiment(tmp_path, methods=("ua_mt",), seeds=(3,))
    found = run_details(read_scores(path))
    assert (found.group, found.seed) == ("ua_mt", 3)
    assert (list(found.labelled), list(found.unlabelled)) == (LABELLED, UNLABELLED)
    assert (found.started, found.seconds) == ("2026-03-01 09:30:00 UTC", 600)
    html = write_report([path], tmp_path / "report.html").read_text()
    line = html.split("Training took</th>")[1].split("</tr>\n</tbody>")[0]
    assert '<th scope="row">ua_mt</th><td>3</td><td>–</td><td>2</td><td>3</td><td>2026-03-01 09:30:00 UTC</td>' in line
    assert "<td>10 min</td>" in line
    assert "2 labelled scans" in html
    assert "case_80 case_81 case_82" in html


def test_the_time_is_that_of_all_stages(tmp_path):
    [path] = write_experiment(tmp_path, methods=("ua_mt",), seeds=(0,))
    rows = [{"step": n, "stage": stage, "seconds": 2.0 + n} for stage in ("first", "second") for n in (0, 9)]
    (path.parent / "run" / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert run_details(read_scores(path)).seconds == 2 * 10 * 11


def test_a_run_whose_folder_is_gone_says_nothing_of_it(tmp_path):
    [path] = write_experiment(tmp_path, methods=("ua_mt",), seeds=(0,))
    (path.parent / "run").rename(path.parent / "moved")
    found = run_details(read_scores(path))
    assert (found.labelled, found.unlabelled, found.started, found.seconds) == (None, None, "", None)
    html = write_report([path], tmp_path / "report.html").read_text()
    assert "No split was found" in html


def test_scans_of_several_averaged_runs_are_told_together(tmp_path):
    paths = write_experiment(tmp_path, methods=("ua_mt",))
    lists = {"labelled": ["case_79"], "unlabelled": [], "held_out": ["case_0"]}
    (paths[1].parent / "run" / "split.json").write_text(json.dumps(lists))
    info = json.loads(paths[0].with_suffix(".json").read_text())
    info["prediction"]["run"] = [str(path.parent / "run") for path in paths]
    paths[0].with_suffix(".json").write_text(json.dumps(info))
    found = run_details(read_scores(paths[0]))
    assert list(found.labelled) == [*LABELLED, "case_79"]
    assert found.seconds == 1200


@pytest.mark.parametrize("name", ["split.json", "run.json"])
def test_a_damaged_run_folder_is_one_line(tmp_path, name):
    [path] = write_experiment(tmp_path, methods=("ua_mt",), seeds=(0,))
    (path.parent / "run" / name).write_text('{"labelled": [')
    with pytest.raises(DatasetError, match=name):
        write_report([path], tmp_path / "report.html")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "–"), (42.4, "42 s"), (89, "89 s"), (100, "2 min"), (3599, "1 h 00 min"), (3900, "1 h 05 min")],
)
def test_times_are_short(seconds, text):
    assert time_text(seconds) == text
