"""Method cards: every method and every field explains itself."""

import re

import pytest

from semivox.cli.cards import FAMILIES, describe_method, describe_methods, methods_page
from semivox.errors import UnknownMethodError
from semivox.methods import list_methods, method_class, method_module


def test_the_list_has_every_method_once_below_its_family():
    lines = describe_methods().splitlines()
    heads = [line for line in lines if not line.startswith(" ")]
    assert heads[:-1] == FAMILIES
    names = [line.strip() for line in lines if line.startswith("  ") and not line.startswith("    ")]
    assert sorted(names) == list(list_methods())
    start = lines.index("  mean_teacher")
    assert lines[start + 1] == "    Mean Teacher: the student agrees with the moving average of itself."
    assert lines[start + 2] == "    Paper: Tarvainen & Valpola, NeurIPS 2017. Stages: train. Nets: student, teacher."
    ratios = r"[\d.]+ x in 2D, [\d.]+ x in 3D\."
    assert re.fullmatch(f"    Time: {ratios} Memory: {ratios}", lines[start + 3])


def test_the_list_of_a_family_has_no_other_method():
    listed = describe_methods("contrast")
    assert "  arco\n" in listed
    assert "mean_teacher" not in listed
    with pytest.raises(UnknownMethodError, match="did you mean 'contrast'"):
        describe_methods("contrasts")


@pytest.mark.parametrize("name", list_methods())
def test_a_card_names_the_paper_and_every_field_with_its_meaning(name):
    card = describe_method(name)
    for heading in ("Paper:", "Differs from the paper:", "Shapes:"):
        assert heading in card
    method = method_class(method_module(name))
    assert method.family in FAMILIES
    own = method.paper in ("none", "semivox's own")
    assert own or (method.paper.split()[0] in card and method.paper[-4:] in card), "its first author and its year"
    for key, field in method_module(name).Config.model_fields.items():
        assert f"  {key} = " in card
        assert field.description, f"{name}.{key} has no docstring"


def test_the_page_shows_every_method_with_a_table_that_no_meaning_breaks():
    page = methods_page()
    for name in list_methods():
        assert f"\n## {name}\n" in page
    rows = [line for line in page.splitlines() if line.startswith("| `")]
    assert len(rows) == sum(len(method_module(name).Config.model_fields) for name in list_methods())
    assert {row.replace("\\|", "").count("|") for row in rows} == {4}


def test_an_unknown_method_names_the_nearest():
    with pytest.raises(UnknownMethodError, match="did you mean 'supervised'"):
        describe_method("supervised_")
