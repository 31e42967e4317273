import io

import numpy as np
import pytest
from PIL import Image

from semivox.reporting.figures import PREDICTION, TRUTH, draw_cases, draw_slice, slice_to_show


def pixels(png):
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def near(picture, colour, tolerance=40):
    """Return where a picture has a colour."""
    wanted = np.array([int(colour[i : i + 2], 16) for i in (1, 3, 5)])
    return (np.abs(picture - wanted) < tolerance).all(-1)


def test_the_slice_is_across_the_largest_spacing_and_has_the_most_truth():
    truth, mask = np.zeros((2, 8, 8, 6), int)
    truth[2:4, 2:4, 1] = 1
    truth[2:6, 2:6, 4] = 1
    mask[:, :, 5] = 1
    assert slice_to_show(truth, mask, (1, 1, 2)) == (2, 4)
    assert slice_to_show(truth, mask, (3, 1, 2)) == (0, 2)
    assert slice_to_show(truth, mask, (1, 1, 1)) == (2, 4)
    assert slice_to_show(0 * truth, mask, (1, 1, 2)) == (2, 5)
    assert slice_to_show(0 * truth, 0 * mask, (1, 1, 2)) == (2, 3)
    assert slice_to_show(truth[:, :, 4:5], mask[:, :, 4:5], (2, 1, 1)) == (2, 0)


def test_outlines_lie_where_radiologists_look_for_them():
    truth, mask = np.zeros((2, 40, 40, 1), int)
    truth[4:12, 25:35, 0] = 1  # low x, high y: patient's left, front: at the right, above
    mask[28:36, 5:15, 0] = 1
    picture = pixels(draw_slice(np.full((1, 40, 40, 1), 3.0), truth, mask, (1, 1, 1)))
    rows, columns = np.nonzero(near(picture, TRUTH))
    assert rows.mean() < picture.shape[0] / 2
    assert columns.mean() > picture.shape[1] / 2
    rows, columns = np.nonzero(near(picture, PREDICTION))
    assert rows.mean() > picture.shape[0] / 2
    assert columns.mean() < picture.shape[1] / 2


def test_a_picture_has_the_proportions_of_millimetres():
    truth = np.zeros((20, 10, 6), int)
    truth[:, :, 3] = 1
    height, width, _ = pixels(draw_slice(np.zeros((1, 20, 10, 6)), truth, truth, (1, 4, 5))).shape
    assert height / width == pytest.approx(2, rel=0.02)


def test_an_ignore_label_is_neither_outlined_nor_looked_for():
    truth = np.zeros((12, 12, 4), int)
    truth[5:8, 5:8, 1] = 1
    image = np.zeros((1, 12, 12, 4))
    ignored = truth.copy()
    ignored[:, :, 3] = 255
    png = draw_slice(image, ignored, truth, (1, 1, 1), labels={1})
    assert png == draw_slice(image, truth, truth, (1, 1, 1))


def test_a_plain_colour_picture_keeps_its_colours():
    image = np.zeros((3, 8, 8, 1))
    image[0, :4] = 1
    empty = np.zeros((8, 8, 1), int)
    picture = pixels(draw_slice(image, empty, empty, (1, 1, 1)))
    assert near(picture, "#ff0000").mean() > 0.3


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
