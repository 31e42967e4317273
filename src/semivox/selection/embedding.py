"""Where scans lie in what a run has learned: the mean of the encoder's bottleneck over a scan."""

import math
from collections.abc import Iterator
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from semivox.errors import ConfigError
from semivox.nets.net import Net
from semivox.prediction.predictor import Predictor


@torch.inference_mode()
def embed(predictor: Predictor, image: Tensor) -> NDArray[np.float32]:
    """Return the vector (D,) of a scan; D is the width of the bottleneck of the run's first net.

    Args:
        predictor: of the run.
        image: (C, *spatial) the scan as `predictor.prepared` gives it.

    Raises:
        ConfigError: the run's net has no bottleneck to look at.
    """
    net = next((part for part in predictor.method.modules() if isinstance(part, Net)), None)
    if net is None:
        raise ConfigError(
            f"{predictor.run.path}: found net '{predictor.run.config.net.name}', expected vnet or unet, whose features "
            "scans are compared by"
        )
    found = [
        net.encode(crop.to(predictor.fabric.device))["bottleneck"].flatten(2).mean(2)
        for crop in crops(image, predictor.run.config.patch)
    ]
    return torch.cat(found).mean(0).float().cpu().numpy()


def crops(image: Tensor, patch: tuple[int, ...]) -> Iterator[Tensor]:
    """Yield crops (1, C, *patch) side by side, as few as cover a prepared scan; a smaller one is padded.

    Args:
        image: (C, X, Y, Z), or (C, slices, A, B) for a patch of two axes.
        patch: voxels of a crop along the axes that the net sees.
    """
    window = (1,) * (3 - len(patch)) + tuple(patch)
    margins = [max(0, side - size) for side, size in zip(window, image.shape[1:], strict=True)]
    image = F.pad(image, [part for margin in reversed(margins) for part in (margin // 2, margin - margin // 2)])
    sizes = zip(image.shape[1:], window, strict=True)
    starts = [np.linspace(0, size - side, math.ceil(size / side)).round().astype(int) for size, side in sizes]
    for corner in product(*starts):
        box = tuple(slice(start, start + side) for start, side in zip(corner, window, strict=True))
        yield image[(slice(None), *box)].reshape(1, len(image), *patch)
