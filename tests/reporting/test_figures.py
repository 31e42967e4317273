"""Figures of a report: a dot for every case, and names as they are."""

from semivox.reporting.figures import draw_cases


def test_every_case_is_a_dot_and_drawing_again_gives_the_same():
    cases = {"supervised": {"a": 0.5, "b": 0.6}, "ua_mt": {"a": 0.7, "b": 0.9, "c": 0.8}}
    nan = float("nan")
    spans = {"supervised": (0.55, 0.5, 0.6), "ua_mt": (0.8, nan, nan)}
    differences = {"ua_mt": ({"a": 0.2, "b": 0.3}, (0.25, 0.2, 0.3))}
    svg = draw_cases(cases, spans, differences, metric="Dice")
    assert svg.count("<use") >= 2 + 3 + 2 + 3
    assert svg == draw_cases(cases, spans, differences, metric="Dice")


def test_names_with_dollars_are_shown_as_they_are():
    name = r"$\frac{$ cost"
    svg = draw_cases({name: {"a": 0.5}}, {name: (0.5, 0.4, 0.6)}, {}, metric=name)
    assert f">{name}<" in svg
    assert f">{name} of each case<" in svg
