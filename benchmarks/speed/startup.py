"""Speed of the command line's start: `python benchmarks/speed/startup.py`, the median of 5 `semivox --help` after one.

The first start, which may read the disk, is shown apart. The interpreter's own start is timed beside each.
"""

import subprocess
import sys
from pathlib import Path
from statistics import median
from time import perf_counter

REPEATS = 5
COMMANDS = {
    "semivox --help": [str(Path(sys.executable).with_name("semivox")), "--help"],
    "python -c pass": [sys.executable, "-c", "pass"],
}


def seconds(command: list[str]) -> float:
    start = perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return perf_counter() - start


def main() -> None:
    first = {name: seconds(command) for name, command in COMMANDS.items()}
    warm: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(REPEATS):
        for name, command in COMMANDS.items():
            warm[name].append(seconds(command))
    for name, times in warm.items():
        bar = " (bar: 1)" if name.startswith("semivox") else ""
        print(f"{name}: first {first[name]:.3f} s, then median of {REPEATS}: {median(times):.3f} s{bar}")


if __name__ == "__main__":
    main()
