"""What run.json says of a run, checked once when the run is opened."""

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
