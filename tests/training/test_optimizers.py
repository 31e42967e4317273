"""A method with two optimisers: one backward, each net by its own terms, resumable; half precision refused."""

from typing import Any

import pytest
import torch

from semivox.errors import ConfigError
from semivox.runs import building
from semivox.runs.folder import open_run, read_checkpoint
from semivox.training import start
from semivox.training.loop import Loop

WORDS = {"method": "toy_critic", "settings": {"steps": 4, "checkpoint_every": 10}}


def log(run: Any) -> list[dict[str, float]]:
    return [row["losses"] for row in open_run(run).log_rows()]


def test_both_nets_learn_and_a_resumed_run_is_the_same(train_toy, tmp_path, monkeypatch):
    train_toy(tmp_path / "whole", **WORDS)
    with monkeypatch.context() as patched:
        patched.setattr(Loop, "_must_stop", lambda loop, progress: progress.step == 1)
        assert not train_toy(tmp_path / "cut", **WORDS).finished
    assert train_toy(tmp_path / "cut", resume=True, **WORDS).finished
    assert log(tmp_path / "cut") == log(tmp_path / "whole")
    ends = [read_checkpoint(open_run(tmp_path / name).latest()) for name in ("cut", "whole")]
    torch.testing.assert_close(*ends, rtol=0, atol=0)
    assert [len(ends[0]["optimizers"]), len(log(tmp_path / "cut"))] == [2, 4]
    early = read_checkpoint(tmp_path / "cut" / "checkpoints" / "step_00000002.pt")["method"]
    for net in ("student", "critic"):
        assert any(not torch.equal(early[key], ends[0]["method"][key]) for key in early if key.startswith(net))


def test_half_precision_serves_one_optimiser(train_toy, tmp_path, monkeypatch):
    def half(*args: Any) -> Any:
        fabric = building.make_fabric(*args)
        fabric.strategy.precision.precision = "16-mixed"  # what a GPU would say; a CPU has no such precision
        return fabric

    monkeypatch.setattr(start, "make_fabric", half)
    train_toy(tmp_path / "one", settings={"steps": 1})
    with pytest.raises(ConfigError, match=r"stage 'train' has 2 optimisers, .*fp16.*: set precision = '32'"):
        train_toy(tmp_path / "two", **WORDS)
