"""Contrast of pixels against the prototypes of their classes: which pixels ask, which answer, which are remembered.

The contrast of MONA and ARCO (You et al., arXiv:2209.13476 and NeurIPS 2023, arXiv:2302.01735), put together from
`semivox.ops.sampling`, `semivox.ops.contrast` and `semivox.ops.queue`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from semivox.ops.contrast import class_contrast, class_means
from semivox.ops.queue import ClassBanks, gathered
from semivox.ops.sampling import Pool, Scheme


class Pixels(NamedTuple):
    """The pixels of a batch, in one list of N. Class ids are 0 ... K - 1, and K for pixels that have no part in it.

    Attributes:
        student: (N, H) features that learn.
        teacher: (N, H) features that they are compared with, without gradient.
        anchors: (N,) int64: of which class a pixel may be drawn as a query.
        prototypes: (N,) int64: to which class's mean it counts.
        keys: (N,) int64: as which class's negative it is remembered.
        cells: (N,) int64 cell of the sampling grid.
        mirrors: (N,) int64 pixel opposite in the cell; None where pairs are made by rank.
    """

    student: Tensor
    teacher: Tensor
    anchors: Tensor
    prototypes: Tensor
    keys: Tensor
    cells: Tensor
    mirrors: Tensor | None


class Keys(NamedTuple):
    """What a step hands to the banks: features (K, N, D), their cells (K, N) and which of them there are (K, N)."""

    features: Tensor
    cells: Tensor
    keep: Tensor

    def push(self, banks: ClassBanks) -> None:
        """Write the keys of all processes into the banks."""
        banks.push(*(gathered(x.transpose(0, 1)).transpose(0, 1) for x in self))


class Contrast(NamedTuple):
    """What a step's contrast gives.

    Attributes:
        loss: scalar.
        keys: for the banks, after the optimiser's step.
        queries: (K, N, D) student embeddings that were drawn.
        valid: (K,) bool, classes that had anchors and negatives.
    """

    loss: Tensor
    keys: Keys
    queries: Tensor
    valid: Tensor


@dataclass(frozen=True)
class Draws:
    """How anchors and negatives are drawn.

    Attributes:
        scheme: "naive", "sg" or "sag".
        anchors: queries per class and step; as many keys of each class are remembered.
        negatives: keys per query.
        source: negatives from the banks, once two of them hold features, or always from the batch.
        rule: negatives of a class are the other classes' keys ("paper"), or its own bank's, which the released code
            fills with the pixels of it that look like another ("released").
        tau: temperature.
    """

    scheme: Scheme
    anchors: int
    negatives: int
    source: Literal["bank", "batch"]
    rule: Literal["paper", "released"]
    tau: float


def anatomical_contrast(
    pixels: Pixels,
    banks: ClassBanks,
    draws: Draws,
    generator: torch.Generator,
    *,
    embed_s: Callable[[Tensor], Tensor],
    embed_t: Callable[[Tensor], Tensor],
) -> Contrast:
    """Return the contrast of anchors drawn from every class with its prototype and with drawn negatives.

    Args:
        pixels: of the batch.
        banks: features of earlier steps.
        draws: what is drawn, and how.
        generator: decides all draws.
        embed_s: from student features (..., H) to embeddings (..., D); applied to the anchors that are drawn.
        embed_t: the same for the teacher's, affine: a prototype is the embedding of the class's mean feature.
    """
    classes = len(banks.written)
    options: dict[str, Any] = {"scheme": draws.scheme, "generator": generator}
    pool = Pool(pixels.anchors, pixels.cells, classes=classes)
    drawn, asked = pool.draw(draws.anchors, mirrors=pixels.mirrors, **options)
    positives = embed_t(class_means(pixels.teacher, pixels.prototypes, classes))
    here = Pool(pixels.keys, pixels.cells, classes=classes)
    newest, present = here.draw(draws.anchors, mirrors=pixels.mirrors, **options)
    keys = Keys(embed_t(pixels.teacher[newest]), pixels.cells[newest], present[:, None].expand_as(newest))
    count = draws.anchors * draws.negatives
    if draws.rule == "released" or (draws.source == "bank" and banks.several):
        others = Pool(banks.class_ids, banks.cell_ids, classes=classes)
        far, answered = others.draw(count, of="own" if draws.rule == "released" else "others", **options)
        features = banks.features
    else:
        far, answered = here.draw(count, of="others", mirrors=pixels.mirrors, **options)
        features = embed_t(pixels.teacher)
    queries, valid = embed_s(pixels.student[drawn]), asked & answered
    negatives = far.reshape(classes, draws.anchors, draws.negatives)
    return Contrast(class_contrast(queries, positives, features, negatives, valid, draws.tau), keys, queries, valid)
