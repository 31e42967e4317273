"""A bench that is killed at random moments and started again leaves what one leaves that was not, byte for byte."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from toy_training import TINY
from toys import write_toy_dataset

TESTS = Path(__file__).parents[1]
PROTOCOL = """
[bench]
title = "Killed"
data = {data}
config = {config}
held_out = 1
draws = 2

[[bench.run]]
method = "supervised"
labelled = 1

[[bench.run]]
method = "mean_teacher"
labelled = 1
"""


def write_protocol(folder: Path) -> Path:
    data = write_toy_dataset(folder / "toys", cases=4, unlabelled=1, shape=(10, 9, 8))
    config = folder / "tiny.toml"
    net, method = (", ".join(f"{k} = {json.dumps(v)}" for k, v in TINY[name].items()) for name in ("net", "method"))
    config.write_text(
        "steps = 3\ncheckpoint_every = 1\nlog_every = 1\npatch = [8, 8, 8]\nbatch_labelled = 1\nbatch_unlabelled = 1\n"
        f"net = {{ {net} }}\nmethod = {{ {method} }}\n"
    )
    file = folder / "killed.toml"
    file.write_text(PROTOCOL.format(data=json.dumps(str(data)), config=json.dumps(str(config))))
    return file


def kill(folder: Path, *, kills: int, seed: int) -> dict:
    """Return what `toy_bench.py` prints; it says where what was killed left anything else."""
    words = {"protocol_file": str(write_protocol(folder))} | {n: str(folder / n) for n in ("output", "cache")}
    done = subprocess.run(
        [sys.executable, str(TESTS / "toy_bench.py"), json.dumps({**words, "kills": kills, "seed": seed})],
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def test_a_bench_that_is_killed_three_times_leaves_what_one_leaves_that_is_not(tmp_path):
    found = kill(tmp_path, kills=3, seed=0)
    assert found["killed"] == 3
    assert {"report.html", "lock.json", "supervised-1-draw1-seed0/scores.csv"} <= {*found["files"]}


@pytest.mark.slow
def test_a_bench_that_is_killed_twenty_times_leaves_what_one_leaves_that_is_not(tmp_path):
    found = kill(tmp_path, kills=20, seed=1)
    assert found["killed"] == 20
    assert found["ended"] >= 2
