"""Random geometries: which ones there are, and how each item of a batch draws its own.

Kinds, and what each item of the batch draws for itself:

========  ==============================================================================================================
none      nothing
flips     a flip of each axis, probability 1/2 each; exact
turns     a quarter turn of the plane across the slice axis where its sides are equal, and flips of its axes; exact
affine    rotation (p 0.5: +-15 degrees about the slice axis, +-5 about the others), scale (p 0.5: 0.85 to 1.2),
          shift (p 0.5: +-5 % of the size)
wide      the same of p 0.8, +-30 and +-10 degrees, 0.7 to 1.4, +-10 %: for few scans whose fields of view differ
elastic   affine, and (p 0.5) smooth displacements of up to 4 voxels that never fold
========  ==============================================================================================================

Rotations are made in mm. Where slices are more than three times as thick as their pixels, nothing moves
through the plane: there is too little between the slices to interpolate.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import log, radians
from typing import Literal, NamedTuple

import torch
from torch import Tensor

from semivox.errors import ConfigError, GeometryError, nearest
from semivox.ops.fields import along_axes, constants, per_item, sometimes, spline_basis, uniform
from semivox.ops.warp import ExactWarp, SampledWarp, Warp

Kind = Literal["none", "flips", "turns", "affine", "wide", "elastic"]

KINDS = ("none", "flips", "turns", "affine", "wide", "elastic")
PROBABILITY = 0.5  # of bending
CELL = 16  # voxels between the control points of an elastic displacement
BEND = 0.25  # of the control points' distance; cubic B-splines cannot fold below 0.4
THICK = 3.0  # slice thickness over pixel size above which nothing moves through the plane


class Reach(NamedTuple):
    """How far affine maps go, and how often an item is turned, scaled or shifted."""

    probability: float
    rotation: float  # degrees about the slice axis
    tilt: float  # degrees about the others
    scale: tuple[float, float]
    shift: float  # of the size


SMALL = Reach(probability=0.5, rotation=15.0, tilt=5.0, scale=(0.85, 1.2), shift=0.05)
WIDE = Reach(probability=0.8, rotation=30.0, tilt=10.0, scale=(0.7, 1.4), shift=0.1)


def geometry(
    shape: Sequence[int],
    generator: torch.Generator,
    kind: Kind,
    *,
    spacing: Sequence[float] | None = None,
    slice_axis: int | None = None,
    rotation: float | None = None,
    device: torch.device | str | None = None,
) -> Warp:
    """Return a random geometry, drawn for each item of a batch on its own.

    Args:
        shape: of the images, (B, C, *size), in 2D or 3D.
        generator: the only source of randomness; the draws are made on its device.
        kind: see the top of the file.
        spacing: voxel size in mm along the spatial axes; None for equal sides.
        slice_axis: the through-plane axis in 3D (None: the last); not read in 2D.
        rotation: degrees about the slice axis, to either side, in place of the kind's own.
        device: where the images are; None for the generator's.

    Raises:
        ConfigError: on an unknown kind, or a rotation for a kind that makes exact ones or none.
        GeometryError: where there are not two or three spatial axes, or spacing or slice axis do not fit them.
    """
    if kind not in KINDS:
        raise ConfigError(f"there is no geometry '{kind}'; {nearest(kind, KINDS)}")
    crops = _Crops.of(shape, spacing, slice_axis)
    if kind in ("none", "flips", "turns"):
        if rotation is not None:
            raise ConfigError(
                f"geometry '{kind}' has no angles: leave out rotation, or take 'affine', 'wide' or 'elastic'"
            )
        return _exact(kind, crops, generator, device)
    with torch.autocast(generator.device.type, enabled=False):  # half precision would move voxels
        reach = WIDE if kind == "wide" else SMALL
        matrix = _affine(crops, reach if rotation is None else reach._replace(rotation=rotation), generator)
        if kind != "elastic":
            return SampledWarp.affine(matrix.to(device), crops.size)
        straight = SampledWarp.affine(matrix, crops.size).grid
        bend = _bend(crops, generator).flatten(1, -2) @ matrix[:, :-1, :-1].mT
        return SampledWarp((straight + bend.reshape(straight.shape)).to(device))


@dataclass(frozen=True)
class _Crops:
    """What a geometry must know of the crops it is drawn for."""

    batch: int
    size: tuple[int, ...]
    sides: tuple[float, ...]  # of a voxel in mm, all one without a spacing
    across: int | None  # the through-plane axis; None in 2D

    @classmethod
    def of(cls, shape: Sequence[int], spacing: Sequence[float] | None, slice_axis: int | None) -> "_Crops":
        dims = len(shape) - 2
        if dims not in (2, 3):
            raise GeometryError(
                f"a geometry was asked for the shape {tuple(shape)}; expected (B, C, X, Y) or (B, C, X, Y, Z)"
            )
        sides = (1.0,) * dims if spacing is None else tuple(float(side) for side in spacing)
        if len(sides) != dims or min(sides) <= 0:
            raise GeometryError(f"spacing {sides} for {dims} spatial axes; expected one positive number of mm for each")
        if dims == 3 and slice_axis not in (None, 0, 1, 2):
            raise GeometryError(f"slice axis {slice_axis} for three spatial axes; expected 0, 1 or 2")
        across = None if dims == 2 else (2 if slice_axis is None else slice_axis)
        return cls(shape[0], tuple(shape[2:]), sides, across)

    @property
    def dims(self) -> int:
        return len(self.size)

    @property
    def plane(self) -> tuple[int, int]:
        """The two axes within a slice."""
        first, second = (axis for axis in range(self.dims) if axis != self.across)
        return first, second

    @property
    def extent(self) -> tuple[float, ...]:
        """Size in mm."""
        return tuple(length * side for length, side in zip(self.size, self.sides, strict=True))

    @property
    def free(self) -> tuple[bool, ...]:
        """Along which axes voxels may move: not between slices too thick to interpolate between."""
        return tuple(axis != self.across or side <= THICK * min(self.sides) for axis, side in enumerate(self.sides))


def _exact(kind: Kind, crops: _Crops, generator: torch.Generator, device: torch.device | str | None) -> ExactWarp:
    flips = uniform((crops.batch, crops.dims), generator) < 0.5
    swap = uniform((crops.batch,), generator) < 0.5
    first, second = crops.plane
    square = crops.size[first] == crops.size[second] and abs(crops.sides[first] / crops.sides[second] - 1) < 0.01
    if kind == "none":
        flips[:] = False
    if kind == "turns" and crops.across is not None:
        flips[:, crops.across] = False
    if kind != "turns" or not square:
        swap[:] = False
    return ExactWarp(crops.size, flips.to(device), swap.to(device), crops.plane)


def _affine(crops: _Crops, reach: Reach, generator: torch.Generator) -> Tensor:
    """Return (B, dims + 1, dims + 1), result to source in the coordinates of ``grid_sample``."""
    batch, dims, device = crops.batch, crops.dims, generator.device
    free = constants(crops.free, device)
    linear = torch.eye(dims, device=device).expand(batch, dims, dims)
    turned = uniform((batch,), generator) < reach.probability
    for axis in range(3) if dims == 3 else (None,):
        limit = radians(reach.rotation if axis == crops.across else reach.tilt if all(crops.free) else 0.0)
        angle = torch.where(turned, uniform((batch,), generator, -limit, limit), 0.0)
        linear = linear @ _rotation(angle, dims, axis)
    low, high = log(reach.scale[0]), log(reach.scale[1])
    scale = sometimes(batch, generator, probability=reach.probability, low=low, high=high, otherwise=0).exp()
    linear = linear / torch.where(free, scale[:, None], 1.0)[:, None]
    shifted = (uniform((batch, 1), generator) < reach.probability) & free
    shift = torch.where(shifted, uniform((batch, dims), generator, -2 * reach.shift, 2 * reach.shift), 0.0)
    extent = constants(crops.extent, device)
    linear = linear * extent / extent[:, None]  # from mm to normalised coordinates
    matrix = torch.eye(dims + 1, device=device).repeat(batch, 1, 1)
    matrix[:, :-1, :-1] = linear.flip(1, 2)  # grid_sample counts axes from the last
    matrix[:, :-1, -1] = shift.flip(1)
    return matrix


def _rotation(angle: Tensor, dims: int, axis: int | None) -> Tensor:
    """Return (B, dims, dims): turns by `angle` (B,) radians about `axis`; in 2D about the missing one."""
    first, second = (other for other in range(dims) if other != axis)
    matrix = torch.eye(dims, device=angle.device).repeat(len(angle), 1, 1)
    matrix[:, first, first] = matrix[:, second, second] = angle.cos()
    matrix[:, first, second], matrix[:, second, first] = -angle.sin(), angle.sin()
    return matrix


def _bend(crops: _Crops, generator: torch.Generator) -> Tensor:
    """Return (B, *size, dims): smooth displacements of the result's voxels, in the coordinates of ``grid_sample``."""
    device = generator.device
    cells = [max(1, round(length / CELL)) for length in crops.size]
    gaps = [extent / count for extent, count in zip(crops.extent, cells, strict=True)]  # mm between control points
    limit = BEND * min(gap for gap, free in zip(gaps, crops.free, strict=True) if free)
    reach = [2 * limit / extent if free else 0.0 for extent, free in zip(crops.extent, crops.free, strict=True)]
    strength = sometimes(crops.batch, generator, probability=PROBABILITY, low=0.3, high=1, otherwise=0)
    control = uniform((crops.batch, crops.dims, *[count + 3 for count in cells]), generator, -1, 1)
    control = control * per_item(strength, control)
    control = control * constants(tuple(reach), device).reshape(-1, *[1] * crops.dims)
    bases = [spline_basis(length, count, device) for length, count in zip(crops.size, cells, strict=True)]
    return along_axes(control, bases).flip(1).movedim(1, -1)
