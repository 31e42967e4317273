"""The colours of classes, wherever they are drawn: outlines of a report, and masks in programs that show them."""

CLASSES = ("#f5b301", "#4db8ff", "#ff4d4d", "#ffffff", "#7b5cff", "#aa3377")
"""A colour for each of several classes, in the order of their values: told apart with every common colour blindness,
and on grey; the seventh begins anew."""


def class_colour(number: int) -> tuple[int, int, int]:
    """Return red, green and blue (0 to 255) of a class, the first behind the background being number 0."""
    colour = CLASSES[number % len(CLASSES)]
    red, green, blue = (int(colour[start : start + 2], 16) for start in (1, 3, 5))
    return red, green, blue
