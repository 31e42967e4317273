"""Toy trainings, one for each argument, whose every process keeps its own last weights: for several ranks at once.

``torchrun --nproc-per-node 2 toy_ranks.py '{"data": ..., "output": ..., "cache": ...}'`` leaves
``OUTPUT_rank_0.pt`` and ``OUTPUT_rank_1.pt`` beside the run.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch

from semivox.training.loop import Loop
from toy_training import train_toy

really_save = Loop._save


def save(loop: Loop, *given: Any) -> None:
    """Save a checkpoint, as rank 0 alone does, and this rank's weights."""
    really_save(loop, *given)
    path = loop.run.path
    torch.save(loop.method.state_dict(), path.with_name(f"{path.name}_rank_{loop.fabric.global_rank}.pt"))


if __name__ == "__main__":
    Loop._save = save
    for word in sys.argv[1:]:
        words = json.loads(word)
        folders = {name: Path(words.pop(name)) for name in ("data", "output", "cache")}
        train_toy(**folders, **words)
