import csv
import json
import os
import re
import subprocess
import sys

import nibabel as nib
import numpy as np
import pytest

from semivox.errors import DatasetError
from semivox.reporting.report import write_report

CASES = [f"case_{n}" for n in range(7)]


@pytest.fixture
def experiment(tmp_path):
    """Two methods and two seeds on seven tiny scans, with labels, masks, logs and configs; returns the score files."""
    for name in ("labels", "images"):
        (tmp_path / name).mkdir()
    truth = np.zeros((8, 9, 5), np.uint8)
    truth[2:6, 3:7, 1:4] = 1
    for case in CASES:
        nib.save(nib.Nifti1Image(truth, np.diag([1, 1, 3, 1])), tmp_path / "labels" / f"{case}.nii.gz")
        scan = nib.Nifti1Image(truth.astype(np.float32), np.diag([1, 1, 3, 1]))
        nib.save(scan, tmp_path / "images" / f"{case}_0000.nii.gz")
    return [write_run(tmp_path, method, seed, truth) for method in ("supervised", "ua_mt") for seed in (0, 1)]


def write_run(root, method, seed, truth):
    folder = root / f"{method}_{seed}"
    (folder / "masks").mkdir(parents=True)
    (folder / "run").mkdir()
    for case in CASES:
        nib.save(nib.Nifti1Image(truth, np.diag([1, 1, 3, 1])), folder / "masks" / f"{case}.nii.gz")
    with (folder / "scores.csv").open("w") as file:
        writer = csv.writer(file)
        writer.writerow(["case", "label", "name", "dice", "hd95_mm", "failure"])
        gain = 0.05 * (method == "ua_mt")
        writer.writerows([case, 1, "atrium", 0.6 + 0.03 * n + gain, 5 - n, 0] for n, case in enumerate(CASES))
    (folder / "run" / "config.toml").write_text('steps = 20  # from "/home/someone/secret/my.toml"\n')
    rows = [{"step": n, "stage": "train", "total": 1 / (n + 1), "losses": {"seg": 1 / (n + 1)}} for n in range(20)]
    (folder / "run" / "log.jsonl").write_text("\n".join(map(json.dumps, rows)) + '\n{"step": 2')
    images = {case: [str(root / "images" / f"{case}_0000.nii.gz")] for case in CASES}
    prediction = {"run": [str(folder / "run")], "method": method, "group": method, "seed": seed, "split": "s",
                  "step": [10], "steps": [10], "finished": True,
                  "images": images, "train_command": f"semivox train DATA --method {method} -o <run>"}  # fmt: skip
    info = {"unit": "mm", "labels": str(root / "labels"), "masks": str(folder / "masks"), "prediction": prediction}
    (folder / "scores.json").write_text(json.dumps(info))
    return folder / "scores.csv"


def read(path):
    return path.read_text(encoding="utf-8")


def test_the_report_stands_alone_and_has_every_section(experiment, tmp_path):
    output = write_report(experiment, tmp_path / "out" / "report.html", title="Left <atrium>")
    html = read(output)
    assert "http" not in html
    assert not re.search(r"<(script|link|iframe)\b|@import|url\((?!#)", html), "nothing is loaded"
    assert set(re.findall(r'src="([^,]*),', html)) == {"data:image/png;base64"}
    assert "Left &lt;atrium&gt;" in html
    assert "paired difference of +0.050" in html
    assert html.count('src="data:image/png') == 12, "best, median and worst of two methods, and of both together"
    assert html.count("<svg") == 2
    assert "semivox train DATA --method ua_mt -o &lt;run&gt;" in html
    assert "steps = 20" in html
    assert html.count("10 of 10<") == 4
    assert [*tmp_path.joinpath("out").iterdir()] == [output], "nothing half-written is left"


def test_a_run_that_is_not_at_its_end_is_pooled_and_compared_with_nothing(experiment, tmp_path):
    (cut,) = (path.with_suffix(".json") for path in experiment if path.parent.name == "ua_mt_0")
    told = json.loads(cut.read_text())
    told["prediction"] |= {"step": [9], "finished": False}
    cut.write_text(json.dumps(told))
    html = read(write_report(experiment, tmp_path / "report.html"))
    assert html.count("9 of 10: not at the end") == 1
    assert "ua_mt (steps taken 9) is not at its end" in html
    (top,) = re.findall(r'class="headline">(.*?)</p>', html)
    assert "1 cannot be compared with the control (not comparable)" in top


def test_no_machine_path_is_in_it(experiment, tmp_path):
    html = read(write_report(experiment, tmp_path / "report.html"))
    assert str(tmp_path) not in html
    assert "secret" not in html
    assert "…/my.toml" in html


def test_a_report_on_bare_scores_says_what_is_missing(experiment, tmp_path):
    for path in experiment:
        path.with_suffix(".json").unlink()
        (path.parent / "masks").rename(path.parent / "moved")
    html = read(write_report(experiment, tmp_path / "report.html", control="supervised_0"))
    assert "No picture: the label of case_6 was not found" in html
    assert "No log.jsonl was found for supervised_0" in html
    assert "No config was recorded" in html
    assert "No command was recorded" in html
    assert "paired difference of +0.050" not in html.split("<main>")[0].split("<ul")[0]


def test_scans_are_found_in_the_folder_of_images(experiment, tmp_path):
    (tmp_path / "images").rename(tmp_path / "scans")
    assert "name its folder with --images" in read(write_report(experiment, tmp_path / "report.html"))
    html = read(write_report(experiment, tmp_path / "report.html", images=tmp_path / "scans"))
    assert html.count('src="data:image/png') == 12


def test_a_mask_on_another_grid_costs_its_picture_only(experiment, tmp_path):
    worst = nib.Nifti1Image(np.zeros((3, 3, 3), np.uint8), np.eye(4))
    nib.save(worst, experiment[0].parent / "masks" / "case_0.nii.gz")
    html = read(write_report(experiment, tmp_path / "report.html"))
    assert "expected one shape" in html
    assert html.count('src="data:image/png') == 10, "it was the worst of its method, and of both together"


def told_more(experiment):
    """Give every run two classes of known size, and the logs of one method what tells of collapse."""
    for path in experiment:
        lines = path.read_text().splitlines()
        rows = [f"{line},90" for line in lines[1:]] + [
            f"{case},2,<vein>,{0.4 - 0.1 * ('ua_mt' in str(path))},9,0,10" for case in CASES
        ]
        path.write_text("\n".join([f"{lines[0]},truth_voxels", *rows]) + "\n")
        if "ua_mt" in str(path):
            log = path.parent / "run" / "log.jsonl"
            log.write_text("".join(json.dumps({"step": n, "shown": {"class2_rank": 9.0 - n}}) + "\n" for n in range(5)))
    return experiment


def test_the_rarest_class_comes_first_with_its_share_and_difference(experiment, tmp_path):
    html = read(write_report(told_more(experiment), tmp_path / "report.html"))
    table = html.split("Dice by class frequency</caption>")[1].split("</table>")[0]
    heads = re.findall(r'<th scope="col">([^>]*?)<br>(.*?)&nbsp;%', table)
    assert heads == [("&lt;vein&gt;", "10.0"), ("atrium", "90.0")]
    assert re.findall(r"<b>(.*?)</b>", table) == ["0.400", "0.690", "0.300", "0.740"]
    assert "−0.100 [−0.100, −0.100]" in table
    assert "do not say how large" in read(write_report(shrunk(experiment), tmp_path / "other.html"))


def shrunk(experiment):
    """Take the column of sizes away."""
    for path in experiment:
        path.write_text("\n".join(line.rpartition(",")[0] for line in path.read_text().splitlines()) + "\n")
    return experiment


def test_collapse_has_a_section_where_a_log_tells_of_it_and_none_elsewhere(experiment, tmp_path):
    assert 'id="collapse"' not in read(write_report(experiment, tmp_path / "before.html"))
    html = read(write_report(told_more(experiment), tmp_path / "after.html"))
    section = html.split('id="collapse"')[1].split("</section>")[0]
    assert "effective rank of the features" in section
    assert html.count('href="#collapse"') == 1


def test_further_controls_are_told(experiment, tmp_path):
    html = read(write_report(experiment, tmp_path / "report.html", further_controls=("ua_mt", "nobody")))
    section = html.split("Against ua_mt</caption>")[1].split("</table>")[0]
    assert '<th scope="row">supervised</th><td class="word">ua_mt</td>' in section
    assert "−0.050" in section
    assert "Nothing could be compared with nobody" in html


def test_the_same_scores_give_the_same_bytes(experiment, tmp_path):
    first = write_report(experiment, tmp_path / "a.html")
    assert read(first) == read(write_report(experiment, tmp_path / "b.html"))


def test_no_scores_are_refused(tmp_path):
    with pytest.raises(DatasetError, match="no scores were given"):
        write_report([], tmp_path / "report.html")


def test_reporting_needs_no_torch_and_draws_late():
    code = "import sys, semivox.reporting.report; print([m for m in ('torch', 'matplotlib') if m in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


def test_a_folder_whose_name_is_not_utf_8_has_its_report(experiment, tmp_path):
    foreign = tmp_path / os.fsdecode(b"caf\xe9 $1$")
    experiment[0].parent.rename(foreign)
    (foreign / "scores.json").unlink()
    html = read(write_report([foreign / "scores.csv", *experiment[1:]], tmp_path / "report.html"))
    assert "caf\\udce9 $1$" in html
