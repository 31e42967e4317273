"""Volumes as stacks of slices, slices of another size, and masks on coarser grids."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from semivox.ops.fields import along_axes


def stack_slices(x: Tensor, slice_axis: int) -> Tensor:
    """Return the slices of a batch: (C, M * S, A, B) of volumes (M, C, X, Y, Z); (C, M, A, B) of images (M, C, A, B).

    By hand: 2 volumes of 4 x 4 x 3 voxels with slice axis 2 give 6 slices, the three of the first volume first.

    Args:
        x: (M, C, *spatial).
        slice_axis: the axis that slices are stacked along, counted among the spatial ones; images need none.
    """
    if x.ndim == 5:
        x = x.movedim(2 + slice_axis, 1).flatten(0, 1)  # (M * S, C, A, B)
    return x.transpose(0, 1)


def valid_slices(valid: Tensor, slice_axis: int) -> Tensor:
    """Return (slices,) bool, in the order of `stack_slices`: which slices hold a valid voxel.

    Args:
        valid: (M, *spatial) bool.
        slice_axis: as for `stack_slices`.
    """
    return stack_slices(valid.unsqueeze(1), slice_axis)[0].flatten(1).any(1)


def pool_slices(x: Tensor, size: tuple[int, int]) -> Tensor:
    """Return slices (..., A, B) as (..., *size), float32, each value the mean of the voxels that its cell touches.

    What `adaptive_avg_pool2d` does, as two matrix products, whose gradient is deterministic on a GPU. By hand: a row
    1 2 3 pooled to two cells gives 1.5 2.5, since both touch the middle voxel; to six, 1 1 2 2 3 3.

    Args:
        x: the slices.
        size: smaller or larger than the slices along each axis.
    """
    with torch.autocast(x.device.type, enabled=False):
        rows, columns = (_means(n, m, x.device) for n, m in zip(x.shape[-2:], size, strict=True))
        return rows @ x.float() @ columns.mT


def _means(length: int, cells: int, device: torch.device) -> Tensor:
    """Return (cells, length): the weights of the voxels in the mean of each cell, rows summing to one."""
    cell, voxel = torch.arange(cells, device=device)[:, None], torch.arange(length, device=device)
    # Cell i lies between the voxel edges i * length / cells and (i + 1) * length / cells.
    touched = (cells * (voxel + 1) > cell * length) & (cells * voxel < (cell + 1) * length)
    return touched / touched.sum(1, keepdim=True)


def coarse_mask(valid: Tensor, size: torch.Size) -> Tensor:
    """Return the mask (M, *size), bool, of the cells of a coarser grid that hold a valid voxel.

    Args:
        valid: (M, *spatial) bool.
        size: of the coarser grid.
    """
    pooling = F.adaptive_max_pool3d if len(size) == 3 else F.adaptive_max_pool2d
    return pooling(valid.float(), size) > 0


def masked_pool(x: Tensor, valid: Tensor, size: Sequence[int]) -> Tensor:
    """Return (M, C, *size) float32: in every cell of a coarser or finer grid the mean of the valid voxels; 0 without.

    Cells are those of adaptive average pooling, in any number of axes. By hand: 1 2 3, of which the last is not valid,
    pooled to one cell give 1.5.

    Args:
        x: (M, C, *spatial).
        valid: (M, *spatial) bool.
        size: cells along each spatial axis.
    """
    with torch.autocast(x.device.type, enabled=False):
        means = [_means(n, m, x.device) for n, m in zip(x.shape[2:], size, strict=True)]
        mask = valid.unsqueeze(1).float()
        share = along_axes(mask, means)
        return along_axes(x.float() * mask, means) / share.masked_fill(share == 0, 1)


def masked_mean(x: Tensor, valid: Tensor) -> Tensor:
    """Return (M, C) float32: what the valid voxels of each of (M, C, *spatial) hold on average; 0 without."""
    return masked_pool(x, valid, (1,) * (x.ndim - 2)).flatten(1)


def strided(x: Tensor, strides: Sequence[int]) -> Tensor:
    """Return `x` (..., *spatial) at the middle voxel of every cell of `strides` voxels: labels on a coarser grid."""
    axes = range(x.ndim - len(strides), x.ndim)
    for axis, stride in zip(axes, strides, strict=True):
        x = x.index_select(axis, torch.arange(stride // 2, x.shape[axis], stride, device=x.device))
    return x


def listed(x: Tensor) -> Tensor:
    """Return the voxels (M * voxels, C) of volumes or images (M, C, *spatial), one after another."""
    return x.flatten(2).transpose(1, 2).flatten(0, 1)
