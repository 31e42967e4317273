"""What a person said of masks: review.json, a choice for each case that was looked at."""

from pathlib import Path

from semivox.data.names import is_plain, shown
from semivox.errors import DatasetError
from semivox.files import read_object

CHOICES = ("accept", "correct", "reject")


def read_review(path: Path) -> dict[str, str]:
    """Return the choice for each case: "accept", "correct" or "reject".

    Raises:
        DatasetError: there is no such file, or it is no review.
    """
    advice = "save it anew from the page"
    try:
        cases = read_object(path, advice=advice, error=DatasetError).get("cases")
    except FileNotFoundError:
        raise DatasetError(f"there is no '{path}': expected a review.json; check the path") from None
    if not isinstance(cases, dict) or not all(map(is_plain, cases)):
        raise DatasetError(f'{path}: found {shown(cases)}, expected {{"cases": {{CASE: {{"choice": ...}}}}}}; {advice}')
    found = {}
    for case, said in cases.items():
        choice = said.get("choice") if isinstance(said, dict) else said
        if choice not in CHOICES:
            raise DatasetError(
                f"{path}: found {shown(choice)} for case '{case}', expected one of {', '.join(CHOICES)}; {advice}"
            )
        found[case] = str(choice)
    return found
