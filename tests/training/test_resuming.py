"""A training that was cut and resumed equals one that was not, bit for bit, wherever and however it was cut."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from semivox.errors import RunError
from semivox.runs.folder import open_run, read_checkpoint
from toy_training import TINY, start_process

METHODS = ("supervised", "mean_teacher", "simcvd", "duo_segnet")
EVERY = TINY["checkpoint_every"]
CUTS = (1, EVERY - 1, EVERY, EVERY + 1)
STAGES = {"first": {"steps": 3}, "second": {"steps": 2}, "third": {"steps": 3}}
STAGED = {"method": "toy_stages", "settings": {"stages": STAGES, "checkpoint_every": 2}}
BANK = {"method": "toy_bank"}
# Banks and queues that wrap around, both stages, and slices that are padded.
SMALL = {"anchors": 8, "keys": 4, "bank": 20, "memory": 6, "neighbours": 2, "width": 8, "latent": 8}
TWO = {"stages": {"pretrain": {"steps": 3}, "finetune": {"steps": 5}}, "checkpoint_every": 2}
FLAT = {"dims": 2, "patch": [24, 8], "net": {"filters": 2, "levels": 2, "strides": [[2, 2]]}}
ARCO = {"method": "arco", "fields": SMALL, "settings": TWO | FLAT}
# Moments that go on over the stages' border.
MATCH = {"method": "averaged_match", "fields": {"optimizer": "adamw"}, "settings": {"steps": 8, "checkpoint_every": 2}}
# Generations of one and two steps, each from the supervised net, with labels that the one before has made.
ATSO = {"method": "atso", "settings": {"steps": 8, "checkpoint_every": 2}}
# The same from fresh weights, on the scans whose two labels agree.
AGREE = {
    "method": "self_training",
    "fields": {"keep": "agree", "kept": 0.5},
    "settings": {"steps": 8, "checkpoint_every": 2},
}
QUEUE = {"framework": "knn_moco", "count": 8, "queue": 20, "neighbours": 3, "width": 8}
PIXELS = {"method": "pixel_contrast", "fields": QUEUE}
REGIONS = {"method": "secl", "fields": {"contrast": "region", "width": 8}}
LOCAL = {"method": "local_contrast", "fields": {"reduce": "sample", "count": 8}, "settings": {"steps": 6} | FLAT}
VOXELS = {"method": "cvrl", "fields": {"voxels": 8, "volumes": 5, "width": 8}}
DIMENSIONS = {"method": "cvrl", "fields": VOXELS["fields"] | {"variant": "batch_feature", "queue": 20}}
MONA = {"method": "mona", "fields": SMALL | {"sampler": "sag", "mix": "class"}, "settings": TWO}


class CrashError(Exception):
    """What ends a run without warning."""


@pytest.fixture(scope="module")
def whole(train_toy: Callable[..., Any], tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """``whole(method=..., settings=...)``: the run that was not cut, made once."""
    made: dict[str, Path] = {}

    def run(**words: Any) -> Path:
        key = json.dumps(words, sort_keys=True)
        if key not in made:
            output = tmp_path_factory.mktemp("whole")
            assert train_toy(output, **words).finished
            made[key] = output
        return made[key]

    return run


def stop_behind(step: int, number: int = signal.SIGTERM) -> Callable[..., None]:
    """An `on_row` that stops the run behind a checkpoint when so many steps are done."""

    def on_row(row: dict[str, Any], total: int) -> None:
        if row["total_step"] + 1 == step:
            signal.raise_signal(number)

    return on_row


def crash_in(step: int) -> Callable[..., None]:
    def on_row(row: dict[str, Any], total: int) -> None:
        if row["total_step"] == step:
            raise CrashError

    return on_row


def rows(run: Path) -> list[dict[str, Any]]:
    """The log without the time that steps took."""
    return [{key: value for key, value in row.items() if key != "seconds"} for row in open_run(run).log_rows()]


def leaves(value: Any, where: str = "") -> dict[str, Any]:
    """All that a checkpoint holds, by its place in it."""
    if isinstance(value, dict | list | tuple):
        items = value.items() if isinstance(value, dict) else enumerate(value)
        return {key: leaf for name, item in items for key, leaf in leaves(item, f"{where}/{name}").items()}
    return {where: value}


def assert_same_run(found: Path, expected: Path) -> None:
    assert rows(found) == rows(expected)
    kept = [{file.name for file in open_run(run).checkpoints.iterdir()} for run in (found, expected)]
    assert len(kept[0]) == len(kept[1]), "two checkpoints and the ends of stages that are needed, and nothing else"
    ends = [leaves(read_checkpoint(open_run(run).latest())) for run in (found, expected)]
    assert ends[0].keys() == ends[1].keys()
    for key, value in ends[1].items():
        same = torch.equal(ends[0][key], value) if isinstance(value, torch.Tensor) else ends[0][key] == value
        assert same, key


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("determinism", ["fast", "strict"])
@pytest.mark.parametrize("method", METHODS)
def test_a_run_stopped_behind_a_checkpoint_goes_on_as_if_never_cut(
    method, determinism, cut, whole, train_toy, tmp_path
):
    words = {"method": method, "settings": {"determinism": determinism}}
    assert not train_toy(tmp_path, on_row=stop_behind(cut), **words).finished
    assert read_checkpoint(open_run(tmp_path).latest())["total_step"] == cut
    assert train_toy(tmp_path, resume=True, **words).finished
    assert_same_run(tmp_path, whole(**words))


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("method", METHODS)
def test_a_run_that_crashes_between_checkpoints_takes_the_lost_steps_again(method, cut, whole, train_toy, tmp_path):
    words = {"method": method, "settings": {"determinism": "fast"}}
    with pytest.raises(CrashError):
        train_toy(tmp_path, on_row=crash_in(cut), **words)
    assert len(rows(tmp_path)) == cut + 1
    assert train_toy(tmp_path, resume=True, **words).finished
    assert_same_run(tmp_path, whole(**words))


@pytest.mark.parametrize("cut", range(1, 8))
@pytest.mark.parametrize(
    "words", [STAGED, ARCO, MATCH, ATSO, AGREE], ids=["stages", "arco", "averaged_match", "atso", "self_training"]
)
def test_a_cut_anywhere_in_a_method_of_several_stages_changes_nothing(words, cut, whole, train_toy, tmp_path):
    assert not train_toy(tmp_path / "stopped", on_row=stop_behind(cut), **words).finished
    with pytest.raises(CrashError):
        train_toy(tmp_path / "crashed", on_row=crash_in(cut), **words)
    for run in (tmp_path / "stopped", tmp_path / "crashed"):
        assert train_toy(run, resume=True, **words).finished
        assert_same_run(run, whole(**words))


def test_moments_and_learning_rate_go_on_over_the_border_where_a_stage_says_so(whole):
    state = read_checkpoint(open_run(whole(**MATCH)).latest())
    assert {float(moments["step"]) for moments in state["optimizers"][0]["state"].values()} == {8}
    rates = [row["lr"] for row in open_run(whole(**MATCH)).log_rows()]
    assert rates == pytest.approx([0.003 * (1 - step / 8) ** 0.9 for step in range(8)])


def test_stages_start_from_what_they_name_and_begin_once(whole):
    run = open_run(whole(**STAGED))
    assert [(row["stage"], row["step"]) for row in run.log_rows()] == [
        *(("first", 0), ("first", 1), ("first", 2)),
        *(("second", 0), ("second", 1)),
        *(("third", 0), ("third", 1), ("third", 2)),
    ]
    # A fresh start has not begun before; the third stage starts from the first one's end, which had begun once.
    assert [row["shown"]["begun"] for row in run.log_rows()] == [1, 1, 1, 1, 1, 2, 2, 2]


@pytest.mark.parametrize(
    "words",
    [{"method": "simcvd"}, STAGED, BANK, ARCO, MONA, PIXELS, REGIONS, LOCAL, VOXELS, DIMENSIONS],
    ids=[
        *("simcvd", "stages", "bank", "arco", "mona", "pixel_contrast", "secl", "local_contrast", "cvrl"),
        "cvrl-batch_feature",
    ],
)
def test_a_spent_budget_stops_behind_a_checkpoint_and_a_run_cut_after_every_step_is_the_same_run(
    words, whole, train_toy, tmp_path
):
    total = len(rows(whole(**words)))
    for step in range(1, total + 1):
        finished = train_toy(tmp_path, resume=True, seconds=1e-9, **words).finished
        assert finished == (step == total)
        assert read_checkpoint(open_run(tmp_path).latest())["total_step"] == step
    assert_same_run(tmp_path, whole(**words))


def test_a_bank_keeps_the_newest_rows_and_writes_on_where_it_stopped(whole):
    run = open_run(whole(**BANK))
    kept = [read_checkpoint(path)["method"] for path in sorted(run.checkpoints.iterdir())]
    # Two rows a step into five places: steps 0 to 5 end at place 12 - 2 * 5; step 6 writes places 2 and 3.
    assert [state["pointer"].item() for state in kept] == [2, 4]
    changed = (kept[0]["bank"] != kept[1]["bank"]).any(1)
    assert changed.tolist() == [False, False, True, True, False]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_run_behind_a_checkpoint(number, whole, train_toy, tmp_path):
    handler = signal.getsignal(number)
    assert not train_toy(tmp_path, on_row=stop_behind(5, number)).finished
    assert signal.getsignal(number) is handler
    assert read_checkpoint(open_run(tmp_path).latest())["total_step"] == 5
    assert train_toy(tmp_path, resume=True).finished
    assert_same_run(tmp_path, whole())


def test_a_killed_process_is_resumed_by_another_one(whole, toy_data, toy_cache, tmp_path):
    given = {"data": str(toy_data), "cache": str(toy_cache)}
    runs = {
        method: {"method": method, "settings": {"determinism": determinism}}
        for method, determinism in (("supervised", "fast"), ("mean_teacher", "fast"), ("simcvd", "strict"))
    }
    words = {method: {**given, "output": str(tmp_path / method), **run} for method, run in runs.items()}
    kills = {"supervised": {"kill_in_step": 5}, "mean_teacher": {"kill_in_step": 5}, "simcvd": {"kill_in_save": 2}}
    processes = {method: start_process({**words[method], **kills[method]}) for method in runs}
    for method, process in processes.items():
        errors = process.communicate()[1]
        assert process.returncode == -signal.SIGKILL, errors
        assert read_checkpoint(open_run(tmp_path / method).latest())["total_step"] == EVERY
    assert list((tmp_path / "simcvd" / "checkpoints").glob(".*")), "the second checkpoint was half written"
    resumed = start_process(*({**words[method], "resume": True} for method in runs))
    errors = resumed.communicate()[1]
    assert resumed.returncode == 0, errors
    for method in runs:
        assert_same_run(tmp_path / method, whole(**runs[method]))


def test_a_finished_run_that_is_resumed_stays_as_it_is(train_toy, whole, tmp_path):
    train_toy(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert train_toy(tmp_path, resume=True).finished
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert_same_run(tmp_path, whole())


def test_a_damaged_checkpoint_is_named_and_the_run_goes_on_from_the_one_before(train_toy, whole, tmp_path):
    train_toy(tmp_path)
    latest = open_run(tmp_path).latest()
    latest.write_bytes(latest.read_bytes()[:1000])
    with pytest.raises(RunError, match=f"{latest.name} cannot be read .* delete it and resume"):
        train_toy(tmp_path, resume=True)
    latest.unlink()
    with (tmp_path / "log.jsonl").open("a") as log:
        log.write('{"stage": "train", "st')  # what a crash may leave
    train_toy(tmp_path, resume=True)
    assert [row["step"] for row in rows(tmp_path)] == list(range(7))
    assert rows(tmp_path) == rows(whole())


@pytest.mark.parametrize("words", [{"method": "simcvd"}, STAGED], ids=["simcvd", "stages"])
def test_checkpoints_hold_tensors_and_plain_numbers_and_the_last_two_are_kept(words, whole):
    files = sorted(open_run(whole(**words)).checkpoints.iterdir())
    numbered = [file.name for file in files if file.name.startswith("step_")]
    assert numbered == (["step_00000006.pt", "step_00000007.pt"] if words is not STAGED else
                        ["step_00000006.pt", "step_00000008.pt"])  # fmt: skip
    assert {file.name for file in files} - {*numbered} == ({"end_first.pt"} if words is STAGED else set())
    for file in files:
        state = torch.load(file, weights_only=True)
        assert {type(leaf) for leaf in leaves(state).values()} <= {torch.Tensor, int, float, bool, type(None)}
