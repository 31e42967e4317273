"""Curves: bare SVG in the page's colours; what tells of collapse is shown where a log has it, and nowhere else."""

import re

from semivox.reporting.curves import draw_collapse, draw_losses, has_ramps

LOSSES = [
    {"step": n % 300, "stage": f"stage_{n // 300}", "total": 1 / (n + 1), "losses": {"supervised": 0.5}}
    for n in range(600)
]


def contrastive(*names):
    """Return a log that shows quantities by these names in every other row."""
    return [{"step": n, "stage": "train", "shown": {name: n for name in names} if n % 2 else {}} for n in range(9)]


def test_curves_are_bare_svg_in_the_colours_of_the_page():
    svg = draw_losses({"a & b": [LOSSES, LOSSES[:7]], "other": [[{"step": 0}]]})
    assert svg.startswith("<svg")
    assert "http" not in svg
    assert "var(--series-1)" in svg
    assert "currentColor" in svg
    assert "stage_1" in svg
    assert "a &amp; b" in svg
    assert len(svg) < 100_000, "long logs are averaged"


def test_variance_rank_and_fill_get_a_panel_each_and_the_legend_says_whose_they_are():
    svg = draw_collapse({"arco": [contrastive("class1_variance", "class2_variance", "class1_rank", "class1_fill")]})
    for words in ("variance of the features", "effective rank of the features", "fill of the bank"):
        assert svg.count(words) == 1
    assert svg.count(">class2<") == 1, "in the panel of the variance alone"
    assert svg.count(">class1<") == 3
    assert "10^{2}" not in svg


def test_only_groups_and_kinds_that_a_log_has_are_drawn():
    svg = draw_collapse({"simcvd": [contrastive("slice_rank", "w")], "supervised": [LOSSES]})
    assert "simcvd" in svg
    assert "supervised" not in svg
    assert "variance of" not in svg
    assert ">w<" not in svg


def test_without_any_there_is_no_figure():
    assert draw_collapse({"supervised": [LOSSES], "mean_teacher": [contrastive("weight", "invariance")]}) == ""
    assert draw_collapse({}) == ""


def test_a_variance_of_nothing_but_zeros_is_drawn_without_a_warning():
    dead = [{"step": n, "shown": {"class1_variance": 0.0}} for n in range(3)]
    assert draw_collapse({"arco": [dead]}).startswith("<svg")


def test_further_runs_are_fainter_and_unnamed():
    svg = draw_collapse({"arco": [contrastive("class1_rank")] * 2})
    assert svg.count(">class1<") == 1
    assert len(re.findall("stroke-opacity: 0.4", svg)) == 1


def test_names_with_dollars_and_backslashes_are_shown_as_they_are():
    name = r"$\alpha_{$ \$5 $"
    log = [{"step": n, "stage": name, "total": 1, "losses": {name: 1}, "shown": {f"{name}_variance": 10.0**n}}
           for n in range(3)]  # fmt: skip
    for svg in (draw_losses({name: [log, log]}), draw_collapse({name: [log]})):
        assert svg.count(f">{name}<") == 2, "in the title and in the legend"
    assert ">10<" in svg, "the ticks of a logarithmic scale are no formulas, either"
    assert "mathdefault" not in svg


def test_ramped_terms_have_a_second_panel_without_their_ramps():
    ramped = [{"step": n, "stage": "train", "total": 1 + 2.0**n, "losses": {"supervised": 1.0, "consistency": 2.0**n},
               "shown": {"consistency_ramp": 2.0**n / 1024}} for n in range(10)]  # fmt: skip
    svg = draw_losses({"teacher": [ramped], "supervised": [LOSSES]})
    assert svg.count(">teacher<") == svg.count(">teacher, without ramps<") == 1
    assert "supervised, without ramps" not in svg
    assert svg.count(">consistency<") == 1, "one legend for both panels"
    assert ">1000<" in svg, "without ramps the total is 1 + 1024 at every step; as it was summed it ends at 513"
    old = draw_losses({"teacher": [[row | {"shown": {}} for row in ramped]]})
    assert "without ramps" not in old
    assert ">1000<" not in old
    assert has_ramps(ramped)
    assert not has_ramps(LOSSES)
