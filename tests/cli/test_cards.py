"""Method cards: every method and every field explains itself."""

import pytest

from semivox.cli.cards import describe_method, describe_methods, methods_page
from semivox.errors import UnknownMethodError
from semivox.methods import list_methods, method_module


def test_the_list_has_a_line_per_method_with_its_first_sentence():
    lines = describe_methods().splitlines()
    assert [line.split()[0] for line in lines] == list(list_methods())
    line = next(line for line in lines if line.startswith("mean_teacher"))
    assert "the student agrees with the moving average of itself" in line


@pytest.mark.parametrize("name", list_methods())
def test_a_card_names_the_paper_and_every_field_with_its_meaning(name):
    card = describe_method(name)
    for heading in ("Paper:", "Differs from the paper:", "Shapes:"):
        assert heading in card
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
