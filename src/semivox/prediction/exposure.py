"""Which scans a run has seen in training: by the content of the image where the run knows it, else by name."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from semivox.data.splitting import read_split
from semivox.data.volume import Volume, content_hash
from semivox.runs.facts import trained_on
from semivox.runs.folder import RunFolder

KINDS = ("labelled", "unlabelled")


@dataclass(frozen=True)
class Exposure:
    """What runs trained on, each "labelled" or "unlabelled".

    Attributes:
        names: by the names of the cases.
        contents: by the hashes of the images; a run of before they were kept has none.
        hashed: whether every run has them: then a name alone says nothing.
    """

    names: Mapping[str, str]
    contents: Mapping[str, str]
    hashed: bool

    def of(self, case: str, volume: Volume | None = None) -> str:
        """Return "labelled", "unlabelled" or "": of what is not read yet, by its name alone."""
        by_name = self.names.get(case, "")
        if volume is None or not self.contents:
            return by_name
        by_content = self.contents.get(content_hash(volume.array), "")
        return by_content or ("" if self.hashed else by_name)


def exposure_of(runs: Iterable[RunFolder]) -> Exposure:
    """Return what any of these runs, or one that they began from, trained on.

    A scan that one of them had labelled is labelled.
    """
    names: dict[str, str] = {}
    contents: dict[str, str] = {}
    hashed = True
    for run in runs:
        split = read_split(run.split_file)
        for kind, seen in trained_on(run.facts, labelled=split.labelled, unlabelled=split.unlabelled).items():
            for case, content in seen.items():
                hashed &= bool(content)
                found = [(names, case), *([(contents, content)] if content else [])]
                for table, key in found:
                    if table.get(key) != "labelled":
                        table[key] = kind
    return Exposure(names, contents, hashed)


def warning(kinds: Mapping[str, str]) -> list[str]:
    """Return a sentence for each kind of scans that training has seen."""
    ends = {
        "labelled": "their scores would say nothing: `evaluate` leaves them out of every mean",
        "unlabelled": "without their labels: `evaluate` marks their scores as transductive",
    }
    cases = {kind: sorted(case for case, own in kinds.items() if own == kind) for kind in KINDS}
    named = {kind: ", ".join(found[:5]) + ", ..." * (len(found) > 5) for kind, found in cases.items()}
    return [
        f"{len(found)} of these scans were trained on ({named[kind]}), {ends[kind]}"
        for kind, found in cases.items()
        if found
    ]
