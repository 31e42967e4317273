"""What the headline says, and above all what it does not say."""

import pytest

from semivox.reporting.headline import full_sentence, headline, sentence
from semivox.reporting.tables import summary_tables


def test_the_sentence_names_means_difference_and_interval(thrice):
    tables = summary_tables([*thrice("mean_teacher", 0.05), *thrice("supervised", 0.0)])
    assert tables.groups == ("supervised", "mean_teacher"), "the control comes first"
    found = headline(tables)
    assert "mean Dice of 0.750, supervised 0.700, on the same 10 cases" in found
    assert found.endswith("+0.050 (95 % interval +0.050 to +0.050), so it did better.")


def test_an_interval_with_zero_is_said_to_show_no_difference(scored):
    tables = summary_tables([scored("supervised", 0.0), scored("ua_mt", 0.001, spread=0.03)])
    assert "which contains 0: no difference shown" in headline(tables)


def test_an_interval_beside_zero_is_no_difference_where_holms_p_is_not_below_5_percent(thrice):
    many = [path for name in "abcdefghijklmnopqrstuvwxyz" for path in thrice(name, 0.1, cases=10)]
    found = sentence(summary_tables([*thrice("supervised", 0.0), *many]).comparisons[0])
    assert found.endswith("+0.100 to +0.100), but Holm's p is 0.051, not below 0.05: no difference shown.")


def test_one_seed_is_seen_once(scored):
    found = headline(summary_tables([scored("supervised", 0.0), scored("ua_mt", 0.05)]))
    assert found.endswith("seen once: with 1 seed of the 3 that it takes to tell a method from its seed.")
    assert "better" not in found


def test_models_that_find_nothing_are_not_compared(thrice):
    idle = {"level": 0.0, "further": {"hd95_mm": 0.0}}
    tables = summary_tables([*thrice("supervised", 0.0, **idle), *thrice("ua_mt", 0.05, **idle)])
    assert headline(tables).endswith("on the same 10 cases: neither has learned yet.")
    one_learned = summary_tables([*thrice("learned", 0.2, **idle), *thrice("idle", 0.0, **idle)], control="idle")
    assert "so it did better." in headline(one_learned)


@pytest.mark.parametrize(("distance", "words"), [
    (-1.0, ""),
    (1.0, " Not so by the distances: HD95 (mm) +1.00 (95 % interval +1.00 to +1.00), worse."),
    (0.0, " Not so by the distances: HD95 (mm) 0.00 (95 % interval 0.00 to 0.00), no difference shown."),
])  # fmt: skip
def test_the_headline_says_where_the_distances_disagree(distance, words, thrice):
    control, method = ({"hd95_mm": 0.0, "nsd_at_2mm": 0.0}, {"hd95_mm": distance, "nsd_at_2mm": 0.0})
    paths = [*thrice("supervised", 0.0, further=control), *thrice("ua_mt", 0.05, further=method)]
    found = headline(summary_tables(paths)).replace("+0.00", "0.00")
    assert found.partition("so it did better.")[2] == words


def test_a_difference_in_the_distances_alone_is_told(scored):
    paths = [scored("supervised", 0.0, further={"asd_mm": 0.0}), scored("ua_mt", 0.0, further={"asd_mm": -1.0})]
    assert headline(summary_tables(paths)).endswith("−1.00 to −1.00), seen once in its favour.")


def test_several_methods_are_counted_in_the_headline(thrice):
    shifts = {"supervised": 0.0, "up": 0.1, "down": -0.1, "same": 0.0}
    tables = summary_tables([path for name, shift in shifts.items() for path in thrice(name, shift)])
    found = headline(tables)
    assert "Of 3 methods" in found
    assert "1 did better than the control, 1 did worse than the control, no difference is shown for 1." in found


def test_of_several_methods_those_are_named_of_which_the_distances_say_otherwise(thrice):
    shifts = {"supervised": (0.0, 0.0), "up": (0.1, -1.0), "mixed": (0.1, 1.0)}
    paths = [path for name, (dice, hd) in shifts.items() for path in thrice(name, dice, further={"hd95_mm": hd})]
    tables = summary_tables(paths)
    assert headline(tables).endswith("2 did better than the control. The distances say otherwise of mixed.")
    told = {c.group: full_sentence(tables, c) for c in tables.comparisons if c.metric == "dice"}
    assert "HD95 (mm) +1.00" in told["mixed"]
    assert "HD95" not in told["up"]


def test_the_control_with_more_labels_is_no_method_with_unlabelled_scans(scored):
    ceiling = scored("all labelled", 0.1, method="supervised", split="all")
    tables = summary_tables([scored("supervised", 0.0), scored("ua_mt", 0.05), ceiling])
    assert headline(tables).startswith("With unlabelled scans, ua_mt reached")


def test_without_a_control_nothing_is_claimed(scored):
    assert "cannot be said" in headline(summary_tables([scored("a", 0.0), scored("b", 0.1)]))


def test_methods_of_other_steps_are_not_comparable_and_a_note_at_the_top_says_why(thrice):
    short = {"prediction": {"steps": [300], "step": [300]}}
    paths = [*thrice("supervised", 0.0, prediction={"steps": [800], "step": [800]}), *thrice("ua_mt", 0.05, **short)]
    tables = summary_tables(paths)
    found = headline(tables)
    assert found.endswith("not comparable, since they differ in more than their method (steps 300 against 800).")
    assert "better" not in found
    assert {c.verdict for c in tables.comparisons} == {"not comparable"}
    assert tables.notes[0].startswith("Not comparable: ua_mt and supervised differ")


def test_each_method_is_compared_with_the_control_of_its_own_steps(thrice):
    paths = []
    for split, steps in (("a", 300), ("b", 800)):
        told = {"split": split, "prediction": {"steps": [steps], "step": [steps]}}
        paths += [*thrice("supervised", 0.0, **told), *thrice("ua_mt", 0.05, **told)]
    tables = summary_tables(paths)
    assert len(tables.groups) == 4
    assert {c.verdict for c in tables.comparisons} == {"better"}
    assert tables.controls["ua_mt (split a, steps 300)"] == "supervised (split a, steps 300)"


def test_what_scores_do_not_say_is_said_once_and_refuses_nothing(thrice):
    tables = summary_tables([*thrice("supervised", 0.0), *thrice("ua_mt", 0.05)])
    assert sum("unknown of supervised, ua_mt" in note for note in tables.notes) == 1
    assert tables.comparisons[0].verdict == "better"
