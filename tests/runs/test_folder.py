"""A run folder: written whole or not at all, read back, and refused with the reason."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from semivox.config.keys import Config
from semivox.errors import RunError
from semivox.runs.folder import (
    RunFolder,
    create_run,
    open_run,
    parse_budget,
    read_checkpoint,
)

FACTS = {
    "method": "supervised", "channels": ["MR"], "classes": ["background", "blob"], "recipe": {}, "split": "digest",
    "command": "semivox train", "versions": {"torch": "2.8"},
}  # fmt: skip


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    config = Config(patch=(8, 8, 8), method={"name": "supervised", "lr": 0.5})
    return create_run(tmp_path / "run", config=config, sources={"patch": "plan"}, facts=FACTS)


@pytest.fixture
def fail(disk_error: OSError) -> Callable[..., None]:
    """Stand for any function that writes to a disk that takes nothing more."""

    def fail(*_: object, **__: object) -> None:
        raise disk_error

    return fail


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_a_run_is_opened_as_it_was_created_and_may_be_moved(run, tmp_path):
    moved = run.path.rename(tmp_path / "elsewhere")
    opened = open_run(moved)
    assert (opened.config, opened.facts) == (run.config, run.facts)
    assert opened.latest() is None
    assert opened.log_rows() == []


def test_a_folder_with_a_run_or_with_checkpoints_is_refused(run):
    with pytest.raises(RunError, match="holds a run already: continue it with --resume, or name another folder"):
        create_run(run.path, config=run.config, sources={}, facts={})
    run.save_checkpoint({"total_step": 1})
    (run.path / "run.json").unlink()
    with pytest.raises(RunError, match=r"holds checkpoints, but no run.json: remove the folder"):
        create_run(run.path, config=run.config, sources={}, facts={})


def test_what_is_no_run_is_named(run, tmp_path):
    with pytest.raises(RunError, match=r"nothing is no run folder: 'run.json' is missing"):
        open_run(tmp_path / "nothing")
    for name, text in (("config.toml", b"steps = = 3"), ("run.json", b"{"), ("run.json", b"\xff\xfe")):
        kept = (run.path / name).read_bytes()
        (run.path / name).write_bytes(text)
        with pytest.raises(RunError, match=rf"{name} is damaged .* restore it or train again"):
            open_run(run.path)
        (run.path / name).write_bytes(kept)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("method", None, "key 'method' .run.json. is missing"),
        ("method", "", "key 'method' .run.json.: found '', but string should have at least 1 character"),
        ("classes", 7, "key 'classes' .run.json.: found 7, but input should be a valid list"),
        ("versions", {"torch": 2}, "key 'versions.torch' .run.json.: found 2, but input should be a valid string"),
        ("method", "simcvd", "names the method 'supervised', run.json names 'simcvd'"),
    ],
)
def test_a_key_of_another_kind_is_named_when_a_run_is_opened(key, value, message, run):
    facts = {name: item for name, item in (FACTS | {key: value}).items() if item is not None}
    (run.path / "run.json").write_text(json.dumps(facts))
    with pytest.raises(RunError, match=message):
        open_run(run.path)


def test_a_flipped_bit_in_a_checkpoint_is_noticed(run):
    checkpoint = run.save_checkpoint({"total_step": 1, "method": {"w": torch.arange(1000.0)}})
    damaged = bytearray(checkpoint.read_bytes())
    damaged[damaged.index(torch.arange(1000.0).numpy().tobytes()[400:800])] ^= 1
    checkpoint.write_bytes(damaged)
    with pytest.raises(RunError, match=r"step_00000001.pt cannot be read .* delete it and resume from the one before"):
        read_checkpoint(checkpoint)


def test_a_damaged_line_within_the_log_is_named_and_not_dropped_with_all_behind_it(run):
    for step in range(3):
        run.append_log({"total_step": step})
    lines = run.log_file.read_text().splitlines()
    run.log_file.write_text("\n".join([lines[0], '{"total_step": "1"}', lines[2]]) + "\n")
    with pytest.raises(RunError, match=r"log.jsonl, line 2 is damaged, .* remove the line and go on"):
        run.cut_log(3)
    assert len(run.log_file.read_text().splitlines()) == 3


def test_the_newest_two_checkpoints_stay_and_named_ones_beside_them(run):
    for step in (5, 10, 15):
        run.save_checkpoint({"total_step": step, "method": {"w": torch.tensor([step])}})
    run.save_checkpoint({"method": {}}, name="end_first")
    names = sorted(path.name for path in run.checkpoints.iterdir())
    assert names == ["end_first.pt", "step_00000010.pt", "step_00000015.pt"]
    assert read_checkpoint(run.latest())["method"]["w"].item() == 15


def test_what_a_killed_process_left_half_written_goes_with_the_next_checkpoint(run):
    (run.checkpoints / ".unfinished-abcd-step_00000005.pt").write_bytes(b"half")
    assert run.latest() is None
    run.save_checkpoint({"total_step": 6})
    assert [path.name for path in run.checkpoints.iterdir()] == ["step_00000006.pt"]


@pytest.mark.parametrize("broken", ["os.replace", "os.fsync", "torch.save"])
def test_a_disk_that_takes_nothing_is_a_clear_error_and_leaves_every_file_as_it_was(
    broken, fail, disk_error, run, monkeypatch
):
    run.save_checkpoint({"total_step": 5, "w": torch.ones(2)})
    before = files(run.path)
    with monkeypatch.context() as patched:
        patched.setattr(broken, fail)
        words = rf"cannot write .*step_00000010.pt.* {disk_error.strerror}.* go on with --resume"
        with pytest.raises(RunError, match=words):
            run.save_checkpoint({"total_step": 10, "w": torch.zeros(2)})
    assert files(run.path) == before


def test_torch_reports_a_full_disk_in_its_own_way_and_so_do_we(run, monkeypatch):
    def fail(state: object, file: object) -> None:
        raise RuntimeError("[enforce fail at inline_container.cc:626] . unexpected pos 64 vs 0")

    monkeypatch.setattr("torch.save", fail)
    with pytest.raises(RunError, match=r"cannot write .* unexpected pos .* free or unlock the disk"):
        run.save_checkpoint({"total_step": 10})
    assert list(run.checkpoints.iterdir()) == []


def test_a_run_that_cannot_be_created_is_no_run(fail, disk_error, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr("os.replace", fail)
        with pytest.raises(RunError, match=rf"cannot write .*config.toml: .*{disk_error.strerror}"):
            create_run(tmp_path, config=Config(), sources={}, facts={})
    assert files(tmp_path) == {}
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match=r"cannot write .*file/run"):
        create_run(tmp_path / "file" / "run", config=Config(), sources={}, facts={})


def test_a_log_that_may_not_grow_is_a_clear_error(run):
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        with pytest.raises(RunError, match=r"cannot write .*log.jsonl: .*File too large.* go on with --resume"):
            run.append_log({"total_step": 0})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_log_that_is_a_link_is_not_followed(run, tmp_path):
    (tmp_path / "elsewhere").write_text("kept")
    run.log_file.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(RunError, match=r"cannot write .*log.jsonl"):
        run.append_log({"total_step": 0})
    assert (tmp_path / "elsewhere").read_text() == "kept"


def test_the_log_loses_what_was_cut_short_and_what_will_be_done_again(run):
    for step in range(5):
        run.append_log({"total_step": step, "total": 0.1 * step})
    with run.log_file.open("a") as file:
        file.write('{"total_step": 5, "to')
    assert [row["total_step"] for row in run.log_rows()] == [0, 1, 2, 3, 4]
    run.cut_log(3)
    run.append_log({"total_step": 3, "total": 7})
    assert [json.loads(line)["total"] for line in run.log_file.read_text().splitlines()] == [0, 0.1, 0.2, 7]


@pytest.mark.parametrize(("text", "seconds"), [("90s", 90), ("30m", 1800), ("2h", 7200), ("1.5d", 129600)])
def test_a_budget_is_a_number_with_a_unit(text, seconds):
    assert parse_budget(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "2", "2w", "-1h", "0s", "nanh", "infd", "two h"])
def test_a_budget_that_is_none_is_refused(text):
    with pytest.raises(RunError, match=re.escape(f"such as 2h; found '{text}'")):
        parse_budget(text)
