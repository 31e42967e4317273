"""Active contours as losses: the energy of two boundaries that attract each other over any distance."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from semivox.ops.contrast import full_precision


def elastic_interaction(
    p: Tensor,
    label: Tensor,
    valid: Tensor | None = None,
    *,
    spacing: Sequence[float] | None = None,
    slice_axis: int | None = None,
    alpha: float = 1.0,
    sigma: float | None = None,
) -> Tensor:
    """Return the elastic energy of truth and prediction (Lan et al., MICCAI 2020), averaged over foreground classes.

    ``E = (1 / |Omega|^2) sum_k |k| |F[y - alpha p](k)|^2``, F the discrete Fourier transform over the |Omega| voxels
    of an image or slice: the H^(1/2) seminorm of what is wrong, which is 0 where that is a constant, convex in p, and
    feels a boundary from afar, as an overlap does not. By hand: y - p = cos(2 pi m x / N) on N x N pixels gives m / 2.

    ``|k|`` is in cycles per image where its sides have one length in mm, N_i times spacing_i; else each axis counts
    k_i over its length, times the geometric mean of all lengths. Images repeat beyond their borders.

    Args:
        p: (B, K, *spatial) probabilities; channel 0 is the background and does not count.
        label: (B, *spatial) int64 class index.
        valid: (B, *spatial) bool; elsewhere nothing is wrong. By default all.
        spacing: voxel size along the spatial axes; None for equal sides.
        slice_axis: of volumes that are seen slice by slice, counted among the spatial axes; None: as a whole.
        alpha: what the prediction weighs against the truth.
        sigma: the prediction enters as clip((p - .5) / sigma, 0, 1), which has a gradient between .5 and .5 + sigma
            alone; None: as p.
    """
    p, size = full_precision(p[:, 1:]), label.shape[1:]
    if sigma is not None:
        p = ((p - 0.5) / sigma).clamp(0, 1)
    y = torch.stack([label == k for k in range(1, p.shape[1] + 1)], dim=1).to(p.dtype)
    wrong = y - alpha * p
    if valid is not None:
        wrong = wrong * valid.unsqueeze(1)
    axes = [axis for axis in range(len(size)) if axis != slice_axis]
    over, sides = [axis - len(size) for axis in axes], [size[axis] for axis in axes]
    frequency = _frequency(size, spacing or (1.0,) * len(size), axes, p.device).to(p.dtype)
    # By Parseval the sum over frequencies is that over voxels of what is wrong times its half derivative's.
    force = torch.fft.irfftn(torch.fft.rfftn(wrong, dim=over) * frequency, s=sides, dim=over)
    return (wrong * force).mean()


def _frequency(size: Sequence[int], spacing: Sequence[float], axes: Sequence[int], device: torch.device) -> Tensor:
    """Return |k| at the frequencies of `rfftn` over `axes`, broadcastable over (..., *size)."""
    mean_length = math.prod(size[axis] * spacing[axis] for axis in axes) ** (1 / len(axes))
    square = torch.zeros([1] * len(size), dtype=torch.float64, device=device)
    for axis in axes:
        frequencies = torch.fft.rfftfreq if axis == axes[-1] else torch.fft.fftfreq
        k = frequencies(size[axis], spacing[axis] / mean_length, dtype=torch.float64, device=device)
        square = square + k.square().reshape([-1 if other == axis else 1 for other in range(len(size))])
    return square.sqrt()
