from semivox.reporting.headline import sentence
from semivox.reporting.tables import markdown_table, metric_name, score_text, summary_tables


def test_of_pictures_the_markdown_table_has_the_mean_miou_of_the_runs(scored):
    paths = [scored("supervised", 0.0, seed=seed, miou={"mean": value}) for seed, value in enumerate((0.5, 0.7))]
    paths += [scored("on scans", 0.0), scored("nothing there", 0.0, miou={"mean": None})]
    lines = markdown_table(summary_tables(paths)).splitlines()
    assert [line.split("|")[-2].strip() for line in lines] == ["mIoU", "---:", "0.600", "–", "–"]
    assert "mIoU" not in markdown_table(summary_tables(paths[2:3]))


def test_without_a_control_nothing_is_claimed(scored):
    tables = summary_tables([scored("a", 0.0), scored("b", 0.1)])
    assert not tables.comparisons
    assert any("none of the groups is 'supervised'" in note for note in tables.notes)
    assert len(tables.pairs) == 1


def test_each_budget_has_its_own_control(scored):
    paths = [scored(f"{m} {budget}", shift, split=budget, method=m)
             for budget in ("4", "8") for m, shift in (("supervised", 0.0), ("ua_mt", 0.1))]  # fmt: skip
    tables = summary_tables(paths)
    assert tables.controls == {"ua_mt 4": "supervised 4", "ua_mt 8": "supervised 8"}


def test_other_splits_few_cases_and_single_runs_are_noted(scored):
    tables = summary_tables([scored("supervised", 0.0, cases=4), scored("ua_mt", 0.1, split="t")])
    notes = " ".join(tables.notes)
    assert "Not comparable: ua_mt and supervised differ in more than their method: split t against s." in notes
    assert "not scored on the same cases" in notes
    assert "cannot go below p = 0.125" in notes
    assert "Trained once" in notes
    assert tables.comparison("ua_mt", "dice").cases == 4


def test_the_means_of_every_run_are_kept(scored):
    tables = summary_tables([scored("supervised", 0.0, seed=1), scored("supervised", 0.1, seed=2)])
    assert [(run.seed, round(run.mean, 3)) for run in tables.runs] == [(1, 0.7), (2, 0.8)]


def test_the_markdown_holds_the_same_numbers(scored):
    lines = markdown_table(summary_tables([scored("supervised", 0.0), scored("a|b", 0.05)])).splitlines()
    assert lines[0] == "| Method | Runs | Cases | Dice | Δ Dice [95 %] | p (Holm) | Verdict | Failures |"
    assert lines[2] == "| supervised | 1 | 10 | 0.700 ± 0.067 | – | – | – | 0 of 10 |"
    assert lines[3] == "| a/b | 1 | 10 | 0.750 ± 0.067 | +0.050 [+0.050, +0.050] | 0.002 | seen once | 0 of 10 |"


def test_one_common_case_is_too_few(scored):
    tables = summary_tables([scored("supervised", 0.0, cases=1), scored("ua_mt", 0.1)])
    assert sentence(tables.comparisons[0]).endswith("on the same 1 case: too few to compare.")


def test_names_and_numbers_for_people():
    columns = ["dice", "hd95_mm", "assd_voxel", "nsd_at_2mm", "nsd_at_0.5_mm"]
    assert [*map(metric_name, columns)] == ["Dice", "HD95 (mm)", "ASSD (voxel)", "NSD at 2 mm", "NSD at 0.5 mm"]
    assert score_text(-0.0312, "dice", signed=True) == "−0.031"
    assert score_text(3.14159, "hd95_mm") == "3.14"
    assert score_text(float("nan"), "dice") == "–"
