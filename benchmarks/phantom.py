"""The table of all systems and their variants on the demo's phantom, with one command.

    python benchmarks/phantom.py runs [--jobs 2]

Writes the phantom to RUNS/data/phantom and runs benchmarks/phantom.toml to RUNS/phantom; what is done is skipped.
"""

import argparse
import os
from pathlib import Path

from semivox.benchmarking.bench import bench
from semivox.benchmarking.demonstration import write_scans


def main() -> None:
    """Write the data, run the protocol, and name its reports."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path)
    parser.add_argument("--jobs", type=int, default=1, help="runs side by side")
    asked = parser.parse_args()
    data = asked.runs.resolve() / "data"
    write_scans(data / "phantom")
    os.environ["SEMIVOX_DATA"] = str(data)
    reports = bench(
        Path(__file__).with_suffix(".toml"),
        output=asked.runs / "phantom",
        jobs=asked.jobs,
        cache=asked.runs / "cache",
        device="cpu",
        on_done=lambda job, why, left, seconds: print(f"{job.folder.name}: {why or 'done'}; {left} left", flush=True),
    )
    print(*reports, sep="\n")


if __name__ == "__main__":
    main()
