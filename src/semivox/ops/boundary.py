"""Boundaries of masks and signed distance maps, -1 deep inside to +1 far outside."""

from collections.abc import Mapping
from typing import Literal

import torch
from torch import Tensor


def inner_boundary(mask: Tensor, valid: Tensor | None = None, *, dims: int) -> Tensor:
    """Return the voxels of `mask` that share a face with a valid voxel outside it, bool, like `mask`.

    What lies beyond the crop is not known to be outside. By hand: of a cube of 3^3 voxels, all but the centre.

    Args:
        mask: (..., *spatial) bool.
        valid: bool, broadcastable to `mask`; voxels whose side is known, by default all.
        dims: how many of the last axes are spatial.
    """
    outside = ~mask if valid is None else ~mask & valid
    touching = torch.zeros_like(mask)
    for axis in range(-dims, 0):
        size = mask.shape[axis] - 1
        touching.narrow(axis, 0, size).logical_or_(outside.narrow(axis, 1, size))
        touching.narrow(axis, 1, size).logical_or_(outside.narrow(axis, 0, size))
    return mask & touching


def signed_distance(
    distances: Tensor,
    mask: Tensor,
    valid: Tensor,
    *,
    norm: Literal["crop", "volume"] = "crop",
    largest: Tensor | None = None,
    empty: float = 0.0,
) -> Tensor:
    """Return the signed distance map (B, F, *spatial) of each foreground class: inside < 0 < outside, in [-1, 1].

    ``outside / max(outside) - inside / max(inside)``; 0 on the inner boundary and in padding, `empty` in a crop without
    foreground ("volume": where the distance to the foreground beyond the crop is not known either), -1 in a crop of
    nothing else. By hand: a cube of 3^3 voxels centred in 7^3: -1 at its centre, 0 on its
    shell, 1 / sqrt(12) = .288675 beside a face, 1 in the corners.

    Args:
        distances: (B, F, 2, *spatial) distance of every voxel to the outside of its class (0 outside it) and to the
            inside (0 inside it), in one unit.
        mask: (B, F, *spatial) bool, True inside the class.
        valid: (B, *spatial) bool; voxels that count.
        norm: "crop" divides by the maxima of the crop, "volume" by `largest`.
        largest: (B, F, 2) maxima over the whole volume, for "volume".
        empty: the map where there is nothing of a class, in the crop ("crop") or in the whole volume, or slice where
            distances are measured in slices ("volume"): 0 as published recipes have it, 1 as the sign says.

    Raises:
        ValueError: `norm` is "volume" and `largest` is missing.
    """
    spatial = tuple(range(2, mask.ndim))
    valid = valid.unsqueeze(1)
    within, without = mask & valid, ~mask & valid
    # Distances that a warp has interpolated may reach over the boundary; the mask decides the side.
    inside, outside = distances[:, :, 0] * within, distances[:, :, 1] * without
    if norm == "crop":
        most_inside, most_outside = inside.amax(spatial, keepdim=True), outside.amax(spatial, keepdim=True)
    elif largest is not None:
        most_inside, most_outside = largest.reshape(*mask.shape[:2], 2, *(1 for _ in spatial)).unbind(2)
    else:
        raise ValueError("norm 'volume' divides by the largest distances of each volume: give `largest` (B, F, 2)")
    nothing, all_of_it = ~within.any(spatial, keepdim=True), ~without.any(spatial, keepdim=True)
    if norm == "volume":  # beyond the crop there is foreground where a voxel outside has a distance to it
        nothing = nothing & (outside.amax(spatial, keepdim=True) == 0)
    tiny = torch.finfo(distances.dtype).tiny
    signed = outside / most_outside.clamp(min=tiny) - inside / most_inside.clamp(min=tiny)
    signed = signed.masked_fill(inner_boundary(mask, valid, dims=len(spatial)), 0)
    return signed.masked_fill(nothing & valid, empty).masked_fill(within & all_of_it, -1).clamp(-1, 1)


def label_distance(
    targets: Mapping[str, Tensor],
    label: Tensor,
    valid: Tensor,
    *,
    norm: Literal["crop", "volume"] = "crop",
    empty: float = 0.0,
) -> Tensor:
    """Return the `signed_distance` (B, F, *spatial) of every foreground class of labels (B, *spatial), int64.

    Args:
        targets: what a method that needs "distances" is given, `Batch.targets_l`.
        label: class indices.
        valid: (B, *spatial) bool; voxels that count.
        norm: as for `signed_distance`.
        empty: as for `signed_distance`.
    """
    distances = targets["distances"]
    mask = torch.stack([label == k for k in range(1, distances.shape[1] + 1)], dim=1)
    return signed_distance(distances, mask, valid, norm=norm, largest=targets.get("largest"), empty=empty)


def mask_of_distance(distance: Tensor, *, slope: float) -> Tensor:
    """Return the mask that a signed distance map stands for: sigmoid(-slope * distance), a half on the boundary.

    By hand: with slope 2 ln 3 a distance of -.5 gives 3/4, 0 gives 1/2 and .5 gives 1/4.
    """
    return (-slope * distance).sigmoid()
