"""The mean of drawn pixels of made-up fields: its bias, and its variance against theory.

    python benchmarks/sampling/fields.py -o benchmarks/results/sampling/fields.csv

Theory, for n draws in M strata of equal mass, with sigma_m the deviation within a stratum, mu_m its mean and rho_m the
correlation of a pair: naive sigma^2 / n; SG mean_m sigma_m^2 / n; SAG mean_m sigma_m^2 (1 + rho_m) / n. `printed` is
what the theorem as printed gives for SG, the naive variance less sum_m (mu_m - mu)^2 / n: the weight 1 / M of a stratum
is missing. All variances are divided by the naive one of theory.
"""

import argparse
import math
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from semivox.files import write_table
from semivox.ops.sampling import SCHEMES, Pool, grid_cells

DRAWS = 256
IMAGES, SIDE, GRID = 8, 64, (4, 4)
ROWS = 1000


@dataclass
class Field:
    """A value h for each pixel of one class, and the cell of each."""

    name: str
    values: Tensor
    cells: Tensor
    strata: int


def fields() -> list[Field]:
    random = torch.Generator().manual_seed(0)
    line = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    cells = grid_cells(IMAGES, (SIDE, SIDE), GRID).flatten()
    coarse = torch.randn(IMAGES, 1, 3, 3, generator=random, dtype=torch.float64)
    smooth = F.interpolate(coarse, size=(SIDE, SIDE), mode="bicubic", align_corners=True).flatten()
    column = torch.arange(SIDE, dtype=torch.float64).expand(IMAGES, SIDE, SIDE)
    noise = torch.randn(len(cells), generator=random, dtype=torch.float64)
    one_cell = torch.zeros(1000, dtype=torch.long)
    every, per_image = IMAGES * math.prod(GRID), math.prod(GRID)
    return [
        Field("a line", line, one_cell, 16),
        Field("smooth images", smooth, cells, every),
        Field("smooth images, as many strata as one has cells", smooth, cells, per_image),
        Field("smooth images and as much noise", smooth + noise * smooth.std(), cells, every),
        Field("an edge in each image", (column > column[..., :1] + SIDE * 0.4).double().flatten(), cells, every),
        Field("alike about every stratum's middle", (2 * math.pi * 16 * line).cos(), one_cell, 16),
        Field("noise", noise, cells, every),
    ]


def theory(field: Field) -> dict[str, float]:
    """Return the variance under each scheme, and as printed, over the naive one."""
    listed = field.values[field.cells.sort(stable=True).indices]
    fine = listed.repeat_interleave(field.strata).view(field.strata, -1)  # the list again, in N parts a stratum
    mean, square = fine.mean(1), fine.square().mean(1)
    within, paired = square - mean**2, (fine * fine.flip(1)).mean(1) - mean**2
    between = (mean - listed.mean()) ** 2
    naive = listed.var(correction=0)
    found = {"naive": naive, "sg": within.mean(), "sag": (within + paired).mean(), "printed": naive - between.sum()}
    return {name: float(value / naive) for name, value in found.items()}


def means(field: Field, scheme: str, repeats: int) -> Tensor:
    """Return the mean of the draws, `repeats` times. Classes without a pixel all draw from the one that has them."""
    pool = Pool(torch.full_like(field.cells, ROWS), field.cells, classes=ROWS + 1)
    random = torch.Generator().manual_seed(1)
    options = {"of": "others", "scheme": scheme, "strata": field.strata, "generator": random}
    return torch.cat([field.values[pool.draw(DRAWS, **options)[0][:ROWS]].mean(1) for _ in range(repeats // ROWS)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=40000, help=f"a multiple of {ROWS}")
    parser.add_argument("-o", "--output", type=Path, required=True)
    options = parser.parse_args()
    rows = []
    for field in fields():
        expected, naive = theory(field), float(field.values.var(correction=0)) / DRAWS
        for scheme in SCHEMES:
            found = means(field, scheme, options.repeats)
            bias = float((found.mean() - field.values.mean()) / (found.std() / math.sqrt(len(found))))
            facts = {"field": field.name, "pixels": len(field.values), "strata": field.strata, "scheme": scheme}
            ratios = {"measured": f"{float(found.var()) / naive:.4f}", "theory": f"{expected[scheme]:.4f}"}
            printed = f"{expected['printed']:.4f}" if scheme == "sg" else ""
            errors = {"bias_in_standard_errors": f"{bias:.2f}", "repeats": len(found), "draws": DRAWS}
            rows.append(facts | ratios | {"printed": printed} | errors)
            print(*rows[-1].values())
    options.output.parent.mkdir(parents=True, exist_ok=True)
    write_table(options.output, list(rows[0]), rows)


if __name__ == "__main__":
    main()
