"""Slices with outlines: which slice, which part of it, which way up, and in which colours."""

import io
from itertools import combinations

import numpy as np
import pytest
from PIL import Image

from semivox.data.palette import CLASSES
from semivox.reporting.slices import PREDICTION, TRUTH, draw_slice, outline_colours, slice_to_show

SEEN_AS = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
    "all cones": np.eye(3).tolist(),
}
"""What becomes of linear red, green and blue, by Machado et al., IEEE TVCG 2009, at full severity."""
XYZ = np.array([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])


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


def test_each_class_has_a_colour_of_its_own_and_one_alone_has_two():
    assert outline_colours([0, 3]) == {3: (TRUTH, PREDICTION)}
    several = outline_colours(range(7))
    assert list(several) == [1, 2, 3, 4, 5, 6]
    assert len({colour for colour, _ in several.values()}) == 6
    assert all(truth == prediction for truth, prediction in several.values())
    assert outline_colours([]) == {}


def test_classes_are_drawn_in_their_own_colours():
    truth = np.zeros((60, 40, 1), int)
    truth[5:20, 10:30] = 2
    truth[35:55, 10:30] = 7
    picture = pixels(draw_slice(np.zeros((1, 60, 40, 1)), truth, truth, (1, 1, 1), labels=[2, 4, 7]))
    columns = [np.nonzero(near(picture, CLASSES[number]))[1] for number in range(3)]
    assert len(columns[1]) == 0, "class 4 is not there, and keeps its colour"
    assert columns[0].mean() > columns[2].mean(), "class 2 lies at the patient's left"


@pytest.mark.parametrize("eyes", SEEN_AS)
def test_colours_of_classes_are_told_apart_by_all_eyes(eyes):
    for one, other in combinations((*CLASSES,), 2):
        assert np.linalg.norm(lab(one, eyes) - lab(other, eyes)) > 25, (one, other)  # 2.3 is just noticeable
    assert np.linalg.norm(lab(TRUTH, eyes) - lab(PREDICTION, eyes)) > 25


def lab(colour, eyes):
    """Return CIE L*a*b* of a colour as these eyes see it."""
    parts = np.array([int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)])
    linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
    x, y, z = np.cbrt(XYZ @ np.clip(SEEN_AS[eyes] @ linear, 1e-6, 1) / [0.9505, 1, 1.089])
    return np.array([116 * y - 16, 500 * (x - y), 200 * (y - z)])


def test_pictures_beside_each_other_show_the_same_part_of_a_slice():
    truth, near_by, far = np.zeros((3, 90, 90, 1), int)
    truth[40:50, 40:50] = near_by[41:51, 40:50] = far[40:50, 40:50] = 1
    far[80:88, 80:88] = 1
    image = np.random.default_rng(0).random((1, 90, 90, 1))
    alone, other = (pixels(draw_slice(image, truth, mask, (1, 1, 1))) for mask in (near_by, far))
    beside = [pixels(draw_slice(image, truth, mask, (1, 1, 1), beside=(near_by, far))) for mask in (near_by, far)]
    assert alone.shape != other.shape or (alone != other).mean() > 0.5
    assert beside[0].shape == beside[1].shape
    assert (beside[0] == beside[1]).all(-1).mean() > 0.8, "but for the outlines of the predictions"
