"""Whatever artefact is damaged, every verb that reads it works or ends in one line: no traceback, no endless wait."""

import random
import shutil
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from mutants import mutate
from semivox.cli.main import main
from toys import write_toy_dataset

PROTOCOL = """
[bench]
title = "mutants"
data = "data"
config = "tiny.toml"
held_out = 1

[[bench.run]]
method = "mean_teacher"
labelled = 1
"""
CONFIG = """
steps = 3
checkpoint_every = 2
log_every = 1
patch = [8, 8, 8]
batch_labelled = 1
batch_unlabelled = 1
[net]
filters = 2
levels = 2
strides = [[2, 2, 2]]
"""
JOB = "bench/mean-teacher-1-seed0"
RESUME = f"train data -o {JOB}/run --split split.json --resume --budget 20s --device cpu"
PREDICT = f"predict {JOB}/run data --held-out -o {JOB}/masks --device cpu"
ELSEWHERE = f"predict {JOB}/run data/imagesTr/case_00_0000.nii.gz -o elsewhere --device cpu"
EVALUATE = f"evaluate {JOB}/masks data/labelsTr -o {JOB}/scores.csv"
REPORT = f"report {JOB}/scores.csv -o report.html"
BENCH = "bench tiny-bench.toml -o bench --device cpu"
CHECKPOINT = f"{JOB}/run/checkpoints/step_00000002.pt"
READERS = {
    "data/dataset.json": ("check data", EVALUATE, RESUME),
    "split.json": ("check data --split split.json", f"{EVALUATE} --cases split.json", RESUME),
    f"{JOB}/run/split.json": (RESUME, PREDICT),
    f"{JOB}/run/run.json": (RESUME, ELSEWHERE),
    f"{JOB}/run/config.toml": (RESUME, ELSEWHERE, REPORT),
    f"{JOB}/run/log.jsonl": (RESUME, REPORT),
    CHECKPOINT: (RESUME, ELSEWHERE),
    f"{JOB}/job.json": (BENCH,),
    "bench/lock.json": (BENCH,),
    f"{JOB}/masks/prediction.json": (PREDICT, EVALUATE, REPORT),
    f"{JOB}/scores.csv": (REPORT, BENCH),
    f"{JOB}/scores.json": (REPORT, BENCH),
}
"""The verbs that read each artefact."""


def run(words: str) -> int:
    """Return the exit code of a command line; anything but an exit is raised."""
    sys.argv = ["semivox", *words.split()]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            main()
        except SystemExit as left:
            return int(left.code or 0)
    raise AssertionError("the command line always exits")


@contextmanager
def seconds(count: int) -> Iterator[None]:
    """End what takes longer, as an endless training would."""

    def stop(*_: object) -> None:
        raise TimeoutError(f"more than {count} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(count)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder in which everything is done but the last training step; working folder, cache and all."""
    folder = tmp_path_factory.mktemp("chain")
    with pytest.MonkeyPatch.context() as patched:
        patched.chdir(folder)
        patched.setattr(sys, "argv", sys.argv)
        patched.setattr(sys, "path", list(sys.path))
        patched.setenv("SEMIVOX_CACHE", str(folder / "cache"))
        patched.delenv("SEMIVOX_DATA", raising=False)
        write_toy_dataset(folder / "data", cases=3, unlabelled=1, shape=(12, 10, 8))
        (folder / "tiny.toml").write_text(CONFIG)
        (folder / "tiny-bench.toml").write_text(PROTOCOL)
        assert run("split data --labelled 1 --held-out 1 -o split.json") == 0
        assert run(BENCH) == 0
        (folder / JOB / "run" / "checkpoints" / "step_00000003.pt").unlink()
        for words in dict.fromkeys(words for readers in READERS.values() for words in readers):
            assert run(words) == 0, f"{words}: undamaged"
        shutil.rmtree(folder / "elsewhere")
        (folder / JOB / "run" / "checkpoints" / "step_00000003.pt").unlink()
        yield folder


@pytest.fixture
def attack(chain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """``attack(artefact, seed)``: damage a copy of it, run its readers or one of them, return what was no clean end."""

    def attack(artefact: str, seed: int, *, one: bool = False) -> list[str]:
        here = tmp_path / f"{seed}"
        shutil.copytree(chain, here, ignore=shutil.ignore_patterns("cache", "report.html"))
        monkeypatch.chdir(here)
        how = mutate(here / artefact, random.Random(seed))
        failures = []
        readers = READERS[artefact]
        for words in [readers[seed % len(readers)]] if one else readers:
            try:
                with seconds(60):
                    code: Any = run(words)
            except Exception:
                failures.append(f"{artefact}, seed {seed} ({how}): {words}\n{traceback.format_exc(limit=-4)}")
            else:
                if code not in (0, 2):
                    failures.append(f"{artefact}, seed {seed} ({how}): {words}: exit {code}")
        shutil.rmtree(here)
        return failures

    return attack


@pytest.mark.parametrize("artefact", READERS)
def test_a_few_damaged_artefacts_end_in_one_line(artefact, attack):
    failures = [failure for seed in range(4) for failure in attack(artefact, seed, one=True)]
    assert not failures, "\n".join(failures)


@pytest.mark.slow
@pytest.mark.parametrize("start", range(100, 1100, 100))
@pytest.mark.parametrize("artefact", READERS)
def test_many_damaged_artefacts_end_in_one_line(artefact, start, attack):
    failures = [failure for seed in range(start, start + 10) for failure in attack(artefact, seed)]
    assert not failures, f"{len(failures)} failures\n" + "\n".join(failures)
