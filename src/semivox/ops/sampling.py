"""Draws pixels of every class at once: naive, stratified-group (SG) and stratified-antithetic group (SAG).

Paper: You et al., NeurIPS 2023 (ARCO), arXiv:2302.01735, section 3. The mean over n drawn pixels estimates the mean
over all pixels of the class, without bias under every scheme, and under SG with the variance within strata only. A
class's pixels are listed cell by cell, where cells are what the image is cut into (`grid_cells`); the list is cut into
M strata of equal mass, whose borders may fall inside a pixel, and each stratum gives n / M draws in expectation. So
every draw taken alone is uniform over the class for any numbers N, n and M, which rounding to whole pixels or whole
draws would not keep, and so is every part of the draws, such as the negatives of one anchor.

Differs from the paper: its printed estimator averages over groups as if all were of one size, which is unbiased for
equal groups only; here draws are proportional to the groups' sizes. SAG pairs a pixel with the one that lies opposite
it in its stratum's list; the paper's mirror image about the centre of a cell is an option (`mirrors`).

Example, 100 anchors of each class and 1000 pixels of other classes from two labelled slices:

    >>> import torch
    >>> from semivox.ops.sampling import draw, grid_cells
    >>> label = torch.randint(3, (2, 64, 64))
    >>> cells = grid_cells(2, (64, 64), (4, 4))
    >>> anchors, found = draw(label.flatten(), cells.flatten(), classes=3, count=100)
    >>> anchors.shape, bool((label.flatten()[anchors] == torch.arange(3)[:, None]).all())
    (torch.Size([3, 100]), True)
    >>> others, _ = draw(label.flatten(), cells.flatten(), classes=3, count=1000, of="others")
    >>> bool((label.flatten()[others] == torch.arange(3)[:, None]).any())
    False

With more than one draw from the same pixels, a `Pool` sorts them once.
"""

import math
from collections.abc import Sequence
from typing import Literal

import torch
from torch import Tensor

from semivox.errors import ConfigError, GeometryError, nearest

Scheme = Literal["naive", "sg", "sag"]
"""Independent draws; draws spread over strata; mirrored pairs spread over strata."""

SCHEMES: tuple[Scheme, ...] = ("naive", "sg", "sag")

Of = Literal["own", "others"]
"""Whose pixels are drawn for a class: its own (anchors), or those of all other classes together (negatives)."""


def draw(
    class_ids: Tensor,
    cell_ids: Tensor,
    *,
    classes: int,
    count: int,
    of: Of = "own",
    scheme: Scheme = "sg",
    strata: int | None = None,
    mirrors: Tensor | None = None,
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Return `count` pixels drawn for each class, with replacement, each pixel of a class equally often on average.

    Consecutive draws lie in strata far apart, and a pair of SAG is two consecutive draws. So the draws may be cut into
    runs, ``.unflatten(1, (256, 512))`` for 512 negatives of each of 256 anchors, and each run is spread over strata.

    Args:
        class_ids: (N,) integer class of every pixel; pixels whose class is not in 0 ... classes - 1 are never drawn.
        cell_ids: (N,) integers from 0 on, the cell of every pixel (`grid_cells`).
        classes: K.
        count: n, draws per class.
        of: "own": from the class's pixels; "others": from the pixels of all other classes, uniformly.
        scheme: "naive", "sg" or "sag".
        strata: M; None = one per cell. At most one per draw (SAG: per pair) are used.
        mirrors: (N,) the pixel that lies opposite each pixel in its cell, -1 for none, and opposite of opposite is the
            pixel itself (`cell_mirrors`): SAG then pairs by place instead of by rank. A pixel whose mirror image is
            not of the class is paired by rank among its like, else with itself: so the draw stays unbiased.
        generator: the only source of randomness, on the pixels' device; None for torch's global one.

    Returns:
        (K, count) int64 indices into `class_ids`, and (K,) bool, whether the class has a pixel to draw from; the
        indices of one that has none mean nothing (they are in range wherever there is a pixel at all).

    Raises:
        ConfigError: an unknown scheme or `of`, or a number below 1.
        GeometryError: `class_ids`, `cell_ids` and `mirrors` are not vectors of one length.
    """
    return Pool(class_ids, cell_ids, classes=classes).draw(
        count, of=of, scheme=scheme, strata=strata, mirrors=mirrors, generator=generator
    )


def draw_from_each(
    valid: Tensor,
    count: int,
    grid: Sequence[int],
    *,
    scheme: Scheme = "sg",
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    """Return `count` pixels drawn from the valid ones of each image: what `draw` does, with images for classes.

    Args:
        valid: (B, *size) bool; pixels that may be drawn.
        count: n, draws per image, with replacement.
        grid: cells that each image is cut into along each axis, which are its strata.
        scheme: "naive", "sg" or "sag".
        generator: as for `draw`.

    Returns:
        (B, n) int64 indices into ``valid.flatten()``, and (B,) bool, whether the image has a valid pixel.

    Raises:
        ConfigError, GeometryError: as `draw` and `grid_cells`.
    """
    batch, size = len(valid), valid.shape[1:]
    image = torch.arange(batch, device=valid.device).reshape(-1, *[1] * len(size)).where(valid, batch)
    cells = grid_cells(batch, size, grid, device=valid.device)
    return draw(image.flatten(), cells.flatten(), classes=batch, count=count, scheme=scheme, generator=generator)


class Pool:
    """Pixels sorted by class and cell, to draw from more than once; arguments and errors as for `draw`."""

    def __init__(self, class_ids: Tensor, cell_ids: Tensor, *, classes: int) -> None:
        if classes < 1:
            raise ConfigError(f"classes = {classes}: there is at least one class to draw from")
        _check_vectors(class_ids, cell_ids)
        class_ids, cell_ids = class_ids.long(), cell_ids.long()  # labels of 8 bits have no room for the keys
        self.classes = classes
        self.class_ids = class_ids.where((class_ids >= 0) & (class_ids < classes), classes)
        # A tensor: asking for its value would make a GPU wait.
        self.cells = cell_ids.max() + 1 if len(cell_ids) else cell_ids.new_ones(())
        keys, self.order = (self.class_ids * self.cells).add_(cell_ids).sort(stable=True)
        edges = torch.searchsorted(keys, torch.arange(classes + 1, device=keys.device) * self.cells)
        self.starts, self.counts, self.total = edges[:-1, None], edges.diff()[:, None], edges[-1]
        self.turns = (self.counts[:, 0] == 0).int().argsort(stable=True).argsort()

    def draw(
        self,
        count: int,
        *,
        of: Of = "own",
        scheme: Scheme = "sg",
        strata: int | None = None,
        mirrors: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Return what `semivox.ops.sampling.draw` returns."""
        _check_words(count, of, scheme, strata)
        length = self.counts if of == "own" else self.total - self.counts  # (K, 1)
        valid = length[:, 0] > 0
        if not len(self.order):
            return self.order.new_zeros(self.classes, count), valid
        length = length.clamp(min=1)  # a class without pixels is drawn like one of one pixel
        draws = (count + 1) // 2 if scheme == "sag" else count  # SAG: pairs
        u = self._dealt(draws, generator)
        if scheme == "naive":
            return self._pixels(u.mul_(length), length, of), valid
        groups = self.cells.clamp(max=draws) if strata is None else min(strata, draws)
        stratum = self._dealt(1, generator) + _spread(draws, length.device)
        stratum = stratum.frac_().mul_(groups).floor_()
        share = length.double() / groups  # pixels of a stratum, mostly a fraction
        if scheme == "sg":
            return self._pixels(u.add_(stratum).mul_(share), length, of), valid
        first = self._pixels((stratum + u).mul_(share), length, of)
        # As far from the stratum's other end, and on a border between two pixels the other of them.
        second = self._pixels((stratum + 1).sub_(u).mul_(share).ceil_().sub_(1), length, of)
        if mirrors is not None:
            _check_vectors(self.class_ids, mirrors)
            second = self._opposite(first, second, mirrors, of)
        return torch.stack([first, second], 2).flatten(1)[:, :count], valid

    def _dealt(self, count: int, generator: torch.Generator | None) -> Tensor:
        """Return (K, count) numbers in [0, 1); classes without pixels come last, so that no class's depend on them."""
        return _uniform((self.classes, count), self.order.device, generator).index_select(0, self.turns)

    def _pixels(self, positions: Tensor, length: Tensor, of: Of) -> Tensor:
        """Return the pixels at `positions` (K, n) of each class's list, or of all other classes' one after another."""
        places = positions.long().clamp_(max=length - 1)  # a product may round up to the length
        last = len(self.order) - 1  # where a class without pixels would end behind it
        if of == "own":
            places += self.starts.clamp(max=last)
        else:
            places += (places >= self.starts) * self.counts.clamp(max=last)
        return self.order.index_select(0, places.flatten()).view_as(places)

    def _opposite(self, first: Tensor, second: Tensor, mirrors: Tensor, of: Of) -> Tensor:
        """Return the mirror images of `first` (K, n), or what replaces them; `second` are those by rank."""
        image = mirrors[first]
        placed = self._belongs(image, of)
        ranked = ~self._belongs(mirrors[second], of)
        return torch.where(placed, image, torch.where(ranked, second, first))

    def _belongs(self, pixels: Tensor, of: Of) -> Tensor:
        """Return whether `pixels` (K, n) are candidates of their row's class; -1 is no pixel."""
        found = self.class_ids[pixels.clamp(min=0)]
        own = found == torch.arange(self.classes, device=found.device)[:, None]
        return (pixels >= 0) & (own if of == "own" else ~own & (found < self.classes))


def _spread(draws: int, device: torch.device) -> Tensor:
    """Return i / n in an order (n,) whose every run is spread over [0, 1), as the golden section's multiples are."""
    golden = round((math.sqrt(5) - 1) / 2 * draws)
    stride = next(step for step in range(golden, draws + 1) if math.gcd(step, draws) == 1)
    return (torch.arange(draws, device=device) * stride % draws).double() / draws


def _uniform(shape: tuple[int, int], device: torch.device, generator: torch.Generator | None) -> Tensor:
    """Return float64 numbers in [0, 1): single precision has fewer values than a batch has pixels."""
    return torch.rand(shape, dtype=torch.float64, device=device, generator=generator)


def grid_cells(
    batch: int, size: Sequence[int], grid: Sequence[int], *, device: torch.device | str | None = None
) -> Tensor:
    """Return (batch, *size) int64: the cell of every pixel, where each image is cut into ``grid`` cells of its own.

    The paper's grid is 4 x 4 for slices. Cells along an axis differ by a pixel where the size is not divisible.

    Raises:
        GeometryError: `size` and `grid` have different axes, or an axis of length or cells below 1.
    """
    if len(size) != len(grid) or min(*size, *grid, 1) < 1:
        raise GeometryError(f"a grid of {tuple(grid)} cells for images of {tuple(size)}: expected one number per axis")
    cell = torch.arange(batch, device=device).reshape(-1, *[1] * len(size))
    for axis, (length, cells) in enumerate(zip(size, grid, strict=True)):
        along = _cells_along(length, cells, device)
        cell = cell * cells + along.reshape(-1, *[1] * (len(size) - axis - 1))
    return cell.expand(batch, *size)


def default_grid(dims: int, slice_axis: int) -> tuple[int, ...]:
    """Return the paper's 4 x 4 cells of a slice; 2 cells, of our own choice, across the slices of a volume."""
    return tuple(2 if dims == 3 and axis == slice_axis else 4 for axis in range(dims))


def grid_or_default(grid: tuple[int, ...] | None, dims: int, slice_axis: int) -> tuple[int, ...]:
    """Return a method's ``grid``, one number of cells per axis, or the default one where it is None.

    Raises:
        ConfigError: it has other axes than images have, or a number below 1.
    """
    if grid is None:
        return default_grid(dims, slice_axis)
    if len(grid) != dims or min(grid) < 1:
        raise ConfigError(f"method.grid = {grid}: expected {dims} numbers of cells from 1 on, one per axis")
    return grid


def cell_mirrors(
    batch: int, size: Sequence[int], grid: Sequence[int], *, device: torch.device | str | None = None
) -> Tensor:
    """Return (batch, *size) int64: the flat index of the pixel opposite each about the centre of its grid cell.

    Raises:
        GeometryError: as `grid_cells`.
    """
    grid_cells(0, size, grid)
    pixel = torch.arange(batch, device=device).reshape(-1, *[1] * len(size))
    for axis, (length, cells) in enumerate(zip(size, grid, strict=True)):
        along = _cells_along(length, cells, device)
        cell = torch.arange(cells, device=device)
        first, last = torch.searchsorted(along, cell), torch.searchsorted(along, cell, right=True) - 1
        opposite = (first + last)[along] - torch.arange(length, device=device)
        pixel = pixel * length + opposite.reshape(-1, *[1] * (len(size) - axis - 1))
    return pixel.expand(batch, *size)


def _cells_along(length: int, cells: int, device: torch.device | str | None) -> Tensor:
    """Return (length,) int64 in rising order: the cell of every pixel along one axis."""
    return torch.arange(length, device=device) * cells // length


def _check_vectors(class_ids: Tensor, other: Tensor) -> None:
    if class_ids.ndim != 1 or other.shape != class_ids.shape:
        raise GeometryError(
            f"class ids of shape {tuple(class_ids.shape)} with cells or mirrors of shape {tuple(other.shape)}: "
            "expected two vectors of one length; flatten images first"
        )


def _check_words(count: int, of: str, scheme: str, strata: int | None) -> None:
    for what, word, known in (("scheme", scheme, SCHEMES), ("value of 'of'", of, ("own", "others"))):
        if word not in known:
            raise ConfigError(f"there is no {what} '{word}'; {nearest(word, known)}")
    for what, number in (("count", count), ("strata", strata)):
        if number is not None and number < 1:
            raise ConfigError(f"{what} = {number}: expected 1 or more")
