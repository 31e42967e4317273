"""The loop: what is logged, what is refused, what learns, and what stays on disk when it ends early."""

import errno
import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from semivox.data.stream import Stream
from semivox.errors import ConfigError, RunError
from semivox.methods import simcvd
from semivox.ops.contrast import effective_rank
from semivox.runs.folder import open_run, read_checkpoint
from semivox.training.loop import learn_only
from semivox.training.mishaps import first_infinite
from semivox.types import Batch


def names(run: Path) -> list[str]:
    return sorted(path.name for path in open_run(run).checkpoints.iterdir())


@pytest.mark.parametrize(
    ("settings", "checkpoints", "logged"),
    [
        ({"log_every": 5, "checkpoint_every": 3}, ["step_00000003.pt"], [0]),  # seen by the log in step 5
        ({"log_every": 100, "checkpoint_every": 3}, ["step_00000003.pt"], [0]),  # by the checkpoint behind step 5
        ({"log_every": 100, "checkpoint_every": 100}, [], [0]),  # by the log in the last step
    ],
)
def test_a_loss_that_is_no_number_stops_the_run_with_its_step_and_term_and_the_good_checkpoint_stays(
    settings, checkpoints, logged, train_toy, tmp_path
):
    with pytest.raises(RunError) as caught:
        train_toy(tmp_path, method="toy_broken", fields={"breaks_at": 4}, settings={"steps": 8, **settings})
    assert "step 4: the loss term 'broken' is nan; expected a finite number" in str(caught.value)
    assert f"The last good checkpoint is {checkpoints[0] if checkpoints else 'none yet'}" in str(caught.value)
    assert names(tmp_path) == checkpoints
    assert [row["step"] for row in open_run(tmp_path).log_rows()] == logged


def test_a_scan_value_that_is_no_number_stops_the_run_by_a_loss_not_by_what_is_shown(train_toy, tmp_path, monkeypatch):
    draw = Stream.batch

    def broken(stream: Stream, step: int) -> Batch:
        batch = draw(stream, step)
        if step == 2 and batch.image_u is not None:
            batch.image_u[0, 0, 4, 4, 8] = torch.nan
        return batch

    monkeypatch.setattr(Stream, "batch", broken)
    fields = {"head_sizes": [8, 4], "geometry": "none", "intensity": "none"}
    with pytest.raises(RunError, match="step 2: the loss term 'contrast' is nan; expected a finite number"):
        train_toy(tmp_path, method="simcvd", fields=fields)
    assert [row["step"] for row in open_run(tmp_path).log_rows()] == [0, 1]


@pytest.mark.parametrize(
    ("says", "settings", "error", "message"),
    [
        ("CUDA out of memory", {}, RunError, "step 4: .*too little for this step: lower batch_labelled, .*"
                                             "the last good checkpoint, step_00000003.pt, stays"),
        ("f_backward does not have a deterministic implementation", {"determinism": "strict"}, ConfigError,
         "step 4: .*f_backward does not have a deterministic .* Set determinism = 'fast'"),
        ("f_backward does not have a deterministic implementation", {}, RuntimeError, "^f_backward"),
        ("shapes differ", {"determinism": "strict"}, RuntimeError, "^shapes differ"),
    ],
)  # fmt: skip
def test_a_step_that_asks_too_much_of_the_device_says_what_to_change(
    says, settings, error, message, train_toy, tmp_path
):
    fields = {"breaks_at": 4, "says": says}
    settings = {"steps": 8, "checkpoint_every": 3} | settings
    with pytest.raises(error, match=message):
        train_toy(tmp_path, method="toy_broken", fields=fields, settings=settings)
    assert names(tmp_path) == ["step_00000003.pt"]


def test_weights_that_are_no_numbers_are_never_saved(train_toy, tmp_path):
    settings = {"checkpoint_every": 1, "log_every": 100}
    with pytest.raises(RunError, match=r"step 0: the weights 'student.* are no longer finite .* Lower method.lr"):
        train_toy(tmp_path, method="toy_broken", fields={"lr": 1e308, "breaks_at": 99}, settings=settings)
    assert names(tmp_path) == []


def test_the_log_has_the_terms_their_sum_and_the_rate_of_its_step(train_toy, tmp_path):
    seen: list[tuple[int, int]] = []
    fields = {"lr": 0.5, "schedule": "drop", "drops": [0.5, 0.8]}
    train_toy(
        tmp_path,
        settings={"steps": 8, "log_every": 3},
        fields=fields,
        on_row=lambda row, total: seen.append((row["step"], total)),
    )
    rows = open_run(tmp_path).log_rows()
    assert [row["step"] for row in rows] == [0, 3, 6, 7], "every third step, and the last"
    assert [row["lr"] for row in rows] == pytest.approx([0.5, 0.5, 0.05, 0.005])
    assert all(set(row["losses"]) == {"supervised", "consistency"} for row in rows)
    assert all(row["total"] == sum(row["losses"].values()) for row in rows)
    assert seen == [(0, 8), (3, 8), (6, 8), (7, 8)]


def test_what_is_only_shown_is_computed_for_the_logged_steps_alone(train_toy, tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(simcvd, "effective_rank", lambda z: calls.append(z.shape) or effective_rank(z))
    settings = {"steps": 8, "log_every": 3}
    train_toy(tmp_path, method="simcvd", settings=settings, fields={"head_sizes": [8, 4]})
    rows = open_run(tmp_path).log_rows()
    assert [row["step"] for row in rows] == [0, 3, 6, 7]
    assert all(row["shown"]["slice_rank"] > 0 for row in rows)
    assert len(calls) == 2 * 4


DISK_ERRORS = [OSError(code, os.strerror(code)) for code in (errno.ENOSPC, errno.EROFS)]


def failing_for(name: str, error: OSError, really_replace: Callable[..., None]) -> Callable[..., None]:
    def replace(source: Any, target: Any) -> None:
        if Path(target).name == name:
            raise error
        really_replace(source, target)

    return replace


def test_a_disk_that_takes_no_more_ends_the_run_and_once_it_does_the_run_goes_on(train_toy, tmp_path, monkeypatch):
    train_toy(tmp_path / "whole")
    for error in DISK_ERRORS:
        with monkeypatch.context() as patched:
            patched.setattr(os, "replace", failing_for("step_00000006.pt", error, os.replace))
            words = rf"cannot write .*step_00000006.pt: .*{error.strerror}.* with --resume"
            with pytest.raises(RunError, match=words):
                train_toy(tmp_path / "run", resume=error is not DISK_ERRORS[0])
        assert names(tmp_path / "run") == ["step_00000003.pt"], "nothing half-written, the one before untouched"
    train_toy(tmp_path / "run", resume=True)
    ends = [read_checkpoint(open_run(tmp_path / run).latest())["method"] for run in ("run", "whole")]
    assert all(torch.equal(ends[0][name], ends[1][name]) for name in ends[1])


@pytest.mark.parametrize("name", ["split.json", "config.toml", "run.json"])
def test_a_run_that_cannot_be_written_at_all_leaves_no_run_and_the_same_command_starts_it(
    name, train_toy, tmp_path, monkeypatch
):
    for error in DISK_ERRORS:
        with monkeypatch.context() as patched:
            patched.setattr(os, "replace", failing_for(name, error, os.replace))
            with pytest.raises(RunError, match=rf"{name}.*{error.strerror}"):
                train_toy(tmp_path, settings={"steps": 1})
        assert not [path.name for path in tmp_path.rglob("*") if path.name.startswith(".") or path.name == name]
    assert train_toy(tmp_path, settings={"steps": 1}).finished


def test_the_first_tensor_that_is_no_number_is_found_among_what_is_no_float():
    state = {"steps": torch.tensor(3), "extra": {"a": 1}, "w": torch.ones(2), "b": torch.tensor([1, math.inf])}
    assert first_infinite(state) == "b"
    assert first_infinite({"w": torch.ones(2), "steps": torch.tensor(3)}) is None
    assert first_infinite({"steps": torch.tensor(3)}) is None


def test_only_the_named_submodules_learn():
    method = nn.ModuleDict({"student": nn.Linear(1, 1), "head": nn.Linear(1, 1), "teacher": nn.Linear(1, 1)})
    learn_only(method, ("student", "head"))
    assert {name for name, weight in method.named_parameters() if weight.requires_grad} == {
        "student.weight", "student.bias", "head.weight", "head.bias",
    }  # fmt: skip
    learn_only(method, ("head",))
    assert {name for name, weight in method.named_parameters() if weight.requires_grad} == {"head.weight", "head.bias"}
