"""The cache: whole entries or none, whoever writes at the same time and whatever the disk does."""

import os
import subprocess
import sys

import numpy as np
import pytest

from semivox.data import caching
from semivox.data.caching import allow_open_files, cache_key, cache_size, cached, default_cache
from semivox.errors import RunError

ARRAYS = {"image": np.arange(12, dtype=np.float32).reshape(1, 3, 2, 2), "label": np.ones((3, 2, 2), np.uint8)}


def make():
    return ARRAYS, {"content": "abc"}


def refuse():
    raise AssertionError("the entry was there")


def test_an_entry_is_made_once_and_mapped_afterwards(tmp_path):
    cached(tmp_path, "key", make)
    arrays, facts = cached(tmp_path, "key", refuse)
    assert isinstance(arrays["image"], np.memmap)
    assert not arrays["image"].flags.writeable
    np.testing.assert_array_equal(arrays["image"], ARRAYS["image"])
    assert facts == {"content": "abc"}
    assert cache_size(tmp_path) == sum(path.stat().st_size for path in (tmp_path / "key").iterdir()) > 0


def test_a_file_that_vanishes_while_the_cache_is_measured_counts_nothing(tmp_path, monkeypatch):
    (tmp_path / "stays").write_bytes(b"abc")
    (tmp_path / "vanishes").write_bytes(b"abc")
    really_stat = os.stat

    def stat(path, **options):
        if str(path).endswith("vanishes"):
            raise FileNotFoundError(path)
        return really_stat(path, **options)

    monkeypatch.setattr(os, "stat", stat)
    assert cache_size(tmp_path) == 3
    assert cache_size(tmp_path / "absent") == 0


@pytest.mark.parametrize("damage", ["truncated", "missing", "list", "other"])
def test_a_spoilt_entry_is_made_again(tmp_path, damage):
    cached(tmp_path, "key", make)
    image = tmp_path / "key" / "image.npy"
    if damage == "truncated":
        image.write_bytes(image.read_bytes()[:-4])
    elif damage == "missing":
        image.unlink()
    elif damage == "list":
        (tmp_path / "key" / "entry.json").write_text("{")
    else:
        np.save(image, np.zeros(3))
    arrays, _ = cached(tmp_path, "key", make)
    np.testing.assert_array_equal(arrays["image"], ARRAYS["image"])
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


@pytest.mark.parametrize("function", ["fsync", "mkdir", "rename"])
def test_a_disk_that_cannot_be_written_is_named_and_left_clean(tmp_path, monkeypatch, function, disk_error):
    def fail(*_, **__):
        raise disk_error

    cache = tmp_path / "cache"
    owner = caching.os if function == "fsync" else caching.Path
    with monkeypatch.context() as patched:
        patched.setattr(owner, function, fail)
        with pytest.raises(RunError, match=f"{cache}.*{disk_error.strerror}.*--cache"):
            cached(cache, "key", make)
    assert not cache.exists() or not list(cache.iterdir())
    cached(cache, "key", make)


def test_an_error_in_making_is_not_called_a_disk_error(tmp_path):
    def broken():
        raise FileNotFoundError("scan.nii.gz")

    with pytest.raises(FileNotFoundError, match="scan"):
        cached(tmp_path, "key", broken)
    assert not list(tmp_path.iterdir())


def test_the_first_of_two_writers_wins(tmp_path):
    def overtaken():
        cached(tmp_path, "key", make)  # the other process, while this one computes
        return {"image": ARRAYS["image"] + 1, "label": ARRAYS["label"]}, {}

    arrays, _ = cached(tmp_path, "key", overtaken)
    np.testing.assert_array_equal(arrays["image"], ARRAYS["image"])
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_two_processes_may_fill_the_same_cache_at_once(tmp_path):
    program = """
import sys, time
from pathlib import Path
import numpy as np
from semivox.data.caching import cached
def make():
    return {"image": np.arange(20000.0)}, {}
print("ready", flush=True)
sys.stdin.readline()
for key in range(30):
    arrays, _ = cached(Path(sys.argv[1]), f"key{key}", make)
    assert arrays["image"].sum() == 19999 * 10000
"""
    command = [sys.executable, "-W", "error", "-c", program, str(tmp_path)]
    both = [subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    for process in both:
        process.stdout.readline()
    for process in both:
        process.stdin.write("go\n")
        process.stdin.flush()
    for process in both:
        process.communicate()
        assert process.returncode == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(f"key{key}" for key in range(30))


def test_keys_tell_their_parts_apart():
    assert cache_key("a", {"b": 1, "c": [2]}) == cache_key("a", {"c": [2], "b": 1})
    assert len({cache_key("a", 1), cache_key("a", 2), cache_key("a", "1"), cache_key("a")}) == 4


def test_the_environment_names_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SEMIVOX_CACHE", str(tmp_path / "here"))
    assert default_cache() == tmp_path / "here"
    monkeypatch.delenv("SEMIVOX_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_cache() == tmp_path / "semivox"


@pytest.mark.parametrize(("hard", "wanted"), [(4096, 1512), (1200, 1200), (-1, 1512)])
def test_the_limit_on_open_files_rises_as_far_as_it_may(monkeypatch, hard, wanted):
    resource = pytest.importorskip("resource")
    limits = []
    monkeypatch.setattr(resource, "getrlimit", lambda _: (1024, hard))
    monkeypatch.setattr(resource, "setrlimit", lambda _, pair: limits.append(pair))
    allow_open_files(1000)
    allow_open_files(100)
    assert limits == [(wanted, hard)]
