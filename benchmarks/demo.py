"""The demo on several phantoms: what its headline says of each.

    python benchmarks/demo.py runs/demo --seeds 0 1 2 3 4 -o benchmarks/results/demo.csv

A folder that holds a finished demo is not trained again; `cpu_seconds` are those of this call, all of the demo.
"""

import argparse
import time
from pathlib import Path

from semivox.benchmarking.demonstration import METHODS, demo
from semivox.files import write_table
from semivox.reporting.tables import summary_tables


def headline_row(folder: Path, seed: int) -> dict[str, str]:
    """Return what one demo found, trained in `folder` where it is not yet."""
    started = time.process_time()
    demo(folder, seed=seed, device="cpu", say=lambda text: print(f"seed {seed}: {text}", flush=True))
    spent = time.process_time() - started
    tables = summary_tables([folder / method / "scores.csv" for method in METHODS], control=METHODS[0])
    found = tables.comparison(METHODS[1], tables.metrics[0])
    assert found is not None
    numbers = {METHODS[0]: found.control_mean, METHODS[1]: found.mean, "difference": found.difference}
    numbers |= {"low": found.low, "high": found.high}
    return {
        "seed": str(seed),
        "held_out": str(found.cases),
        **{name: f"{number:.3f}" for name, number in numbers.items()},
        "verdict": found.verdict,
        "cpu_seconds": f"{spent:.0f}",
    }


def main() -> None:
    """Write the table, a row as soon as its demo is done."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    parser.add_argument("-o", "--output", type=Path, required=True)
    asked = parser.parse_args()
    rows: list[dict[str, str]] = []
    for seed in asked.seeds:
        rows.append(headline_row(asked.folder / f"seed{seed}", seed))
        write_table(asked.output, list(rows[0]), rows)
        print(rows[-1], flush=True)


if __name__ == "__main__":
    main()
