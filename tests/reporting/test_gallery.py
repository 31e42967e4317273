"""The gallery: the same case in all methods, whose slice they share, and a legend of classes."""

import re

import nibabel as nib
import numpy as np

from score_files import CASES, write_experiment
from semivox.reporting.gallery import class_values, side_by_side
from semivox.reporting.report import write_report
from semivox.scoring.likeness import group_scores
from semivox.scoring.scores import read_scores


def test_the_same_case_stands_side_by_side_in_all_methods(tmp_path):
    paths = write_experiment(tmp_path, methods=("supervised", "ua_mt", "simcvd"), classes=("atrium", "vein"))
    groups = group_scores([read_scores(path) for path in paths])
    values = class_values(groups)
    assert values == {1: "atrium", 2: "vein"}
    found = list(side_by_side(groups, "dice", None, values))
    assert [(rank, case) for rank, case, _ in found] == [("best", CASES[6]), ("median", CASES[3]), ("worst", CASES[0])]
    for _, _, pictures in found:
        assert [picture.title for picture in pictures] == ["supervised", "ua_mt", "simcvd"]
        assert len({picture.source for picture in pictures}) == 3
    assert found[2][2][1].caption == "Dice 0.650, run of seed 0"


def test_a_method_whose_mask_is_gone_says_so_beside_the_others(tmp_path):
    paths = write_experiment(tmp_path, methods=("supervised", "ua_mt"), seeds=(0,))
    (paths[0].parent / "masks" / f"{CASES[6]}.nii.gz").unlink()
    small = nib.Nifti1Image(np.zeros((3, 3, 3), np.uint8), np.eye(4))
    nib.save(small, paths[1].parent / "masks" / f"{CASES[3]}.nii.gz")
    groups = group_scores([read_scores(path) for path in paths])
    best, median, worst = (pictures for _, _, pictures in side_by_side(groups, "dice", None))
    assert best[0].missing.startswith("the predicted mask of case_6 was not found")
    assert best[1].source
    assert "(3, 3, 3); expected one shape" in median[1].missing
    assert all(picture.source for picture in worst)


def test_methods_without_a_case_in_common_have_nothing_side_by_side(tmp_path):
    paths = write_experiment(tmp_path, methods=("supervised", "ua_mt"), seeds=(0,))
    paths[1].write_text(paths[1].read_text().replace("case_", "scan_"))
    groups = group_scores([read_scores(path) for path in paths])
    assert list(side_by_side(groups, "dice", None)) == []


def test_the_legend_names_every_class_with_its_colour(tmp_path):
    paths = write_experiment(tmp_path, methods=("supervised", "ua_mt"), classes=("atrium", "<vein>", "scar"))
    legend = write_report(paths, tmp_path / "r.html").read_text().split('class="legend">')[1].split("</p>")[0]
    found = re.findall(r'border-color: (#\w{6})"></span>([^<]+)<', legend)
    assert [name for _, name in found] == ["atrium", "&lt;vein&gt;", "scar"]
    assert len({colour for colour, _ in found}) == 3
    assert "broad line: truth" in legend
    one = write_report(write_experiment(tmp_path / "one", methods=("a",)), tmp_path / "one.html").read_text()
    assert "broad line" not in one.split('class="legend">')[1].split("</p>")[0]
