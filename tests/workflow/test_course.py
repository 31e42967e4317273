"""What a run decides: steps that fit the time, and that it is kept to."""

from dataclasses import replace
from pathlib import Path

import pytest

from semivox.errors import RunError
from semivox.workflow.course import LEAST, SHARE, Course, Pace, expected_seconds, fitting_steps, keep, kept

COURSE = Course("averaged_match", "supervised", members=2, folds=0, steps=0)
PACES = {"averaged_match": Pace(step=0.5, scan=3.0), "supervised": Pace(step=0.2, scan=2.0)}


def test_steps_fill_what_masks_leave_of_the_time():
    """Of an hour, .85 is planned for. 10 masks and their second opinions take 80 s, a step of all 1.2 s."""
    steps = fitting_steps(3600, COURSE, PACES, scans=10, labelled=4)
    assert steps == int((SHARE * 3600 - 10 * (2 * 3 + 2)) / 1.2) // 10 * 10
    assert expected_seconds(replace(COURSE, steps=steps), PACES, 10, 4) <= SHARE * 3600


def test_cross_validations_are_counted_with_their_predictions():
    folded = replace(COURSE, folds=4, steps=100)
    alone = expected_seconds(replace(COURSE, steps=100), PACES, 10, 4)
    assert expected_seconds(folded, PACES, 10, 4) == pytest.approx(alone + 100 * 4 * 0.7 + 4 * 5.0)
    assert [place.name for place in folded.trainings(Path("out"))] == [
        "averaged_match-0", "averaged_match-1", "supervised", "folds-averaged_match", "folds-supervised",
    ]  # fmt: skip


def test_a_training_takes_some_steps_whatever_the_time():
    assert fitting_steps(1, COURSE, PACES, scans=10, labelled=4) == LEAST


def test_what_was_decided_is_kept_to(tmp_path):
    assert kept(tmp_path / "course.json", {"members": 2}) is None
    keep(COURSE, tmp_path / "course.json")
    assert kept(tmp_path / "course.json", {"members": 2, "folds": 0}) == COURSE
    with pytest.raises(RunError, match="was started with members = 2, found 3"):
        kept(tmp_path / "course.json", {"members": 3})
    (tmp_path / "course.json").write_text('{"odd": 1}')
    with pytest.raises(RunError, match="damaged"):
        kept(tmp_path / "course.json", {})
