"""What drawing costs: 256 anchors and 512 negatives for each, of every class, against one sort and uniform draws.

    python benchmarks/sampling/speed.py -o benchmarks/results/sampling/speed.csv

The yardstick is one stable sort of the pixels' keys plus as many uniform draws, of whole numbers, as there are. All
contenders are timed in turn in one run on one thread; processor time, the median of the rounds.
"""

import argparse
import platform
import statistics
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from semivox.files import write_table
from semivox.ops.sampling import SCHEMES, Pool, draw, grid_cells

ANCHORS, NEGATIVES, CLASSES = 256, 512, 4


def made_up_labels(batch: int, size: list[int]) -> Tensor:
    """Return labels in blobs, as in slices of an organ."""
    random = torch.Generator().manual_seed(0)
    coarse = torch.randn(batch, CLASSES, *[8] * len(size), generator=random)
    return F.interpolate(coarse, size=size, mode="bilinear" if len(size) == 2 else "trilinear").argmax(1).flatten()


def pool_and_two_draws(labels: Tensor, cells: Tensor, scheme: str) -> None:
    pool = Pool(labels, cells, classes=CLASSES)
    pool.draw(ANCHORS, scheme=scheme)
    pool.draw(ANCHORS * NEGATIVES, of="others", scheme=scheme)


def two_calls(labels: Tensor, cells: Tensor, scheme: str) -> None:
    draw(labels, cells, classes=CLASSES, count=ANCHORS, scheme=scheme)
    draw(labels, cells, classes=CLASSES, count=ANCHORS * NEGATIVES, of="others", scheme=scheme)


def uniform_draws(pixels: int) -> None:
    torch.randint(pixels, (CLASSES, ANCHORS))
    torch.randint(pixels, (CLASSES, ANCHORS * NEGATIVES))


def contenders(labels: Tensor, cells: Tensor) -> dict[str, Callable[[], object]]:
    keys = labels * (int(cells.max()) + 1) + cells
    yardstick = {"stable sort": partial(keys.sort, stable=True), "uniform draws": partial(uniform_draws, len(keys))}
    pools = {f"pool and two draws, {s}": partial(pool_and_two_draws, labels, cells, s) for s in SCHEMES}
    calls = {f"two calls of draw, {s}": partial(two_calls, labels, cells, s) for s in SCHEMES}
    return yardstick | pools | calls


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=int, default=8)
    parser.add_argument("--size", type=int, nargs="+", default=[256, 256])
    parser.add_argument("--repeats", type=int, default=15)
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    labels = made_up_labels(options.batch, options.size)
    grid = (4, 4, 2)[: len(options.size)]
    timed = contenders(labels, grid_cells(options.batch, options.size, grid).flatten())
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    for number in range(options.repeats + 2):
        for name, run in timed.items():
            started = time.process_time()
            run()
            if number >= 2:  # the first rounds warm up
                seconds[name].append(time.process_time() - started)
    medians = {name: statistics.median(values) for name, values in seconds.items()}
    yardstick = medians["stable sort"] + medians["uniform draws"]
    facts = {"pixels": "x".join(map(str, [options.batch, *options.size])), "classes": CLASSES, "threads": 1}
    where = {"repeats": options.repeats, "torch": torch.__version__, "device": platform.machine()}
    rows = [
        {"what": name, "milliseconds": f"{1e3 * median:.1f}", "over_sort_and_draws": f"{median / yardstick:.2f}"}
        | facts
        | where
        for name, median in medians.items()
    ]
    for row in rows:
        print(f"{row['what']:<28} {row['milliseconds']:>7} ms  {row['over_sort_and_draws']:>5} x")
    if options.output:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        write_table(options.output, list(rows[0]), rows)


if __name__ == "__main__":
    main()
