"""A geometry per item of a batch, which images, labels, masks and distance maps can follow, and go back by."""

from collections.abc import Sequence
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from semivox.errors import ConfigError, GeometryError, nearest
from semivox.ops.fields import per_item

Mode = Literal["linear", "nearest"]
Fill = Literal["zeros", "border"]


class Warp:
    """One geometry per item of a batch: call it on any tensor of the same batch and spatial size.

    Attributes:
        size: the spatial size.
        inside: (B, *size) bool: voxels of the result whose source lies inside the image.
    """

    size: tuple[int, ...]
    inside: Tensor

    def __call__(self, x: Tensor, mode: Mode = "linear", fill: Fill = "zeros") -> Tensor:
        """Return `x` moved by the geometry, in the same shape and dtype.

        Args:
            x: (B, *size) or with any axes between, such as (B, C, *size).
            mode: "linear" or "nearest"; integers and booleans always take the nearest voxel, exactly.
            fill: what stands where the source lies outside: "zeros" (False), or the nearest "border" voxel.

        Raises:
            GeometryError: where batch or spatial size differ from the warp's.
            ConfigError: on an unknown mode or fill.
        """
        for word, known in ((mode, ("linear", "nearest")), (fill, ("zeros", "border"))):
            if word not in known:
                raise ConfigError(f"a warp was called with '{word}'; {nearest(word, known)}")
        batch, dims = len(self.inside), len(self.size)
        if x.ndim <= dims or x.shape[0] != batch or x.shape[-dims:] != self.size:
            expected = f"({batch}, ..., {', '.join(map(str, self.size))})"
            raise GeometryError(f"a warp made for {expected} was called on {tuple(x.shape)}; draw one for this shape")
        exact = mode == "nearest" or not x.is_floating_point()
        return self._move(x.reshape(batch, -1, *self.size), exact=exact, fill=fill).reshape(x.shape)

    def inverse(self) -> "Warp":
        """Return the geometry that brings voxels back.

        Raises:
            ConfigError: for an elastic one, whose inverse has no formula.
        """
        raise NotImplementedError

    def _move(self, x: Tensor, *, exact: bool, fill: Fill) -> Tensor:
        """Return `x` (B, C, *size) moved."""
        raise NotImplementedError


class ExactWarp(Warp):
    """Flips, and a swap of two axes before them: together every quarter turn. Voxels are moved, never resampled.

    Attributes:
        flips: (B, dims) bool.
        swap: (B,) bool; whether the axes in `plane`, of equal length, are exchanged first.
    """

    def __init__(self, size: Sequence[int], flips: Tensor, swap: Tensor, plane: tuple[int, int]) -> None:
        self.size = tuple(size)
        self.flips, self.swap, self.plane = flips, swap, plane

    @cached_property
    def inside(self) -> Tensor:  # type: ignore[override]
        """All True: nothing leaves the image."""
        return self.flips.new_ones((len(self.flips), *self.size))

    def inverse(self) -> "ExactWarp":
        """Return the exact inverse: to swap after a flip is to swap before a flip of the other axis."""
        order = list(range(len(self.size)))
        order[self.plane[0]], order[self.plane[1]] = self.plane[1], self.plane[0]
        flips = torch.where(self.swap[:, None], self.flips[:, order], self.flips)
        return ExactWarp(self.size, flips, self.swap, self.plane)

    def _move(self, x: Tensor, *, exact: bool, fill: Fill) -> Tensor:
        first, second = self.plane
        if self.size[first] == self.size[second]:
            x = torch.where(per_item(self.swap, x), x.transpose(first + 2, second + 2), x)
        for axis, flip in enumerate(self.flips.unbind(1), start=2):
            x = torch.where(per_item(flip, x), x.flip(axis), x)
        return x


class SampledWarp(Warp):
    """A geometry that resamples: for every voxel of the result, where in the source it comes from.

    Attributes:
        grid: (B, *size, dims) float32 in the coordinates of ``grid_sample``: last axis first, the image's outer faces
            at -1 and 1 (``align_corners=False``).
        matrix: (B, dims + 1, dims + 1), result to source in the same coordinates; None where it is not affine.
    """

    def __init__(self, grid: Tensor, matrix: Tensor | None = None) -> None:
        self.size = tuple(grid.shape[1:-1])
        self.grid, self.matrix = grid, matrix

    @classmethod
    def affine(cls, matrix: Tensor, size: Sequence[int]) -> "SampledWarp":
        """Return the warp of an affine map of normalised coordinates, (B, dims + 1, dims + 1)."""
        return cls(F.affine_grid(matrix[:, :-1], [len(matrix), 1, *size], align_corners=False), matrix)

    @cached_property
    def inside(self) -> Tensor:  # type: ignore[override]
        """(B, *size) bool: whether the source lies between the image's outer faces."""
        return self.grid.abs().amax(-1) <= 1

    @cached_property
    def _source(self) -> Tensor:
        """(B, 1, voxels) int64: the flat index of the nearest source voxel."""
        index = torch.zeros((), dtype=torch.int64, device=self.grid.device)
        for length, position in zip(self.size, reversed(self.grid.unbind(-1)), strict=True):
            voxel = (position * (length / 2) + (length - 1) / 2).round().clamp(0, length - 1)
            index = index * length + voxel.long()
        return index.flatten(1)[:, None]

    def inverse(self) -> "SampledWarp":
        """Return the warp of the inverse matrix.

        Raises:
            ConfigError: for an elastic one.
        """
        if self.matrix is None:
            raise ConfigError("an elastic geometry has no inverse; draw kind 'affine', 'turns' or 'flips' to go back")
        with torch.autocast(self.grid.device.type, enabled=False):
            return SampledWarp.affine(torch.linalg.inv(self.matrix), self.size)

    def _move(self, x: Tensor, *, exact: bool, fill: Fill) -> Tensor:
        if exact:
            moved = x.flatten(2).gather(2, self._source.expand(-1, x.shape[1], -1)).reshape(x.shape)
        else:
            # padded by the border and cut by `inside`: a constant stays that constant up to the edge of the mask
            wide = torch.promote_types(x.dtype, torch.float32)
            grid = self.grid.to(wide)
            moved = F.grid_sample(x.to(wide), grid, padding_mode="border", align_corners=False).to(x.dtype)
        return moved if fill == "border" else moved.masked_fill(~self.inside[:, None], 0)
