"""Two processes on one machine, by torchrun and gloo: one run, one log, equal weights."""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch

from semivox.runs.folder import open_run, read_checkpoint

TESTS = Path(__file__).parents[1]


RUNS = {
    "simcvd": {"fields": {"head_sizes": [8, 4]}, "settings": {"steps": 3}},
    "pixel_contrast": {"fields": {"framework": "moco", "count": 8, "queue": 12}, "settings": {"steps": 3}},
    # Two stages, and banks of fewer rows than both processes make in a step.
    "arco": {"fields": {"anchors": 8, "bank": 12, "memory": 6, "neighbours": 2, "latent": 8}, "settings": {"steps": 3}},
}


def test_two_processes_make_one_run_with_equal_weights_and_memories(toy_data, toy_cache, tmp_path):
    """With and without unlabelled crops: a weight that learns but gets no gradient would end the second step."""
    words = [
        {
            "data": str(toy_data),
            "output": str(tmp_path / f"{method}_{unlabelled}"),
            "cache": str(toy_cache),
            "method": method,
            "fields": run["fields"],
            "settings": run["settings"] | {"batch_unlabelled": unlabelled},
        }
        for method, run in RUNS.items()
        for unlabelled in (0, 2)
    ]
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "toy_ranks.py"]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [*command, *map(json.dumps, words)], cwd=TESTS, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-4000:]
    for word in words:
        run = open_run(Path(word["output"]))
        assert [row["step"] for row in run.log_rows()] == [0, 1, 2] * (2 if word["method"] == "arco" else 1)
        saved = read_checkpoint(run.latest())["method"]
        # The processes drew different crops: only what they exchanged keeps them equal.
        for rank in (0, 1):
            mine = torch.load(f"{run.path}_rank_{rank}.pt", weights_only=True)
            assert mine.keys() == saved.keys()
            assert all(torch.equal(mine[name], saved[name]) for name in saved)
