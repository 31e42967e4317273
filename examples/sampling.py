"""A contrastive loss of one's own on pixels drawn class by class, and what each scheme of drawing does to its noise.

    python examples/sampling.py

The embeddings are made up: two slices with a disc and a ring, smooth within each class as those of a trained net.
The same loss is drawn 200 times; its mean is the same under every scheme, its standard deviation is not.
"""

import argparse

import torch
from torch import Tensor
from torch.nn import functional as F

from semivox.ops.contrast import class_means
from semivox.ops.sampling import SCHEMES, Pool, Scheme, grid_cells


def pixel_contrast(
    embedding: Tensor,
    label: Tensor,
    *,
    classes: int,
    scheme: Scheme = "sg",
    anchors: int = 64,
    negatives: int = 32,
    tau: float = 0.5,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return how badly pixels find the mean of their class among pixels of other classes, averaged over the classes.

    Args:
        embedding: (B, D, X, Y) or (B, D, X, Y, Z).
        label: (B, X, Y) or (B, X, Y, Z) integers; pixels below 0 or from `classes` on have no part in it.
        classes: K.
        scheme: "naive", "sg" or "sag".
        anchors: pixels drawn of each class.
        negatives: pixels of other classes drawn for each anchor.
        tau: temperature.
        generator: decides the draws.
    """
    batch, width, *size = embedding.shape
    pixel = F.normalize(embedding.movedim(1, -1).reshape(-1, width), dim=1)  # (N, D)
    class_ids, cell_ids = label.flatten(), grid_cells(batch, size, [4] * len(size), device=label.device).flatten()
    pool = Pool(class_ids, cell_ids, classes=classes)
    asked, found = pool.draw(anchors, scheme=scheme, generator=generator)
    far, answered = pool.draw(anchors * negatives, of="others", scheme=scheme, generator=generator)
    query, negative = pixel[asked], pixel[far].unflatten(1, (anchors, negatives))  # (K, A, D), (K, A, M, D)
    positive = class_means(pixel.detach(), class_ids, classes)
    alike = torch.einsum("kad,kd->ka", query, positive).unsqueeze(-1)
    unlike = torch.einsum("kad,kamd->kam", query, negative)
    loss = -torch.cat([alike, unlike], -1).div(tau).log_softmax(-1)[..., 0].mean(1)  # (K,)
    valid = found & answered  # a class without anchors or negatives has no loss
    return loss.where(valid, 0).sum() / valid.sum().clamp(min=1)


def made_up_slices(side: int = 64, width: int = 8) -> tuple[Tensor, Tensor]:
    """Return embeddings (2, D, side, side) and labels (2, side, side) of background, ring and disc."""
    place = torch.stack(torch.meshgrid(*[torch.linspace(-1, 1, side)] * 2, indexing="ij"))  # (2, side, side)
    radius = place.square().sum(0).sqrt()
    label = torch.stack([(radius < size).long() + (radius < size / 2).long() for size in (0.7, 0.5)])
    random = torch.Generator().manual_seed(0)
    of_class, slope = torch.randn(3, width, generator=random), torch.randn(2, width, generator=random)
    smooth = torch.einsum("dw,dxy->wxy", slope, place)
    return of_class[label].movedim(-1, 1) + smooth, label


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=200)
    repeats = parser.parse_args().repeats
    embedding, label = made_up_slices()
    for scheme in SCHEMES:
        random = torch.Generator().manual_seed(0)
        options = {"classes": 3, "scheme": scheme, "generator": random}
        losses = torch.stack([pixel_contrast(embedding, label, **options) for _ in range(repeats)])
        print(f"{scheme:<5}  loss {losses.mean():.4f}, standard deviation {losses.std():.4f}")


if __name__ == "__main__":
    main()
