"""Trains on toy data within a second; as a script, once for each argument, in a process that may kill itself.

``python toy_training.py '{"data": ..., "output": ..., "cache": ..., "kill_in_step": 4}'``
"""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

TINY = {
    "steps": 7,
    "checkpoint_every": 3,
    "log_every": 1,
    "patch": [8, 8, 16],  # longer than the toy scans along z, so that there is padding
    "batch_labelled": 2,
    "batch_unlabelled": 2,
    "net": {"filters": 2, "levels": 2, "strides": [[2, 2, 2]]},
    "method": {"geometry": "elastic", "intensity": "strong"},
}
THREE_LEVELS = {"levels": 3, "strides": [[2, 2, 2], [2, 2, 2]]}
"""For a net whose decoder has more than one scale."""


def train_toy(data: Path, output: Path, *, cache: Path, method: str = "mean_teacher", **others: Any) -> Any:
    """Train with `TINY`; ``settings`` change it, ``fields`` are the method's, the rest is as `train` takes it."""
    from semivox.training.start import train

    settings = {**TINY, **others.pop("settings", {})}
    settings["method"] = {**settings["method"], **others.pop("fields", {})}
    return train(data, output=output, cache=cache, method=method, settings=settings, device="cpu", **others)


def start_process(*trainings: dict[str, Any]) -> subprocess.Popen[str]:
    """Start this script on trainings, one after the other."""
    command = [sys.executable, __file__, *map(json.dumps, trainings)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def kill_at(*, step: int | None, save: int | None, label: int | None) -> Any:
    """Return an `on_row` that kills this process in a step; or kill it in its n-th checkpoint or pseudo label."""
    import torch

    from semivox.training import relabelling

    saved = labelled = 0
    really_save, really_slide = torch.save, relabelling.slide

    def slide_in_part(image: Any, predict: Any, **words: Any) -> Any:
        nonlocal labelled
        labelled += 1

        def predict_once(windows: Any) -> Any:
            p = predict(windows)
            if labelled == label:
                os.kill(os.getpid(), signal.SIGKILL)
            return p

        return really_slide(image, predict_once, **words)

    def save_a_part(state: Any, file: Any) -> None:
        nonlocal saved
        saved += 1
        if saved == save:
            file.write(b"the first bytes of a checkpoint")
            file.flush()
            os.kill(os.getpid(), signal.SIGKILL)
        really_save(state, file)

    def on_row(row: Any, total: int) -> None:
        if row["total_step"] == step:
            os.kill(os.getpid(), signal.SIGKILL)

    torch.save, relabelling.slide = save_a_part, slide_in_part
    return on_row


if __name__ == "__main__":
    for word in sys.argv[1:]:
        words = json.loads(word)
        folders = {name: Path(words.pop(name)) for name in ("data", "output", "cache")}
        killer = kill_at(**{place: words.pop(f"kill_in_{place}", None) for place in ("step", "save", "label")})
        train_toy(**folders, on_row=killer, **words)
