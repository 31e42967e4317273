"""A run knows its precision, device and programs; resumed elsewhere, it keeps the one and tells of the others."""

import json
import re
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import torch

import semivox
from semivox.errors import RunError
from semivox.runs.folder import open_run
from semivox.training.provenance import source_commit, versions
from semivox.training.start import train

ONE = {"steps": 1}


def rewrite(run: Path, **facts: object) -> None:
    found = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(found | facts))


def test_a_run_says_what_auto_meant_and_keeps_the_word_that_was_written(train_toy, tmp_path):
    train_toy(tmp_path, settings=ONE)
    run = open_run(tmp_path)
    assert run.config.precision == "auto"
    assert [run.facts[key] for key in ("precision", "device", "gpu")] == ["32", "cpu", None]
    assert run.facts["versions"] == versions()
    assert versions().keys() == {"semivox", "python", "torch", "numpy"}
    assert run.facts["commit"] == source_commit()
    assert abs(datetime.now(UTC) - datetime.fromisoformat(run.facts["started"])) < timedelta(hours=1)


def test_a_run_of_a_cpu_does_not_become_half_precision_on_a_gpu(train_toy, toy_data, toy_cache, tmp_path, monkeypatch):
    train_toy(tmp_path, settings=ONE)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation=True: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "Card 9000")
    words = "was started in precision 32 on cpu, here it would go on in bf16: resume it with --device cpu"
    with pytest.raises(RunError, match=words):
        train(toy_data, output=tmp_path, resume=True, cache=toy_cache)
    assert train(toy_data, output=tmp_path, resume=True, cache=toy_cache, device="cpu").finished


def test_a_run_of_a_gpu_does_not_become_full_precision_on_a_cpu(train_toy, tmp_path):
    train_toy(tmp_path, settings=ONE)
    rewrite(tmp_path, precision="bf16", device="cuda", gpu="Card 9000")
    with pytest.raises(RunError, match="was started in precision bf16 on Card 9000, here it would go on in 32: resume"):
        train_toy(tmp_path, settings=ONE, resume=True)


def test_other_programs_and_devices_are_noted_and_the_run_goes_on(train_toy, tmp_path):
    said: list[str] = []
    train_toy(tmp_path, settings=ONE)
    assert train_toy(tmp_path, settings=ONE, resume=True, on_note=said.append).finished
    assert not [note for note in said if "was started with" in note]
    rewrite(tmp_path, device="cuda", gpu="Card 9000", versions=versions() | {"torch": "1.0"}, commit="abc")
    assert train_toy(tmp_path, settings=ONE, resume=True, on_note=said.append).finished
    for what in ("device cuda, it goes on with cpu", "gpu Card 9000", f"torch 1.0, it goes on with {torch.__version__}",
                 "commit abc"):  # fmt: skip
        assert sum(f"was started with {what}" in note for note in said) == 1, what


def test_the_commit_is_that_of_the_checkout_that_holds_semivox_and_of_no_other(tmp_path, monkeypatch):
    def git(*words: str) -> None:
        own = ("-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false")
        subprocess.run(["git", *own, *words], cwd=tmp_path, check=True, capture_output=True)

    package = tmp_path / "semivox" / "__init__.py"
    package.parent.mkdir()
    package.write_text("")
    monkeypatch.setattr(semivox, "__file__", str(package))
    assert source_commit.__wrapped__() is None, "no checkout"
    git("init", "--quiet")
    git("commit", "--quiet", "--allow-empty", "-m", "somebody's project")
    assert source_commit.__wrapped__() is None, "a checkout, but not of semivox"
    git("add", ".")
    git("commit", "--quiet", "-m", "semivox")
    assert re.fullmatch(r"[0-9a-f]{40}", source_commit.__wrapped__())
    package.write_text("# edited")
    assert re.fullmatch(r"[0-9a-f]{40}-dirty", source_commit.__wrapped__())
