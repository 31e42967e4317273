"""Two processes on one machine, by torchrun and gloo: one run, one log, equal weights, and one voice."""

import json
import os
import subprocess
import sys
from pathlib import Path

import torch

from semivox.files import locked_folder
from semivox.runs.folder import open_run, read_checkpoint

TESTS = Path(__file__).parents[1]


RUNS = {
    "simcvd": {"fields": {"head_sizes": [8, 4]}, "settings": {"steps": 3}},
    "pixel_contrast": {"fields": {"framework": "moco", "count": 8, "queue": 12}, "settings": {"steps": 3}},
    # Two stages, and banks of fewer rows than both processes make in a step.
    "arco": {
        "fields": {"anchors": 8, "bank": 12, "memory": 6, "neighbours": 2, "latent": 8},
        "settings": {"stages": {"pretrain": {"steps": 3}, "finetune": {"steps": 3}}},
    },
}


def run_twice(script: str, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a script in two processes; whoever waits for ever fails."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", script, *words]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    return subprocess.run(command, cwd=TESTS, env=environment, capture_output=True, text=True, timeout=240)


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
    done = run_twice("toy_ranks.py", *map(json.dumps, words))
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


def test_an_error_of_one_process_ends_both_with_one_line_and_one_process_prepares(toy_data, toy_cache, tmp_path):
    settings = ["steps=1", "patch=[8, 8, 16]", "net.filters=2", "net.levels=2", "net.strides=[[2, 2, 2]]"]
    asked = ["train", str(toy_data), "--device", "cpu", *(word for text in settings for word in ("--set", text))]
    locked, broken, made = tmp_path / "locked", tmp_path / "broken", tmp_path / "made"
    trainings = [
        {"words": [*asked, "--cache", str(toy_cache), "-o", str(locked)]},  # rank 0 alone takes the lock
        {"words": [*asked, "--cache", str(toy_cache), "-o", str(broken)], "broken_rank": 1},
        {"words": [*asked, "--cache", str(tmp_path / "cache"), "-o", str(made)]},
        {"words": [*asked, "--cache", str(tmp_path / "cache"), "-o", str(made)]},  # both see that it is there
    ]
    with locked_folder(locked, doing="trained into"):
        done = run_twice("toy_exits.py", str(tmp_path / "found"), *map(json.dumps, trainings))
    assert done.returncode == 0, done.stderr[-4000:]
    first, second = (json.loads((tmp_path / f"found_rank_{rank}.json").read_text()) for rank in (0, 1))
    assert [one["code"] for one in first] == [one["code"] for one in second] == [2, 2, 0, 2]
    words = ("is being trained into by process", "broken on rank 1", None, "holds a run already")
    for one, text in zip(first, words, strict=True):
        assert len(one["lines"]) == (text is not None)
        assert text is None or text in one["lines"][0]
    assert [one["lines"] for one in second] == [[], [], [], []]
    assert not (broken / "run.json").exists()
    # Three labelled cases have an entry for the scan and one for the label, two unlabelled ones that of the scan.
    assert [one["stored"] for one in first] == [0, 0, 8, 0]
    assert [one["stored"] for one in second] == [0, 0, 0, 0]
