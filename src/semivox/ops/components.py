"""Connected components of labels, on whatever device they are."""

import torch
from torch import Tensor


def largest_components(label: Tensor, classes: int) -> Tensor:
    """Return labels with the largest component of every class of every image, and background in place of the others.

    Voxels are connected by faces (edges in 2D). Of components of one size the one whose first voxel comes first stays.

    Args:
        label: (B, *spatial) int64 class index; 0 is the background.
        classes: K.
    """
    runs, (one, other) = _runs(label)
    roots = _roots(int(runs[-1]) + 1, one, other)[runs]
    # Larger components first, then those that come first: no two have one rank.
    rank = torch.bincount(roots)[roots] * roots.numel() - roots
    image = torch.arange(roots.numel(), device=label.device) // label[0].numel()
    groups = image * classes + label.flatten()
    best = rank.new_full((len(label) * classes,), -roots.numel()).scatter_reduce(0, groups, rank, "amax")
    return label * (rank == best[groups]).reshape(label.shape)


def _runs(label: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Return the run (voxels,) of one class along the last axis that each voxel lies in, and pairs of runs that touch.

    Runs are numbered as they come; there are far fewer of them than voxels. A pair is named once for each stretch along
    which its runs touch. Every voxel of the background is a run of its own, which touches none.
    """
    joined = [_same(label, axis) for axis in range(1, label.ndim)]
    starts = torch.ones_like(label, dtype=torch.bool)
    starts[..., 1:] = ~joined[-1]
    runs = starts.flatten().cumsum(0) - 1
    shaped, ones, others = runs.reshape(label.shape), [], []
    for axis, touching in enumerate(joined[:-1], start=1):
        size = label.shape[axis] - 1
        first, second = shaped.narrow(axis, 0, size), shaped.narrow(axis, 1, size)
        new = starts.narrow(axis, 0, size) | starts.narrow(axis, 1, size)  # either begins here
        ones.append(first[touching & new])
        others.append(second[touching & new])
    return runs, (torch.cat(ones), torch.cat(others))


def _same(label: Tensor, axis: int) -> Tensor:
    """Return whether voxels are of one class, not the background, with the next one along an axis."""
    first, second = label.narrow(axis, 0, label.shape[axis] - 1), label.narrow(axis, 1, label.shape[axis] - 1)
    return (first == second) & (first > 0)


def _roots(count: int, one: Tensor, other: Tensor) -> Tensor:
    """Return the first of all that are connected with each of `count` things, by pairs of those that touch.

    All point to themselves at first. In each round, of two roots that touch the later one points to the earlier one,
    and all pointers are followed to their ends.
    """
    roots = torch.arange(count, device=one.device)
    while True:
        a, b = roots[one], roots[other]
        if torch.equal(a, b):
            return roots
        roots = roots.scatter_reduce(0, torch.maximum(a, b), torch.minimum(a, b), "amin")
        while not torch.equal(further := roots[roots], roots):
            roots = further
