"""Recipes survive JSON, change their digest with anything in them, and refuse what does not fit."""

import json
from dataclasses import replace

import pytest

from semivox.data.recipe import Geometry, Recipe
from semivox.errors import ConfigError

RECIPE = Recipe(
    dims=3, spacing=(1.0, 1.0, 2.5), slice_axis=2, normalise=("volume", "foreground"), clip=(None, (-100.0, 300.0)),
    mean=(None, 40.0), std=(None, 20.0), classes=2, channels=2, label_values=(0, 7),
    boxes={"a": (0, 0, 0, 4, 5, 6)}, ignore=255,
)  # fmt: skip


def test_recipe_and_geometry_survive_json():
    assert Recipe.from_json(json.loads(json.dumps(RECIPE.to_json()))) == RECIPE
    geometry = Geometry((9, 9, 9), (0, 1, 2), (4, 5, 6), (1.0, 2.0, 0.5), (4, 2, 8), (2, 0, 1), (1.0, 1.0, 1.0))
    assert Geometry.from_json(json.loads(json.dumps(vars(geometry)))) == geometry


@pytest.mark.parametrize("change", [{"spacing": None}, {"boxes": None}, {"ignore": None}, {"clip": (None, None)}])
def test_the_digest_changes_with_anything(change):
    assert replace(RECIPE, **change).digest != RECIPE.digest == replace(RECIPE).digest


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mean": (None,)}, "every channel"),
        ({"label_values": (0,)}, "label value"),
        ({"resize": (8, 8)}, "resize"),
        ({"dims": 4}, "dims"),
        ({"normalise": ("volume", "median")}, "'median'"),
        ({"std": (None, 0.0)}, "foreground"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    with pytest.raises(ConfigError, match=message):
        replace(RECIPE, **change)


def test_an_unknown_key_asks_for_a_new_plan():
    with pytest.raises(ConfigError, match="new plan"):
        Recipe.from_json(RECIPE.to_json() | {"colour": "red"})


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"dims": "3"}, "dims"),
        ({"spacing": [1.0, 1.0]}, "spacing.2"),
        ({"spacing": [1.0, 1.0, 1e-300]}, "spacing.2"),
        ({"mean": [None, float("nan")]}, "mean.1"),
        ({"classes": 10**30}, "classes"),
        ({"label_values": [0, 10**30]}, "label_values.1"),
        ({"clip": 7}, "clip"),
        ({"boxes": {"a": [0, 0, 0]}}, "boxes.a.3"),
        ({"normalise": None}, "normalise"),
    ],
)
def test_a_value_in_a_file_that_is_of_another_kind_or_beyond_reason_is_named(change, key):
    with pytest.raises(ConfigError, match=f"not a recipe: key '{key}': .*; make a new plan"):
        Recipe.from_json(json.loads(json.dumps(RECIPE.to_json() | change)))
