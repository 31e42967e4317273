"""The cache: whole entries or none, whoever writes at the same time and whatever the disk does."""

import errno
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from semivox.data import caching
from semivox.data.caching import cache_key, cache_size, cached, default_cache
from semivox.errors import RunError

ARRAYS = {"image": np.arange(12, dtype=np.float32).reshape(1, 3, 2, 2), "label": np.ones((3, 2, 2), np.uint8)}


def make():
    return ARRAYS, {"content": "abc"}


def refuse():
    raise AssertionError("the entry was there")


def test_an_entry_is_made_once_and_mapped_afterwards(tmp_path):
    cached(tmp_path, "key", make)
    arrays, facts = cached(tmp_path, "key", refuse)
    assert not arrays["image"].flags.owndata
    assert not arrays["image"].flags.writeable
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


def rewrite(path, change):
    path.write_bytes(change(path.read_bytes()))


def relist(entry, change):
    (entry / "entry.json").write_text(json.dumps(change(json.loads((entry / "entry.json").read_text()))))


def edit_voxel(entry):
    array = np.load(entry / "image.npy")
    array[0, 0, 0, 0] += 1
    np.save(entry / "image.npy", array)


def make_a_folder(entry):
    (entry / "image.npy").unlink()
    (entry / "image.npy").mkdir()


def replace_by_another(entry):
    cached(entry.parent, "other", lambda: ({name: array + 1 for name, array in ARRAYS.items()}, {}))
    shutil.rmtree(entry)
    (entry.parent / "other").rename(entry)


def unseal(entry):
    """Make an entry what it was before there were sums."""
    relist(entry, lambda listed: {"arrays": listed["arrays"], "facts": listed["facts"]})


DAMAGES = {
    "truncated": lambda entry: rewrite(entry / "image.npy", lambda found: found[:-4]),
    "emptied": lambda entry: (entry / "image.npy").write_bytes(b""),
    "missing": lambda entry: (entry / "image.npy").unlink(),
    "a folder": make_a_folder,
    "other": lambda entry: np.save(entry / "image.npy", np.zeros(3)),
    "edited": edit_voxel,
    "header": lambda entry: rewrite(entry / "image.npy", lambda found: found.replace(b"3, 2, 2)", b"2, 3, 2)")),
    "list": lambda entry: (entry / "entry.json").write_text("{"),
    "nested": lambda entry: (entry / "entry.json").write_text("[" * 100_000),
    "facts": lambda entry: relist(entry, lambda listed: listed | {"facts": {"content": "xyz"}}),
    "foreign": replace_by_another,
    "of before": unseal,
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_spoilt_entry_is_made_again(tmp_path, damage):
    cached(tmp_path, "key", make)
    damage(tmp_path / "key")
    arrays, facts = cached(tmp_path, "key", make)
    np.testing.assert_array_equal(arrays["image"], ARRAYS["image"])
    assert facts == {"content": "abc"}
    assert [path.name for path in tmp_path.iterdir()] == ["key"]
    cached(tmp_path, "key", refuse)


def test_an_entry_of_before_there_were_sums_is_read_where_nothing_can_make_it_again(tmp_path):
    cached(tmp_path, "key", make)
    unseal(tmp_path / "key")
    arrays, _ = cached(tmp_path, "key", refuse, unsealed="read")
    np.testing.assert_array_equal(arrays["image"], ARRAYS["image"])
    with pytest.raises(AssertionError, match="the entry was there"):
        cached(tmp_path, "key", refuse)


def test_an_entry_is_read_through_once_in_a_process_and_again_when_its_files_change(tmp_path, monkeypatch):
    cached(tmp_path, "key", make)
    read = []
    really_sum = caching._file_sum
    monkeypatch.setattr(caching, "_file_sum", lambda path: read.append(path.name) or really_sum(path))
    cached(tmp_path, "key", refuse)
    assert read == []
    edit_voxel(tmp_path / "key")
    with pytest.raises(AssertionError, match="the entry was there"):
        cached(tmp_path, "key", refuse)
    assert sorted(read) == ["image.npy", "label.npy"]


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


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="this system does not list a process's open files")
def test_entries_keep_no_file_open(tmp_path):
    before = len(list(Path("/proc/self/fd").iterdir()))
    made = [cached(tmp_path, f"entry_{n}", lambda: ({"x": np.arange(6).reshape(2, 3)}, {}))[0] for n in range(50)]
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert all(np.array_equal(arrays["x"], [[0, 1, 2], [3, 4, 5]]) for arrays in made)


def test_too_few_open_files_name_the_limit_and_no_disk(tmp_path, monkeypatch):
    def refused(path):
        raise OSError(errno.EMFILE, "Too many open files", str(path))

    monkeypatch.setattr(caching, "_mapped", refused)
    with pytest.raises(RunError, match=r"`ulimit -n 65536`") as caught:
        cached(tmp_path, "entry", make)
    assert "disk" not in str(caught.value)
