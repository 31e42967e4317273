"""Views of a batch: random geometry and random intensity, made on the device, one draw per item."""

from collections.abc import Sequence

import torch
from torch import Tensor

from semivox.ops.genesis import inpaint, local_shuffle, nonlinear_intensity, outpaint
from semivox.ops.intensity import Kind as IntensityKind
from semivox.ops.intensity import intensity, with_noise
from semivox.ops.motion import Kind as GeometryKind
from semivox.ops.motion import geometry
from semivox.ops.warp import Warp

__all__ = [
    "Warp",
    "geometry",
    "inpaint",
    "intensity",
    "local_shuffle",
    "nonlinear_intensity",
    "outpaint",
    "strong",
    "view",
    "weak",
    "with_noise",
]


def view(
    image: Tensor,
    generator: torch.Generator,
    *,
    move: GeometryKind,
    shade: IntensityKind,
    valid: Tensor | None = None,
    spacing: Sequence[float] | None = None,
    slice_axis: int | None = None,
) -> tuple[Tensor, Warp]:
    """Return the images moved by a random geometry, then changed in intensity, and the geometry for their targets.

    Args:
        image: (B, C, *size), normalised, zero in padding.
        generator: the only source of randomness, on the image's device.
        move: kind of geometry.
        shade: kind of intensity.
        valid: (B, *size) bool before the geometry, False in padding; move it along by the warp that is returned.
        spacing: voxel size in mm along the spatial axes; None for equal sides.
        slice_axis: the through-plane axis in 3D (None: the last).
    """
    warp = geometry(image.shape, generator, move, spacing=spacing, slice_axis=slice_axis, device=image.device)
    seen = warp.inside if valid is None else warp(valid)
    return intensity(warp(image), generator, shade, valid=seen), warp


def weak(
    image: Tensor,
    generator: torch.Generator,
    *,
    valid: Tensor | None = None,
    spacing: Sequence[float] | None = None,
    slice_axis: int | None = None,
) -> tuple[Tensor, Warp]:
    """Return the view with geometry "affine" and intensity "weak", and its geometry; arguments as for `view`."""
    return view(image, generator, move="affine", shade="weak", valid=valid, spacing=spacing, slice_axis=slice_axis)


def strong(
    image: Tensor,
    generator: torch.Generator,
    *,
    valid: Tensor | None = None,
    spacing: Sequence[float] | None = None,
    slice_axis: int | None = None,
) -> tuple[Tensor, Warp]:
    """Return the view with geometry "elastic" and intensity "strong", and its geometry; arguments as for `view`."""
    return view(image, generator, move="elastic", shade="strong", valid=valid, spacing=spacing, slice_axis=slice_axis)
