"""Regions of a scan: where a crop's voxels lie in it, and in which cell of a grid over all of it."""

from collections.abc import Sequence

import torch
from torch import Tensor


def places(span: Tensor, size: Sequence[int]) -> Tensor:
    """Return (B, 3, *size) float32: where the centre of every voxel of a crop lies along its scan's axes, from 0 to 1.

    By hand: of a crop of 4 voxels that holds the second half of an axis, .5625 .6875 .8125 .9375.

    Args:
        span: (B, 3, 2), where the crop's first and last face lie, `Batch.span_l`; slices come first in 2D.
        size: voxels of the crop along its own axes, two of them in 2D.
    """
    lengths = (1,) * (3 - len(size)) + tuple(size)
    maps = []
    for axis, length in enumerate(lengths):
        low, high = span[:, axis].unbind(1)
        along = (torch.arange(length, device=span.device) + 0.5) / length
        along = low[:, None] + (high - low)[:, None] * along  # (B, length)
        shape = [length if other == axis else 1 for other in range(3)]
        maps.append(along.reshape(-1, *shape).expand(-1, *lengths))
    return torch.stack(maps, 1).reshape(len(span), 3, *size)


def scan_cells(places: Tensor, grid: Sequence[int]) -> Tensor:
    """Return (B, *spatial) int64: the cell, of a grid over the whole scan, in which each place lies.

    By hand: of 2 x 4 x 4 cells, (.5, .3, .9) lies in the second, second and last: 1 * 16 + 1 * 4 + 3 = 23.

    Args:
        places: (B, 3, *spatial), from 0 to 1; what lies beyond counts to the outermost cells.
        grid: cells along the scan's axes.
    """
    cell = torch.zeros((), dtype=torch.int64, device=places.device)
    for place, cells in zip(places.unbind(1), grid, strict=True):
        cell = cell * cells + (place * cells).long().clamp(0, cells - 1)
    return cell


def cell_sizes(span: Tensor, size: Sequence[int], grid: Sequence[int]) -> Tensor:
    """Return (B,) float32: how many positions of a crop a cell has that lies in it as a whole.

    By hand: a slice of 32 x 32 positions that is a whole one, in 2 x 4 x 4 cells, has 8 x 8 = 64 in each.

    Args:
        span: (B, 3, 2), as for `places`.
        size: positions along the crop's own axes, on whatever grid.
        grid: cells along the scan's axes.
    """
    held = torch.ones((), device=span.device)
    for axis, length in enumerate(size, start=3 - len(size)):
        held = held * length / (span[:, axis, 1] - span[:, axis, 0]) / grid[axis]
    return held
