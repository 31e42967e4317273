"""The table of cases: sizes with their unit, means over runs, what is unknown, and the page and file that show it."""

import csv
import io
import math
import re
from urllib.parse import unquote

import pytest

from score_files import CASES, write_experiment
from semivox.reporting.cases import case_records, size_text, tabulate_cases
from semivox.reporting.report import write_report
from semivox.scoring.likeness import group_scores
from semivox.scoring.scores import read_scores


def write(path, text):
    path.parent.mkdir()
    path.write_text(text)
    return read_scores(path)


def test_every_case_and_class_has_its_sizes_and_the_mean_over_the_runs_of_each_method(tmp_path):
    head = "case,label,name,dice,hd95_mm,truth_ml,predicted_ml,failure\n"
    tables = [
        write(tmp_path / "a" / "s.csv", head + "x,1,atrium,.8,2,10,9,0\nx,2,vein,nan,nan,0,0,0\n"),
        write(tmp_path / "b" / "s.csv", head + "x,1,atrium,.6,4,10,7,1\ny,1,atrium,.5,5,3,4,0\n"),
    ]
    groups = group_scores(tables)
    found = tabulate_cases(groups, ("dice", "hd95_mm"))
    assert (found.unit, found.metrics) == ("ml", ("dice", "hd95_mm"))
    assert list(found.rows) == [("x", "atrium"), ("x", "vein"), ("y", "atrium")]
    assert found.rows["y", "atrium"].keys() == {"b"}
    cell = found.rows["x", "atrium"]["b"]
    assert (cell.truth, cell.predicted, cell.values["dice"], cell.failures, cell.runs) == (10, 7, 0.6, 1, 1)
    assert math.isnan(found.rows["x", "vein"]["a"].values["dice"])


def test_runs_of_a_method_are_averaged_and_the_file_has_each_of_them(tmp_path):
    groups = group_scores([read_scores(path) for path in write_experiment(tmp_path, methods=("supervised",))])
    cell = tabulate_cases(groups, ("dice",)).rows[CASES[2], "atrium"]["supervised"]
    assert (cell.truth, cell.predicted, cell.runs) == (10, 11, 2)
    records = list(case_records(groups))
    assert len(records) == 2 * len(CASES)
    assert records[0] | {"method": "supervised", "seed": 0, "truth_ml": 10, "predicted_ml": 9} == records[0]


def test_tables_without_sizes_say_so(tmp_path):
    table = write(tmp_path / "a" / "s.csv", "case,label,dice\nx,1,.5\n")
    found = tabulate_cases(group_scores([table]), ("dice",))
    assert found.unit == ""
    assert math.isnan(found.truth(found.rows["x", "1"]))
    html = write_report([table.path], tmp_path / "report.html").read_text()
    assert "do not say how large truth and predictions are" in html


@pytest.mark.parametrize(
    ("size", "unit", "text"),
    [(23.44, "ml", "23.4"), (0.0314, "ml", "0.031"), (0, "ml", "0.000"), (12345, "voxels", "12,345"),
     (7.5, "pixels", "8"), (math.nan, "ml", "–")],
)  # fmt: skip
def test_sizes_are_short(size, unit, text):
    assert size_text(size, unit) == text


def test_the_page_shows_volumes_and_its_download_has_every_run_and_score(tmp_path):
    html = write_report(write_experiment(tmp_path, methods=("supervised", "ua_mt")), tmp_path / "r.html").read_text()
    table = html.split('<table class="cases">')[1].split("</table>")[0]
    assert table.count("Found (ml)") == 2
    assert "Truth (ml)" in table
    row = re.findall(r"<t[hd][^>]*>([^<]*)<", table.split('<th scope="row">case_3')[1].split("</tr>")[0])
    assert row == ["10.0", "12.0", "0.690", "3.50", "12.0", "0.740", "3.50"]
    link = re.search(r'download="every-case.csv" href="data:text/csv;charset=utf-8,([^"]*)"', html)
    rows = list(csv.DictReader(io.StringIO(unquote(link.group(1)))))
    assert len(rows) == 28
    assert float(rows[3]["dice"]) == 0.6 + 0.03 * 3
    assert {"method", "seed", "case", "class", "truth_ml", "predicted_ml", "nsd_at_2mm"} <= rows[0].keys()
