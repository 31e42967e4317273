"""Draws from one list of pixels, many times at once."""

import torch

from semivox.ops.sampling import Pool

COUNT, STRATA = 256, 16


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def repeated(pixels, rows, of):
    """Return (pool, rows): each row of its draws is a repetition of the draw from one list of `pixels` pixels.

    With "own" every class has as many pixels; with "others" all classes but one have none, so that all draw from it.
    """
    if of == "own":
        class_ids = torch.arange(rows).repeat_interleave(pixels)
        return Pool(class_ids, torch.zeros_like(class_ids), classes=rows), torch.arange(rows)
    pool = Pool(torch.full((pixels,), rows // 2), torch.zeros(pixels).long(), classes=rows + 1)
    return pool, torch.tensor([row for row in range(rows + 1) if row != rows // 2])


def positions(pixels, rows, calls, *, of="others", scheme="sg", strata=STRATA, count=COUNT):
    """Yield (rows, count) positions in a list of `pixels` pixels, `calls` times."""
    pool, kept = repeated(pixels, rows, of)
    random = generator()
    for _ in range(calls):
        yield pool.draw(count, of=of, scheme=scheme, strata=strata, generator=random)[0][kept] % pixels


def shares(pixels, strata=STRATA):
    """Return (M, N): which part of each stratum each pixel fills; strata may end inside a pixel."""
    edges = torch.arange(strata + 1, dtype=torch.float64) * pixels / strata
    pixel = torch.arange(pixels, dtype=torch.float64)
    inside = torch.minimum(edges[1:, None], pixel + 1) - torch.maximum(edges[:-1, None], pixel)
    return inside.clamp(min=0) * strata / pixels
