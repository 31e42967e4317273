"""What a training step costs: memory, time and disk, from a count of the V-Net's layers and what the method adds.

The counts are those of the V-Net in `nets/vnet.py` (its weights, and within a few percent what autograd keeps) and
about a fifth off for the U-Net. Speeds are rough: one constant for any CPU and one for any GPU.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

from semivox.planning.measured import BASE, StepCost

Device = Literal["cpu", "cuda"]

FLOPS = {("cpu", 3): 3e10, ("cpu", 2): 8e10, ("cuda", 3): 3e12, ("cuda", 2): 3e12}
"""Useful operations per second of training, by device and dims: two slow cores (measured), and a guess for a GPU in
half precision. A machine may be four times slower or faster."""

AT_REST = {"cpu": 0.6e9, "cuda": 0.8e9}
"""Bytes that Python and the libraries (CPU), or the CUDA context (GPU), take before there is any net."""

MARGIN = 1.25
"""For what is not counted: workspaces of the convolutions, perturbed copies of the images, fragments."""


@dataclass(frozen=True)
class Setup:
    """What decides the cost of a step.

    Attributes:
        patch: voxels of a crop.
        strides: downsampling between two levels, one tuple each.
        filters: channels at full resolution.
        channels: C of the image.
        classes: K, background included.
        labelled: labelled crops per step.
        unlabelled: unlabelled crops per step.
        method: what the method's step costs, relative to `supervised`'s with as many crops.
    """

    patch: tuple[int, ...]
    strides: tuple[tuple[int, ...], ...]
    filters: int
    channels: int = 1
    classes: int = 2
    labelled: int = 2
    unlabelled: int = 2
    method: StepCost = BASE

    @property
    def dims(self) -> int:
        """2 or 3."""
        return len(self.patch)


class Level(NamedTuple):
    """One resolution of the V-Net."""

    width: int
    voxels: int
    convs: int
    """convolutions of kernel 3 from this width to this width, encoder and decoder together."""
    moves: int
    """strided convolutions that end here: one from above, one from below."""
    reach: int
    """voxels of this level that become one of the next; 0 at the last."""


def levels(setup: Setup) -> Iterator[Level]:
    """Yield the levels, fine to coarse."""
    voxels, last = math.prod(setup.patch), len(setup.strides)
    for index in range(last + 1):
        stage = min(index + 1, 3)
        convs, moves = (stage, 1) if index == last else (2 * stage, 1 if index == 0 else 2)
        reach = 0 if index == last else math.prod(setup.strides[index])
        yield Level(setup.filters * 2**index, voxels, convs, moves, reach)
        voxels //= max(reach, 1)


def weight_count(setup: Setup) -> int:
    """Return the weights of one net, without biases and norms."""
    kernel = 3**setup.dims
    count = 0
    for level in levels(setup):
        count += kernel * level.width**2 * level.convs + 2 * level.reach * level.width * 2 * level.width
    return count - kernel * setup.filters * (setup.filters - setup.channels)  # the first one reads the image


def forward_flops(setup: Setup) -> int:
    """Return the operations of one crop's way through one net."""
    kernel = 3**setup.dims
    count = 0
    for level in levels(setup):
        moved = 2 * level.width * 2 * level.width if level.reach else 0  # down to the next level and up again
        count += 2 * level.voxels * (kernel * level.width**2 * level.convs + moved)
    return count - 2 * kernel * setup.filters * (setup.filters - setup.channels) * math.prod(setup.patch)


def kept_bytes(setup: Setup) -> int:
    """Return the bytes that one crop's forward leaves for the backward pass, in single precision.

    Every layer keeps its convolution's and its activation's output, every level with a decoder the sum with the skip,
    the last one dropout's output.
    """
    maps = 0
    for index, level in enumerate(levels(setup)):
        layers = 2 * (level.convs + level.moves) + (level.reach > 0) + (index == 0)
        maps += layers * level.width * level.voxels
    return 4 * maps


def step_memory(setup: Setup, device: Device) -> int:
    """Return the bytes that a training step needs at its peak, at least that of `supervised`."""
    crops = setup.labelled + setup.unlabelled
    voxels = math.prod(setup.patch)
    kept = crops * kept_bytes(setup)
    passing = 4 * voxels * setup.filters * 3 * max(setup.labelled, setup.unlabelled)  # gradients, and maps without
    losses = 4 * voxels * (8 * setup.classes + 4 * setup.channels) * crops
    weights = 4 * weight_count(setup) * 4  # student, gradient, momentum, and a teacher or a second moment
    return int(AT_REST[device] + MARGIN * max(setup.method.memory, 1.0) * (kept + passing + losses + weights))


def step_seconds(setup: Setup, device: Device) -> float:
    """Return the rough time of a training step; a backward pass costs two forwards."""
    forwards = 3 * (setup.labelled + setup.unlabelled)
    return setup.method.time * forwards * forward_flops(setup) / FLOPS[device, setup.dims]


def cache_bytes(shapes: Sequence[Sequence[float]], *, channels: int, labelled: int, maps: int = 0) -> int:
    """Return the bytes of prepared scans of these shapes, the first `labelled` of them with a label, at most.

    `maps` of two bytes a voxel lie beside every label: two per foreground class where a method needs distances.
    """
    voxels = [math.prod(shape) for shape in shapes]
    return int(4 * channels * sum(voxels) + (1 + 2 * maps) * sum(voxels[:labelled]))
