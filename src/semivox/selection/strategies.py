"""Which scans to label next: at random, the most doubtful, the most typical, or doubtful ones of every kind.

"typical" is TypiClust (Hacohen et al., ICML 2022, arXiv:2202.02794): as many clusters as there would be labels; of
each of the largest clusters that no labelled scan is in, the scan that lies closest to its neighbours. "mixed" takes
the most doubtful scan of each instead.
"""

from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2

Strategy = Literal["random", "uncertainty", "typical", "mixed"]
STRATEGIES: tuple[Strategy, ...] = get_args(Strategy)
NEIGHBOURS = 20
"""Neighbours that a scan's typicality looks at, as in the paper."""


class Choice(NamedTuple):
    """A scan to label, and why."""

    case: str
    reason: str


def at_random(cases: Sequence[str], count: int, seed: int) -> list[Choice]:
    """Return so many of the cases."""
    order = np.random.default_rng(seed).permutation(len(cases))
    return [Choice(cases[index], "at random") for index in order[:count]]


def most_doubtful(doubts: Mapping[str, float], count: int) -> list[Choice]:
    """Return the cases of the largest doubt, given in [0, 1]."""
    ranked = sorted(doubts, key=lambda case: (-doubts[case], case))
    return [Choice(case, f"doubt {doubts[case]:.2f}") for case in ranked[:count]]


def of_every_kind(
    vectors: Mapping[str, NDArray[np.floating]],
    labelled: Sequence[NDArray[np.floating]],
    count: int,
    seed: int,
    *,
    doubts: Mapping[str, float] | None = None,
) -> list[Choice]:
    """Return a case of each of the largest clusters that no labelled scan is in; where these run out, of all in turn.

    Args:
        vectors: (D,) of each case.
        labelled: (D,) of the scans that have a label.
        count: cases wanted.
        seed: of the clusters' start.
        doubts: take the most doubtful of a cluster by these; None: the most typical.
    """
    names = sorted(vectors)
    points = np.stack([*(vectors[name] for name in names), *labelled]).astype(np.float64)
    points = (points - points.mean(0)) / np.maximum(points.std(0), 1e-9)
    clusters = min(len(labelled) + count, len(np.unique(points, axis=0)))
    _, member = kmeans2(points, clusters, seed=seed, minit="++", missing="warn")
    covered = {int(cluster) for cluster in member[len(names) :]}
    groups: dict[int, list[int]] = {}
    for index, cluster in enumerate(member[: len(names)]):
        groups.setdefault(int(cluster), []).append(index)
    chosen: list[Choice] = []
    while len(chosen) < min(count, len(names)):
        # covered ones last, then the largest; a cluster gives one and goes to the end
        cluster = min((c for c in groups if groups[c]), key=lambda c: (c in covered, -len(groups[c]), c))
        group = groups[cluster]
        best = _most_typical(points, group) if doubts is None else max(group, key=lambda i: doubts[names[i]])
        kind = "typical of" if doubts is None else f"doubt {doubts[names[best]]:.2f}, the largest of"
        like = "some labelled scans are alike" if cluster in covered else "no labelled scan is alike"
        chosen.append(Choice(names[best], f"{kind} {len(group)} scans; {like}"))
        group.remove(best)
        covered.add(cluster)
    return chosen


def _most_typical(points: NDArray[np.float64], group: Sequence[int]) -> int:
    """Return the point whose mean distance to its nearest neighbours in the group is smallest."""
    own = points[list(group)]
    apart = np.sort(np.linalg.norm(own[:, None] - own[None], axis=2), axis=1)[:, 1 : NEIGHBOURS + 1]
    return group[int(apart.mean(1).argmin())] if len(group) > 1 else group[0]
