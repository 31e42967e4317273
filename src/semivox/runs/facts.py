"""What run.json says of a run, checked once when the run is opened."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

from semivox.config.keys import validated
from semivox.errors import ConfigError, RunError
from semivox.files import read_object

Words = Annotated[list[str], Field(min_length=1)]


class Facts(BaseModel):
    """The keys of run.json that somebody reads; what came later may be missing in runs of before."""

    model_config = ConfigDict(strict=True, extra="allow")

    method: str = Field(min_length=1)
    channels: Words
    classes: Words
    recipe: dict[str, Any]
    split: str
    command: str
    versions: dict[str, str]
    data: str = ""
    unlabelled: str | None = None
    sources: dict[str, str] = {}
    scans: dict[str, str] = {}
    labels: dict[str, str] = {}
    pictures: bool = False
    segment_codes: dict[str, dict[str, list[str]]] = {}
    precision: str = ""
    device: str = ""
    gpu: str | None = None
    commit: str | None = None
    start: dict[str, Any] | None = None


def read_facts(path: Path) -> dict[str, Any]:
    """Return what a run.json says.

    Raises:
        FileNotFoundError: there is no such file.
        RunError: it is damaged: no JSON object, or a key is missing or of another kind.
    """
    advice = "restore it or train again"
    found = read_object(path, advice=advice)
    try:
        validated(Facts, found, where="run.json")
    except ConfigError as error:
        raise RunError(f"{path} is damaged: {error}; {advice}") from None
    return found


def trained_on(facts: Mapping[str, Any], **lists: Sequence[str]) -> dict[str, dict[str, str]]:
    """Return by kind of scan what a run, and those that it began from, trained on: {case: hash of its image, or ""}.

    Args:
        facts: what run.json says.
        lists: the cases of each kind, "labelled" and "unlabelled".
    """
    scans, before = facts.get("scans") or {}, (facts.get("start") or {}).get("trained_on") or {}
    own = {kind: {case: scans.get(case, "") for case in cases} for kind, cases in lists.items()}
    return {kind: {**before.get(kind, {}), **cases} for kind, cases in own.items()}
