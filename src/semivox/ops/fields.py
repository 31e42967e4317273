"""What the perturbations are made of: one number per item of a batch, and smooth fields over its voxels."""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from semivox.errors import ConfigError


def uniform(shape: Sequence[int], generator: torch.Generator, low: float = 0.0, high: float = 1.0) -> Tensor:
    """Return float32 numbers in [low, high) on the generator's device."""
    return torch.rand(tuple(shape), generator=generator, device=generator.device) * (high - low) + low


def sometimes(
    batch: int, generator: torch.Generator, *, probability: float, low: float, high: float, otherwise: float
) -> Tensor:
    """Return (B,) float32: for each item, with `probability`, a number in [low, high), else `otherwise`.

    Two numbers are drawn per item whatever comes out, so that a probability moves no later draw.
    """
    chosen = uniform((batch,), generator) < probability
    return torch.where(chosen, uniform((batch,), generator, low, high), otherwise)


def beta(shape: Sequence[int], generator: torch.Generator, concentration: float) -> Tensor:
    """Return float32 numbers in [0, 1], Beta-distributed with both concentrations alike, on the generator's device.

    By Johnk: ``u^(1/a) / (u^(1/a) + v^(1/a))`` of the first pair of uniform numbers for which the denominator is at
    most 1. At least every second pair will do, so that of 32 one does, and nothing waits for a GPU to say which; in
    logarithms, since the powers underflow. Torch's own Beta takes no generator.

    Args:
        shape: of the numbers.
        generator: the only source of randomness.
        concentration: a, above 0 up to 1; .5 is the arcsine, 1 the uniform distribution.

    Raises:
        ConfigError: a concentration out of this range.
    """
    if not 0 < concentration <= 1:
        raise ConfigError(f"a Beta distribution of concentration {concentration} was asked for: take above 0 up to 1")
    smallest = 2.0**-25  # half a step of the uniform numbers, which may be 0
    u, v = (uniform((32, *shape), generator).clamp_min(smallest).log() / concentration for _ in range(2))
    fits = torch.logaddexp(u, v) <= 0
    first = fits.int().argmax(0, keepdim=True)  # of equals the first
    return (u - v).gather(0, first).squeeze(0).sigmoid()


def drawn_places(held: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return the indices (..., min(count, N)) of places drawn without replacement, in no order.

    Args:
        held: (..., N) bool; others are drawn only where these run out.
        count: places wanted of each row.
        generator: the only source of randomness, on the device of `held`.
    """
    dice = torch.rand(held.shape, generator=generator, device=held.device)
    return dice.masked_fill(~held, -1).topk(min(count, held.shape[-1])).indices


@lru_cache(maxsize=64)
def constants(values: tuple[float, ...], device: torch.device) -> Tensor:
    """Return numbers as a tensor (N,) that is made once on a device, which else waits for them. Not to be changed."""
    return torch.tensor(values, device=device)


def per_item(x: Tensor, like: Tensor) -> Tensor:
    """Return `x` (B,) with as many trailing axes of length one as broadcasting over `like` (B, ...) needs."""
    return x.reshape(-1, *[1] * (like.ndim - 1))


def along_axes(x: Tensor, matrices: Sequence[Tensor]) -> Tensor:
    """Return `x` (B, C, *M) multiplied along each spatial axis by a matrix (N, M) or (B, N, M): (B, C, *N).

    A smooth field is a coarse grid times one basis per axis; a blur is a volume times one band matrix per axis.
    """
    for axis, matrix in enumerate(matrices, start=2):
        matrix = matrix.expand(len(x), *matrix.shape[-2:])
        x = torch.einsum("b...m,bnm->b...n", x.movedim(axis, -1), matrix).movedim(-1, axis)
    return x.contiguous()


def spline_basis(length: int, cells: int, device: torch.device) -> Tensor:
    """Return (length, cells + 3): the uniform cubic B-splines of `cells` cells at `length` voxel centres.

    Every row is non-negative and sums to one, so a field stays within the range of its control points.
    """
    position = (torch.arange(length, device=device) + 0.5) * (cells / length)
    distance = (position[:, None] - torch.arange(-1, cells + 2, device=device)).abs()
    near = 2 / 3 - distance**2 + distance**3 / 2
    far = (2 - distance).clamp_min(0) ** 3 / 6
    return torch.where(distance < 1, near, far)


def legendre_basis(length: int, device: torch.device) -> Tensor:
    """Return (length, 4): the Legendre polynomials of degree 0 to 3 at `length` voxel centres of [-1, 1]."""
    x = (torch.arange(length, device=device) * 2 + 1) / length - 1
    return torch.stack([torch.ones_like(x), x, (3 * x**2 - 1) / 2, (5 * x**3 - 3 * x) / 2], dim=1)


def gaussian_band(length: int, sigma: Tensor) -> Tensor:
    """Return (B, length, length): Gaussian weights of standard deviation `sigma` (B,) voxels, rows summing to one.

    A sigma of zero gives the identity exactly.
    """
    voxel = torch.arange(length, device=sigma.device, dtype=sigma.dtype)
    offset = (voxel[:, None] - voxel) / sigma.clamp_min(1e-3)[:, None, None]
    weight = torch.exp(-(offset**2) / 2)
    return weight / weight.sum(2, keepdim=True)
