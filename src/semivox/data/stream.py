"""Crops of prepared cases, batch by batch: which ones is a function of (seed, stage, step, rank) alone."""

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from semivox.data.dataset import IGNORE
from semivox.data.preparation import PreparedCase
from semivox.data.pseudo import partition
from semivox.errors import ConfigError
from semivox.types import Batch, seed_from

Array = NDArray[Any]
Ready = queue.Queue[Batch | BaseException]
SQUARE = 0.01
"""Difference in the ratio of its sides up to which a pixel counts as having another's shape."""
Pseudo = Mapping[str, tuple[NDArray[np.uint8], NDArray[np.floating[Any]]]]


@dataclass(frozen=True)
class Crop:
    """A window into a case; it may reach beyond the case where that is smaller.

    Attributes:
        case: what it is cut from.
        index: the case's place in its list.
        corner: stored voxel of the crop's first voxel, three axes.
    """

    case: PreparedCase
    index: int
    corner: tuple[int, ...]

    def cut(self, array: Array, window: Sequence[int], fill: int | str) -> Array:
        """Return the window of an array (..., *stored); beyond the case it is `fill`, or "edge" for its last value."""
        boxes: list[Any] = [Ellipsis]
        margins = []
        for corner, side, size in zip(self.corner, window, array.shape[-3:], strict=True):
            low, high = max(corner, 0), min(corner + side, size)
            boxes.append(slice(low, high))
            margins.append((low - corner, corner + side - high))
        inside = array[tuple(boxes)]
        if not any(sum(margin) for margin in margins):
            return inside
        pads = [(0, 0)] * (array.ndim - 3) + margins
        return np.pad(inside, pads, mode="edge") if fill == "edge" else np.pad(inside, pads, constant_values=fill)


class Stream:
    """An endless source of batches.

    Every case is seen equally often: cases come in a new seeded order per round. Corners are drawn uniformly; one third
    of the labelled crops, decided crop by crop, is centred on a foreground voxel (as far as the case's ends let it),
    whose class is drawn uniformly among the case's. Unlabelled crops never are. A case smaller than the patch is padded
    on both sides.

    Args:
        labelled: cases with labels.
        unlabelled: cases without.
        patch: voxels of a crop; two axes in 2D, where a crop is a part of one slice.
        batch_labelled: labelled crops per batch.
        batch_unlabelled: unlabelled crops per batch; 0 leaves the batch's ``_u`` None.
        seed: the run's seed.
        stage: the stage's name.
        rank: this process under DDP.
        dims: 2 or 3.
        slice_axis: the through-plane axis of 3D crops.
        foreground: share of labelled crops that are centred on foreground.
        needs: what else the method needs: "distances"; with "labelled_halves", each labelled case belongs to one of two
            halves, the same in all stages, and crops of the two take turns.
        pseudo: pseudo labels and their weights (*stored) of the unlabelled cases by name, or None.
        prefetch: batches made ahead by `iterate`.
        pin: keep batches where a GPU can fetch them from while it computes.

    Raises:
        ConfigError: crops are asked for that the cases cannot give.
    """

    def __init__(
        self,
        labelled: Sequence[PreparedCase],
        unlabelled: Sequence[PreparedCase],
        *,
        patch: Sequence[int],
        batch_labelled: int,
        batch_unlabelled: int,
        seed: int,
        stage: str,
        rank: int = 0,
        dims: int = 3,
        slice_axis: int = 2,
        foreground: float = 1 / 3,
        needs: frozenset[str] = frozenset(),
        pseudo: Pseudo | None = None,
        prefetch: int = 2,
        pin: bool = False,
    ) -> None:
        self.cases = {"labelled": list(labelled), "unlabelled": list(unlabelled)}
        self.counts = {"labelled": batch_labelled, "unlabelled": batch_unlabelled}
        self.key = (seed, stage, rank)
        self.patch, self.slice_axis, self.dims = tuple(patch), slice_axis, dims
        self.foreground, self.needs, self.pseudo, self.prefetch = foreground, needs, pseudo, prefetch
        self.pin = pin
        self.half_of = _halves(labelled, seed) if "labelled_halves" in needs else [0] * len(labelled)
        self._check()
        self.window = (1,) * (3 - dims) + self.patch  # a slice is a window of one voxel along the first axis
        self.points = [_points_by_class(case) for case in labelled]
        self.spacing = _common_spacing([case.spacing[3 - dims :] for case in (*labelled, *unlabelled)])

    def batch(self, step: int) -> Batch:
        """Return the batch of a step, on the CPU and in the types of the store: `Batch.to` widens them."""
        fields = self._labelled(step)
        if self.counts["unlabelled"]:
            fields |= self._unlabelled(step)
        if self.pin:
            fields = {name: _pinned(value) for name, value in fields.items()}
        return Batch(spacing=self.spacing, slice_axis=self.slice_axis, **fields)

    def iterate(self, start: int, stop: int) -> Iterator[Batch]:
        """Yield the batches of steps `start` to `stop` - 1, made ahead by a thread that ends with the iterator.

        An error in the thread is raised here.
        """
        ready: Ready = queue.Queue(max(1, self.prefetch))
        closed = threading.Event()
        work = (ready, closed, start, stop)
        thread = threading.Thread(target=self._fill, args=work, name="semivox-stream", daemon=True)
        thread.start()
        try:
            for _ in range(start, stop):
                made = ready.get()
                if isinstance(made, BaseException):
                    raise made
                yield made
        finally:
            closed.set()
            while thread.is_alive():  # it may be waiting for room
                with contextlib.suppress(queue.Empty):
                    ready.get(timeout=0.05)
            thread.join()

    def _fill(self, ready: Ready, closed: threading.Event, start: int, stop: int) -> None:
        try:
            for step in range(start, stop):
                if closed.is_set():
                    return
                ready.put(self.batch(step))
        except BaseException as error:
            ready.put(error)

    def _labelled(self, step: int) -> dict[str, Any]:
        crops = self._draw("labelled", step)
        label = self._stack(crops, lambda case: case.label, fill=IGNORE)
        valid = label != IGNORE
        fields = self._common(crops, "l") | {
            "label_l": label.mul_(valid.view(torch.uint8)),  # several times faster than to fill by a mask
            "valid_l": valid,
            "group_l": torch.tensor([self.half_of[crop.index] for crop in crops], dtype=torch.int64),
        }
        if "distances" in self.needs:
            maps = self._stack(crops, lambda case: case.distances, fill="edge")
            largest = [crop.case.largest for crop in crops if crop.case.largest is not None]
            fields["targets_l"] = {"distances": maps}
            if len(largest) == len(crops):
                fields["targets_l"]["largest"] = torch.from_numpy(np.stack(largest))
        return fields

    def _unlabelled(self, step: int) -> dict[str, Any]:
        crops = self._draw("unlabelled", step)
        inside = self._stack(crops, lambda case: np.broadcast_to(True, case.image.shape[1:]))
        fields = self._common(crops, "u") | {"valid_u": inside}
        if (pseudo := self.pseudo) is not None:
            fields["label_u"] = self._stack(crops, lambda case: pseudo[case.name][0])
            fields["weight_u"] = self._stack(crops, lambda case: pseudo[case.name][1])
        return fields

    def _common(self, crops: list[Crop], suffix: str) -> dict[str, Any]:
        corners = np.array([crop.corner for crop in crops], dtype=np.int64).reshape(-1, 3)
        faces = np.stack([corners, corners + np.array(self.window)], -1)
        sizes = np.array([crop.case.image.shape[1:] for crop in crops])
        return {
            f"image_{suffix}": self._stack(crops, lambda case: case.image),
            f"case_{suffix}": torch.tensor([crop.index for crop in crops], dtype=torch.int64),
            f"corner_{suffix}": torch.from_numpy(corners[:, 3 - self.dims :].copy()),
            f"span_{suffix}": torch.from_numpy((faces / sizes[..., None]).astype(np.float32)),
        }

    def _stack(
        self, crops: list[Crop], array_of: Callable[[PreparedCase], Array | None], *, fill: int | str = 0
    ) -> Tensor:
        """Return the crops of one kind of array, (B, ..., *patch)."""
        found = [(crop, array_of(crop.case)) for crop in crops]
        stacked = np.stack([crop.cut(array, self.window, fill) for crop, array in found if array is not None])
        return torch.from_numpy(stacked.reshape(*stacked.shape[:-3], *self.patch))

    def _draw(self, kind: str, step: int) -> list[Crop]:
        """Return a step's crops: whose turn it is, and corners from a seed of each crop's own."""
        cases, count = self.cases[kind], self.counts[kind]
        crops = []
        for item in range(step * count, (step + 1) * count):
            index = self._whose_turn(kind, item)
            generator = np.random.default_rng(seed_from(*self.key, kind, "corner", item))
            centre = self._foreground_voxel(index, generator) if kind == "labelled" else None
            crops.append(Crop(cases[index], index, self._corner(cases[index], centre, generator)))
        return crops

    def _whose_turn(self, kind: str, item: int) -> int:
        """Return the index of the case that a crop is cut from."""
        if kind == "unlabelled" or "labelled_halves" not in self.needs:
            turn, place = divmod(item, len(self.cases[kind]))
            return _order((*self.key, kind, turn), len(self.cases[kind]))[place]
        half = item % 2
        members = [index for index, its_half in enumerate(self.half_of) if its_half == half]
        turn, place = divmod(item // 2, len(members))
        return members[_order((*self.key, kind, half, turn), len(members))[place]]

    def _foreground_voxel(self, index: int, generator: np.random.Generator) -> Array | None:
        """Return the voxel that a labelled crop is centred on; None for the crops that lie anywhere."""
        if generator.random() >= self.foreground or not self.points[index]:
            return None
        points = self.points[index][generator.integers(len(self.points[index]))]
        return points[generator.integers(len(points))]

    def _corner(self, case: PreparedCase, centre: Array | None, generator: np.random.Generator) -> tuple[int, ...]:
        corner = []
        for axis, (size, side) in enumerate(zip(case.image.shape[1:], self.window, strict=True)):
            if size < side:
                corner.append(-((side - size) // 2))
            elif centre is None:
                corner.append(int(generator.integers(size - side + 1)))
            else:
                corner.append(min(max(int(centre[axis]) - side // 2, 0), size - side))
        return tuple(corner)

    def _check(self) -> None:
        if self.dims not in (2, 3) or len(self.patch) != self.dims:
            raise ConfigError(f"dims = {self.dims}, patch = {self.patch}: expected 2 or 3, and a side per axis")
        if self.counts["labelled"] < 1:
            raise ConfigError(f"batch_labelled = {self.counts['labelled']}: expected at least 1")
        for kind, count in self.counts.items():
            if count and not self.cases[kind]:
                raise ConfigError(f"batch_{kind} = {count}, but there is no {kind} case: set batch_{kind} = 0")
        for case in self.cases["labelled"]:
            if case.label is None or ("distances" in self.needs and case.distances is None):
                lacking = "label" if case.label is None else "distances"
                raise ConfigError(f"case '{case.name}' was prepared without its {lacking}: prepare it again")
        if self.pseudo is not None and (lacks := {case.name for case in self.cases["unlabelled"]} - set(self.pseudo)):
            raise ConfigError(f"cases {sorted(lacks)} have no pseudo label: relabel them before this stage")


def _halves(labelled: Sequence[PreparedCase], seed: int) -> list[int]:
    """Return the half, 0 or 1, of every case: neither stage nor rank changes it, so that the halves stay disjoint."""
    if len(labelled) < 2:
        raise ConfigError(f"the method needs two halves of the labelled cases, found {len(labelled)} case: label more")
    half_of = partition([case.name for case in labelled], 2, seed=seed)
    return [half_of[case.name] for case in labelled]


def _pinned(value: Any) -> Any:
    """Return tensors, alone or in a dictionary, in page-locked memory; anything else as it is."""
    if isinstance(value, dict):
        return {name: _pinned(item) for name, item in value.items()}
    return value.pin_memory() if isinstance(value, Tensor) else value


@lru_cache(maxsize=8)
def _order(key: tuple[object, ...], count: int) -> tuple[int, ...]:
    """Return the order in which the cases come in one round."""
    return tuple(np.random.default_rng(seed_from(*key)).permutation(count).tolist())


def _common_spacing(spacings: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """Return the median voxel size; (1, 1) for slices whose pixels differ in shape, as `resize` makes them.

    No rotation is then right in mm for all of them, whereas turns of the resized picture are what scans that lie
    differently in their files differ by.
    """
    sides = np.array(spacings)
    if sides.shape[1] == 2 and np.ptp(sides[:, 0] / sides[:, 1]) > SQUARE:
        return 1.0, 1.0
    return tuple(np.median(sides, axis=0).tolist())


def _points_by_class(case: PreparedCase) -> list[Array]:
    """Return the foreground voxels of each class that the case has."""
    if case.label is None or case.foreground is None:
        return []
    classes = np.asarray(case.label[tuple(case.foreground.T)])
    return [case.foreground[classes == index] for index in np.unique(classes)]
