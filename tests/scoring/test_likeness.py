"""What may be pooled under one name, and what may be compared."""

from dataclasses import replace

import pytest

from semivox.reporting.tables import tabulate
from semivox.scoring.comparison import common_seeds
from semivox.scoring.likeness import confounders, differences, group_scores, is_known
from semivox.scoring.scores import Row, Scores

CONFIG = {"seed": 0, "label": "", "steps": 800, "patch": [32, 32, 32], "net": {"name": "vnet", "options": {}},
          "method": {"name": "m", "weight": 1.0}, "stages": {}, "batch_unlabelled": 2}  # fmt: skip


def run(tmp_path, name, *, seed=0, method=None, config=None, **noted):
    """Scores of a run that says all of itself."""
    rows = (Row("a", "organ", 1, False, {"dice": 0.5}),)
    told = {"group": name, "method": method or name, "seed": seed, "split": "s", "step": [800], "steps": [800],
            "finished": True, "options": {"mirror": None}}  # fmt: skip
    told |= {"config": CONFIG | {"seed": seed} | (config or {})} | noted
    path = tmp_path / f"{name}-{seed}-{len(str(config))}-{noted}.csv"
    return Scores(path, rows, {"prediction": told})


OTHERS = {
    "split": {"split": "t"},
    "steps": {"step": [300], "steps": [300]},
    "steps taken": {"step": [300], "finished": False},
    "net.name": {"config": {"net": {"name": "unet", "options": {}}}},
    "net.options.depth": {"config": {"net": {"name": "vnet", "options": {"depth": 2}}}},
    "patch": {"config": {"patch": [64, 64, 32]}},
    "predict's mirror": {"options": {"mirror": True}},
    "runs averaged": {"step": [800, 800], "steps": [800, 800]},
}


@pytest.mark.parametrize("what", OTHERS)
def test_runs_that_differ_in_more_than_their_seed_are_never_pooled(what, tmp_path):
    runs = [run(tmp_path, "m"), run(tmp_path, "m", seed=1), run(tmp_path, "m", seed=2, **OTHERS[what])]
    first, second = group_scores(runs)
    assert [one.seed for one in first.runs] == [0, 1]
    assert first.name.startswith("m (")
    assert what in second.name
    assert first.name != second.name


@pytest.mark.parametrize("what", OTHERS)
def test_methods_that_differ_in_more_are_not_comparable(what, tmp_path):
    method, control = group_scores([run(tmp_path, "m", **OTHERS[what]), run(tmp_path, "supervised")])
    assert what in " ".join(confounders(method, control))


def test_the_seed_the_method_and_its_own_fields_are_no_difference(tmp_path):
    own = {"method": {"name": "other"}, "stages": {"pre": {"steps": 3}}, "steps": 9, "batch_unlabelled": 0}
    method, control = group_scores([run(tmp_path, "m", config=own), run(tmp_path, "supervised", seed=1)])
    assert confounders(method, control) == ()


def test_a_field_of_the_method_divides_runs_of_one_name(tmp_path):
    other = {"method": {"name": "m", "weight": 0.0}}
    names = [group.name for group in group_scores([run(tmp_path, "m"), run(tmp_path, "m", seed=1, config=other)])]
    assert names == ["m (method.weight 1.0)", "m (method.weight 0.0)"]


def test_a_named_variant_of_the_same_method_may_differ_but_has_to_be_finished(tmp_path):
    more = {"method": "supervised", "split": "all"}
    variant, control = group_scores([run(tmp_path, "supervised, all", **more), run(tmp_path, "supervised")])
    assert confounders(variant, control) == ()
    assert differences(variant.runs[0], control.runs[0]) == {"split": ("all", "s")}
    cut, control = group_scores([run(tmp_path, "cut", **more, finished=False), run(tmp_path, "supervised")])
    assert confounders(cut, control) == ("cut is not at its end",)


def test_what_is_unknown_is_no_difference(tmp_path):
    silent = Scores(tmp_path / "m.csv", run(tmp_path, "m").rows, {"prediction": {"group": "m"}})
    method, control = group_scores([silent, run(tmp_path, "supervised")])
    assert confounders(method, control) == ()
    assert not is_known(silent)
    assert is_known(control.runs[0])


def test_runs_of_two_splits_are_not_pooled_through_one_that_tells_none(tmp_path):
    runs = [run(tmp_path, "m", split=None), run(tmp_path, "m", seed=1, split="aaaa"),
            run(tmp_path, "m", seed=2, split="bbbb")]  # fmt: skip
    first, second = group_scores(runs)
    assert [[one.split for one in group.runs] for group in (first, second)] == [[None, "aaaa"], ["bbbb"]]
    assert [group.name for group in (first, second)] == ["m (split aaaa)", "m (split bbbb)"]


def test_groups_are_compared_by_all_of_their_runs(tmp_path):
    runs = [run(tmp_path, "m", split=None), run(tmp_path, "m", seed=1), run(tmp_path, "supervised", split="t")]
    assert confounders(*group_scores(runs)) == ("split s against t",)


def test_runs_scored_by_two_definitions_of_hd95_are_not_pooled_and_the_page_says_so(tmp_path):
    told = [
        replace(one, info={**one.info, "hd95": how})
        for one, how in (
            (run(tmp_path, "m"), "pooled"),
            (run(tmp_path, "m", seed=1), "max"),
            (run(tmp_path, "control"), "max"),
        )
    ]
    names = ["m (definition of HD95 pooled)", "m (definition of HD95 max)"]
    assert [group.name for group in group_scores(told[:2])] == names
    method, control = group_scores([told[0], told[2]])
    assert confounders(method, control) == ()
    assert confounders(method, control, "hd95_mm") == ("definition of HD95 pooled against max",)
    notes = tabulate([method, control], control="control").notes
    assert "HD95 not comparable: it is pooled of m, max of control; evaluate one of them again." in notes


def test_draws_of_as_many_labelled_cases_are_pooled_and_compared_draw_by_draw(tmp_path):
    runs = [run(tmp_path, name, labelled=4, draw=draw, split=f"s{draw}") for name in ("m", "n") for draw in range(3)]
    first, second = group_scores(runs)
    assert [(group.name, [one.draw for one in group.runs]) for group in (first, second)] == [
        ("m", [0, 1, 2]), ("n", [0, 1, 2]),
    ]  # fmt: skip
    assert confounders(first, second) == ()
    assert common_seeds(first, second) == 3
    assert common_seeds(first, replace(second, runs=second.runs[:1])) == 1


@pytest.mark.parametrize("noted", [{"labelled": 8, "draw": 1}, {"labelled": 4, "draw": 0}, {"labelled": 4}])
def test_another_split_that_is_no_other_draw_of_as_many_is_a_difference(noted, tmp_path):
    first, second = run(tmp_path, "m", labelled=4, draw=0), run(tmp_path, "m", split="t", **noted)
    assert differences(first, second)["split"] == ("s", "t")
