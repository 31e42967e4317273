import json

import pytest

from semivox.errors import DatasetError
from semivox.reporting.tables import tabulate
from semivox.scoring.comparison import summarise
from semivox.scoring.likeness import group_scores
from semivox.scoring.scores import read_scores


def write(folder, text, info=None):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "scores.csv").write_text(text)
    if info is not None:
        (folder / "scores.json").write_text(json.dumps(info))
    return folder / "scores.csv"


TABLE = "case,label,name,dice,hd95_mm,truth_ml,failure,both_empty\na,1,atrium,0.5,3,7,0,0\nb,1,atrium,,,7,1,0\n"


def test_only_scores_are_metrics_and_empty_cells_are_undefined(tmp_path):
    scores = read_scores(write(tmp_path, TABLE))
    assert scores.metrics == ("dice", "hd95_mm")
    assert [row.label for row in scores.rows] == ["atrium", "atrium"]
    assert [row.failed for row in scores.rows] == [False, True]
    assert scores.rows[1].values["dice"] != scores.rows[1].values["dice"]
    assert scores.rows[0].value == 1


def test_without_scores_json_the_folder_names_the_group(tmp_path):
    scores = read_scores(write(tmp_path / "ua_mt", TABLE))
    assert (scores.group, scores.method, scores.seed, scores.split) == ("ua_mt", "ua_mt", None, None)


def test_runs_are_grouped_by_display_name_and_sorted_by_seed(tmp_path):
    paths = [
        write(tmp_path / str(seed), TABLE, {"prediction": {"group": group, "method": "m", "seed": seed}})
        for seed, group in ((3, "m, small"), (1, "m, small"), (2, "m"))
    ]
    groups = group_scores([read_scores(path) for path in [*paths, paths[0]]])
    assert [(g.name, [run.seed for run in g.runs]) for g in groups] == [("m, small", [1, 3]), ("m", [2])]


FRAMES = "case,label,name,dice\np1_ed,1,x,0.9\np1_es,1,x,0.5\np2_ed,1,x,0.4\np2_es,1,x,\n"


def test_the_scans_of_a_patient_are_one_observation(tmp_path):
    """p1 has (.9 + .5) / 2, p2 the one score that is defined: two patients, not three scans."""
    told = {"prediction": {"group": "a", "method": "m", "patients": "^p."}}
    (group,) = group_scores([read_scores(write(tmp_path, FRAMES, told))])
    assert group.cells("dice") == pytest.approx({("p1", "x"): 0.7, ("p2", "x"): 0.4})
    found = summarise(group, "dice")
    assert (found.cases, found.mean) == (2, pytest.approx(0.55))


def told_patients(folder, name, patients):
    told = {} if patients is None else {"patients": patients}
    return read_scores(write(folder / name, FRAMES, {"prediction": {"group": name, **told}}))


def test_without_patients_and_where_runs_disagree_on_them_a_scan_is_one_observation(tmp_path):
    plain, one, two = (told_patients(tmp_path, *of) for of in (("a", None), ("b", "^p."), ("c", "^p")))
    for scores in ([plain], [one, two], [plain, one, two]):
        assert all(len(g.cells("dice")) == 3 for g in group_scores(scores))
    assert any("different expressions for the patient: ^p, ^p." in note for note in tabulate(
        group_scores([one, two]), control=None).notes)  # fmt: skip


def test_a_table_that_does_not_tell_patients_keeps_those_that_the_others_tell(tmp_path):
    groups = group_scores([told_patients(tmp_path, "a", None), told_patients(tmp_path, "b", "^p.")])
    assert [sorted(g.cells("dice")) for g in groups] == [[("p1", "x"), ("p2", "x")]] * 2


def test_a_scored_case_that_the_expression_does_not_match_is_a_patient_of_its_own(tmp_path):
    told = {"prediction": {"patients": "^p."}}
    (group,) = group_scores([read_scores(write(tmp_path, FRAMES + "outside,1,x,0.1\n", told))])
    assert group.cells("dice") == pytest.approx({("p1", "x"): 0.7, ("p2", "x"): 0.4, ("outside", "x"): 0.1})


def test_a_moved_folder_is_found_beside_the_scores(tmp_path):
    scores = read_scores(write(tmp_path, TABLE))
    (tmp_path / "masks").mkdir()
    assert scores.locate("/elsewhere/masks") == tmp_path / "masks"
    assert scores.locate("masks") == tmp_path / "masks"
    assert scores.locate("/elsewhere/labels") is None
    assert scores.locate(None) is None


@pytest.mark.parametrize(("text", "message"), [
    ("case,dice\na,1\n", "found the columns case, dice"),
    ("case,label,name\na,1,x\n", "at least one metric"),
    ("case,label,dice\n", "holds no scores"),
    ("case,label,dice\na,1,high\n", "line 2: could not convert string to float: 'high'"),
])  # fmt: skip
def test_a_table_that_is_none_is_refused_with_what_was_found(text, message, tmp_path):
    with pytest.raises(DatasetError, match=message):
        read_scores(write(tmp_path, text))


def test_no_file_and_no_scores_are_refused(tmp_path):
    with pytest.raises(DatasetError, match="there is no such file"):
        read_scores(tmp_path / "scores.csv")
    with pytest.raises(DatasetError, match="no scores were given"):
        group_scores([])
    broken = write(tmp_path, TABLE)
    broken.with_suffix(".json").write_text("{")
    with pytest.raises(DatasetError, match=r"scores\.json is damaged"):
        read_scores(broken)
