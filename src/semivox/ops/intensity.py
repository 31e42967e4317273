"""Random intensities, one draw per item of a batch; images are normalised (any range), and padding stays zero.

The draws of each kind, as "probability: range"; what one kind lacks it does not do:

==========  ====================  ====================  ================================================================
draw        weak                  strong                what it does
==========  ====================  ====================  ================================================================
blur                              0.2: 0.5 to 1.0       Gaussian of this standard deviation in voxels
bias                              0.3: 0.1 to 0.4       times exp(a smooth field of this amplitude), above the minimum
contrast                          0.3: 0.65 to 1.5      times this about the mean, within the old range
gain        0.5: 0.75 to 1.25     0.5: 0.6 to 1.4       times this
gamma       0.3: 0.7 to 1.5       0.5: 0.5 to 2.0       power of the image scaled to 0..1; keeps mean and deviation
offset      0.5: -0.25 to 0.25    0.5: -0.5 to 0.5      plus this
noise       0.3: 0 to 0.1         0.5: 0 to 0.25        plus Gaussian noise of this standard deviation
==========  ====================  ====================  ================================================================
"""

from typing import Literal, NamedTuple

import torch
from torch import Tensor

from semivox.errors import ConfigError, nearest
from semivox.ops.fields import along_axes, gaussian_band, legendre_basis, per_item, sometimes, uniform

Kind = Literal["none", "weak", "strong"]


class Draw(NamedTuple):
    """With `probability` a number between `low` and `high`."""

    probability: float
    low: float
    high: float


DRAWS: dict[str, dict[str, Draw]] = {
    "none": {},
    "weak": {
        "gain": Draw(0.5, 0.75, 1.25),
        "gamma": Draw(0.3, 0.7, 1.5),
        "offset": Draw(0.5, -0.25, 0.25),
        "noise": Draw(0.3, 0.0, 0.1),
    },
    "strong": {
        "blur": Draw(0.2, 0.5, 1.0),
        "bias": Draw(0.3, 0.1, 0.4),
        "contrast": Draw(0.3, 0.65, 1.5),
        "gain": Draw(0.5, 0.6, 1.4),
        "gamma": Draw(0.5, 0.5, 2.0),
        "offset": Draw(0.5, -0.5, 0.5),
        "noise": Draw(0.5, 0.0, 0.25),
    },
}
NEUTRAL = {"blur": 0.0, "bias": 0.0, "contrast": 1.0, "gain": 1.0, "gamma": 1.0, "offset": 0.0, "noise": 0.0}
SMALLEST = 1e-6  # range or deviation below which an image counts as constant


def intensity(image: Tensor, generator: torch.Generator, kind: Kind, valid: Tensor | None = None) -> Tensor:
    """Return the images with random intensities, drawn for each item on its own; channels share an item's draws.

    Args:
        image: (B, C, *size), normalised, zero in padding.
        generator: the only source of randomness, on the image's device.
        kind: "none", "weak" or "strong"; see the top of the file.
        valid: (B, *size) bool, False in padding (None: there is none). Voxels that are not valid but have a value
            are image without a label, not padding, and change with the rest.

    Raises:
        ConfigError: on an unknown kind.
    """
    if kind not in DRAWS:
        raise ConfigError(f"there is no intensity '{kind}'; {nearest(kind, DRAWS)}")
    if kind == "none":
        return image
    with torch.autocast(image.device.type, enabled=False):  # half precision would quantise the image
        keep = scan_mask(image, valid)
        x = image.float()
        for name, draw in DRAWS[kind].items():
            number = sometimes(len(x), generator, **draw._asdict(), otherwise=NEUTRAL[name])
            x = _change(name, x, per_item(number, x), keep, generator)
        return torch.where(keep, x.to(image.dtype), image)


def with_noise(image: Tensor, *, generator: torch.Generator, scale: float = 0.1, clip: float = 0.2) -> Tensor:
    """Return the image plus Gaussian noise of standard deviation `scale`, clamped to [-clip, clip] (UA-MT's view)."""
    return image + (scale * _normal(image, generator)).clamp(-clip, clip)


def scan_mask(image: Tensor, valid: Tensor | None) -> Tensor:
    """Return (B, 1, *size) bool: False in padding, which is not valid and zero in every channel."""
    if valid is None:
        return image.new_ones((len(image), 1, *image.shape[2:]), dtype=torch.bool)
    return valid[:, None] | (image != 0).any(1, keepdim=True)


def value_range(image: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
    """Return the lowest and highest value of each item and channel where `keep`, both (B, C, 1, ...)."""
    axes = tuple(range(2, image.ndim))
    low = torch.where(keep, image, torch.inf).amin(axes, keepdim=True)
    high = torch.where(keep, image, -torch.inf).amax(axes, keepdim=True)
    return low, high


def _normal(like: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator, device=like.device, dtype=like.dtype)


def _moments(image: Tensor, keep: Tensor) -> tuple[Tensor, Tensor]:
    """Return mean and standard deviation of each item and channel where `keep`, both (B, C, 1, ...)."""
    axes = tuple(range(2, image.ndim))
    count = keep.sum(axes, keepdim=True).clamp_min(1)
    mean = torch.where(keep, image, 0).sum(axes, keepdim=True) / count
    variance = torch.where(keep, (image - mean) ** 2, 0).sum(axes, keepdim=True) / count
    return mean, variance.sqrt()


def _change(name: str, x: Tensor, number: Tensor, keep: Tensor, generator: torch.Generator) -> Tensor:
    """Return `x` with one kind of change by `number` (B, 1, 1, ...)."""
    match name:
        case "blur":
            return along_axes(x, [gaussian_band(length, number.flatten()) for length in x.shape[2:]])
        case "bias":
            low, _ = value_range(x, keep)  # a coil scales the signal, whose zero is the darkest voxel
            return (x - low) * _bias(x, number, generator) + low
        case "contrast":
            mean, _ = _moments(x, keep)
            return ((x - mean) * number + mean).clamp(*value_range(x, keep))
        case "gain":
            return x * number
        case "gamma":
            return _bent(x, number, keep)
        case "offset":
            return x + number
        case _:
            return x + number * _normal(x, generator)


def _bent(x: Tensor, gamma: Tensor, keep: Tensor) -> Tensor:
    """Return `x`, scaled to 0..1, to the power `gamma`, with the mean and the deviation that it had."""
    low, high = value_range(x, keep)
    bent = ((x - low) / (high - low).clamp_min(SMALLEST)).clamp(0, 1) ** gamma
    mean, deviation = _moments(x, keep)
    mean_bent, deviation_bent = _moments(bent, keep)
    return (bent - mean_bent) * (deviation / deviation_bent.clamp_min(SMALLEST)) + mean


def _bias(x: Tensor, amplitude: Tensor, generator: torch.Generator) -> Tensor:
    """Return (B, 1, *size): exp of a polynomial of degree three, whose largest absolute value is `amplitude`."""
    dims = x.ndim - 2
    power = torch.arange(4, device=x.device)
    degree = sum(power.reshape(-1, *[1] * axis) for axis in range(dims))  # of each product of Legendre polynomials
    coefficient = uniform((len(x), 1, *[4] * dims), generator, -1, 1) * ((degree > 0) & (degree <= 3))
    field = along_axes(coefficient, [legendre_basis(length, x.device) for length in x.shape[2:]])
    largest = field.abs().amax(tuple(range(1, x.ndim)), keepdim=True).clamp_min(SMALLEST)
    return (field / largest * amplitude).exp()
