"""The pseudo-label store of a run: what every relabelling said about every unlabelled scan.

::

    pseudo/generation_001/part_0/CASE/label.npy     (*stored) uint8, class indices
                                      weight.npy    (*stored) float16, probability of that class, in (0, 1]

A case's folder is there whole or not at all, so a relabelling that was cut off goes on where it stopped.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from semivox.data.caching import cached
from semivox.errors import RunError
from semivox.files import remove_unfinished
from semivox.types import seed_from

Label = tuple[NDArray[np.uint8], NDArray[np.float16]]


class Key(NamedTuple):
    """What a pseudo label is kept under.

    Attributes:
        case: name of the scan.
        part: index of the part of the unlabelled pool that it is in.
        generation: number of the relabelling that made it, from 1.
    """

    case: str
    part: int
    generation: int


def partition(cases: Sequence[str], parts: int, *, seed: int) -> dict[str, int]:
    """Return the part, 0 to `parts` - 1, of every case: a function of seed, sorted names and number of parts.

    The sizes of the parts differ by one at most.
    """
    names = sorted(cases)
    order = np.random.default_rng(seed_from(seed, "parts", *names)).permutation(len(names))
    part_of = {names[place]: turn % parts for turn, place in enumerate(order.tolist())}
    return {name: part_of[name] for name in names}


class PseudoStore:
    """The pseudo labels in a folder.

    Args:
        folder: made when the first label is kept.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def keep(self, key: Key, make: Callable[[], Label]) -> None:
        """Write a label where it is missing; `make` is called only then.

        Raises:
            RunError: the disk is full or read-only; nothing half-written is left.
        """

        def arrays() -> tuple[dict[str, NDArray[np.generic]], dict[str, object]]:
            label, weight = make()
            return {"label": label.astype(np.uint8), "weight": weight.astype(np.float16)}, {}

        place = self._place(key)
        try:
            cached(place, key.case, arrays, unsealed="read")
        except RunError as error:
            if not isinstance(error.__cause__, OSError):
                raise
            raise RunError(
                f"cannot write the pseudo label of '{key.case}' to {place}: {error.__cause__}; free or unlock the "
                "disk, then go on with --resume"
            ) from error.__cause__

    def read(self, key: Key) -> Label:
        """Return a label and its weight, memory-mapped and read-only.

        Raises:
            RunError: it is missing or damaged.
        """

        def missing() -> tuple[dict[str, NDArray[np.generic]], dict[str, object]]:
            raise RunError(
                f"the pseudo label of '{key.case}' is missing or damaged, expected in {self._place(key) / key.case}: "
                "put the folder back, or train into a new run folder"
            )

        arrays, _ = cached(self._place(key), key.case, missing, unsealed="read")
        return arrays["label"], arrays["weight"]

    def cut(self, generation: int) -> None:
        """Remove what is later than a generation, and what killed processes left; no other process may be writing."""
        for folder in self.folder.glob("generation_*"):
            if int(folder.name.removeprefix("generation_")) > generation:
                shutil.rmtree(folder)
        for part in self.folder.glob("generation_*/part_*"):
            remove_unfinished(part, age=-1)

    def _place(self, key: Key) -> Path:
        return self.folder / f"generation_{key.generation:03d}" / f"part_{key.part}"


class PseudoLabels(Mapping[str, Label]):
    """Pseudo labels by case; opened at every look, so that a large pool holds no files open.

    Args:
        store: where they lie.
        keys: of the cases to show.
        shapes: their prepared images' (*stored).

    Raises:
        RunError: a label is missing, damaged or of another shape than its image.
    """

    def __init__(self, store: PseudoStore, keys: Sequence[Key], shapes: Sequence[tuple[int, ...]]) -> None:
        self.store, self.places = store, {key.case: key for key in keys}
        for key, shape in zip(keys, shapes, strict=True):
            found = store.read(key)[0].shape
            if found != shape:
                raise RunError(
                    f"the pseudo label of '{key.case}' (generation {key.generation}) has {found} voxels, its prepared "
                    f"image has {shape}: the scan has changed since; train into a new run folder"
                )

    def __getitem__(self, case: str) -> Label:
        return self.store.read(self.places[case])

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)
