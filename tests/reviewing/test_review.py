"""review.json: what is read of it, and that it holds for the masks alone that were looked at."""

import hashlib
import json

import pytest

from semivox.errors import DatasetError
from semivox.reviewing.review import Verdict, read_review


@pytest.fixture
def masks(tmp_path):
    (tmp_path / "a.nii.gz").write_bytes(b"a mask")
    return {"a": tmp_path / "a.nii.gz"}


DIGEST = hashlib.sha256(b"a mask").hexdigest()
SAID = {"choice": "accept", "note": "fine <b>", "mask": DIGEST, "time": "2026-01-31T12:00:00.000Z"}


def written(folder, cases, **others):
    (folder / "review.json").write_text(json.dumps({"version": 1, "cases": cases, **others}))
    return folder / "review.json"


def test_choice_note_mask_time_and_reviewer_are_read(tmp_path, masks):
    only_note = {**SAID, "choice": None}
    path = written(tmp_path, {"a": SAID, "b": {"choice": "reject", "mask": "0" * 64}, "c": only_note}, reviewer="A. B.")
    assert read_review(path, masks) == {
        "a": Verdict("accept", "fine <b>", DIGEST, SAID["time"], "A. B."),
        "b": Verdict("reject", "", "0" * 64, "", "A. B."),
    }


def test_a_review_of_other_masks_is_refused(tmp_path, masks):
    path = written(tmp_path, {"a": SAID})
    masks["a"].write_bytes(b"another mask")
    with pytest.raises(DatasetError, match=r"a\.nii\.gz: found another mask of 'a' than .*review\.json speaks of"):
        read_review(path, masks)


@pytest.mark.parametrize(("text", "message"), [
    ("no JSON", "is damaged"),
    ("[]", "found list"),
    ('{"cases": {}}', "found version None, expected 1"),
    ('{"version": 2, "cases": {}}', "found version 2, expected 1"),
    ('{"version": 1, "case_02": "accept"}', "found None, expected"),
    ('{"version": 1, "cases": {"a": {"choice": "yes"}}}', "found 'yes' for case 'a', expected one of accept"),
    ('{"version": 1, "cases": {"a": 3}}', "found 3 for case 'a'"),
    ('{"version": 1, "cases": {"a": {}}}', "found None for case 'a'"),
    ('{"version": 1, "cases": {"a": {"choice": "accept"}}}', "found None as 'mask' of case 'a', expected the SHA-256"),
    ('{"version": 1, "cases": {"\\u0007": {"choice": "accept"}}}', "expected"),
])  # fmt: skip
def test_what_is_no_review_is_refused(text, message, tmp_path, masks):
    (tmp_path / "review.json").write_text(text)
    with pytest.raises(DatasetError, match=message):
        read_review(tmp_path / "review.json", masks)


def test_a_review_that_is_not_there_is_missed_by_name(tmp_path):
    with pytest.raises(DatasetError, match=r"there is no '.*revue\.json': expected a review\.json"):
        read_review(tmp_path / "revue.json", {})
