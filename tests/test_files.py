"""Files: whole or not at all, locked while used, leftovers removed, damaged JSON named in one line."""

import errno
import os
import subprocess
import sys
import time

import pytest

from semivox.errors import DatasetError, RunError
from semivox.files import (
    file_digest,
    locked_folder,
    read_object,
    remove_unfinished,
    whole_file,
    whole_folder,
    write_atomic,
    write_table,
)


def test_a_folder_is_locked_until_its_process_lets_go_or_dies(tmp_path):
    code = (
        "import sys, time\nfrom pathlib import Path\nfrom semivox.files import locked_folder\n"
        "with locked_folder(Path(sys.argv[1]), doing='trained into'):\n"
        "    print('locked', flush=True)\n    time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", code, tmp_path / "run"], stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout.readline() == "locked\n"
        with (
            pytest.raises(RunError, match=rf"is being trained into by process {other.pid} on .*name another folder"),
            locked_folder(tmp_path / "run", doing="trained into"),
        ):
            pass
        other.kill()
        other.wait()
    for _ in range(2):
        with locked_folder(tmp_path / "run", doing="trained into"):
            assert (tmp_path / "run" / "lock").read_text().startswith(f"process {os.getpid()} on ")


def test_a_disk_that_knows_no_locks_is_used_without(tmp_path, monkeypatch):
    def unknown(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.flock", unknown)
    with locked_folder(tmp_path, doing="trained into"), locked_folder(tmp_path, doing="trained into"):
        pass


def test_a_file_is_replaced_whole_and_readable_by_others(tmp_path):
    target = tmp_path / "file"
    write_atomic(target, lambda file: file.write(b"one"))
    write_atomic(target, lambda file: file.write(b"two"))
    assert [(path.name, path.read_bytes()) for path in tmp_path.iterdir()] == [("file", b"two")]
    assert file_digest(target) == "3fc4ccfe745870e2c0d99f71f30ff0656c8dedd41cc1d7d3d376b0dbe685e2f3"


def test_only_old_leftovers_of_killed_processes_are_removed(tmp_path):
    for name, age in ((".unfinished-old", 48 * 3600), (".unfinished-new", 60), ("entry", 48 * 3600)):
        (tmp_path / name).mkdir()
        os.utime(tmp_path / name, (time.time() - age,) * 2)
    remove_unfinished(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".unfinished-new", "entry"]


def test_a_new_file_follows_the_umask(tmp_path):
    for mask, mode in ((0o027, 0o640), (0o002, 0o664)):
        before = os.umask(mask)
        try:
            write_atomic(tmp_path / "file", lambda file: file.write(b"one"))
        finally:
            os.umask(before)
        assert (tmp_path / "file").stat().st_mode & 0o777 == mode


def test_old_leftovers_of_a_file_go_when_it_is_written_again(tmp_path):
    for name in (".unfinished-1-[a].json", ".unfinished-2-b.json"):
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time.time() - 48 * 3600,) * 2)
    write_atomic(tmp_path / "[a].json", lambda file: file.write(b"{}"))
    assert sorted(path.name for path in tmp_path.iterdir()) == [".unfinished-2-b.json", "[a].json"]


def test_what_is_no_regular_file_is_not_written_over(tmp_path):
    (tmp_path / "kept").write_text("kept")
    (tmp_path / "link").symlink_to(tmp_path / "kept")
    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name, kind in (("link", "a link"), ("folder", "a folder"), ("pipe", "a device or a pipe")):
        with pytest.raises(RunError, match=rf"cannot write .*{name}: found {kind}, expected a regular file"):
            write_atomic(tmp_path / name, lambda file: file.write(b"new"))
    assert (tmp_path / "kept").read_text() == "kept"


def test_a_lock_that_is_a_link_is_not_followed(tmp_path):
    (tmp_path / "kept").write_text("kept")
    (tmp_path / "lock").symlink_to(tmp_path / "kept")
    with pytest.raises(RunError, match="found a link"), locked_folder(tmp_path, doing="trained into"):
        pass
    assert (tmp_path / "kept").read_text() == "kept"


def test_an_error_in_writing_leaves_the_old_file_and_nothing_else(tmp_path):
    (tmp_path / "file").write_text("old")

    def fail(temporary):
        temporary.write_text("half")
        raise OSError("no room")

    words = r"cannot write .*file: no room; free or unlock the disk, then try again"
    with pytest.raises(RunError, match=words), whole_file(tmp_path / "file") as temporary:
        fail(temporary)
    assert [(path.name, path.read_text()) for path in tmp_path.iterdir()] == [("file", "old")]


def test_a_folder_is_there_whole_or_neither_it_nor_its_parents(tmp_path):
    target = tmp_path / "a" / "b"

    def fail(temporary):
        (temporary / "half").touch()
        raise OSError("no room")

    with pytest.raises(RunError, match=r"cannot write .*a/b: no room"), whole_folder(target) as temporary:
        fail(temporary)
    assert list(tmp_path.iterdir()) == []
    with whole_folder(target) as temporary:
        (temporary / "file").touch()
        assert not target.exists()
    assert list(target.parent.rglob("*")) == [target, target / "file"]
    with pytest.raises(RunError, match="b is not empty"), whole_folder(target):
        pass
    assert (target / "file").exists()


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[1]", b"7", b"\xff\xfe", b'{"a": ' + b"9" * 5000 + b"}", b'{"a": ' + b"[" * 200_000],
    ids=["empty", "cut", "list", "number", "no_utf8", "huge_number", "deep"],
)
def test_json_that_is_damaged_is_one_line_of_the_class_asked_for(content, tmp_path):
    (tmp_path / "facts.json").write_bytes(content)
    with pytest.raises(DatasetError, match=r"facts.json is damaged .*expected a JSON object; restore it"):
        read_object(tmp_path / "facts.json", advice="restore it", error=DatasetError)


def test_json_that_is_missing_is_left_to_the_caller(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_object(tmp_path / "nothing.json", advice="restore it")


def test_a_table_is_written_whole_or_not_at_all(tmp_path):
    file = tmp_path / "t.csv"
    write_table(file, ["a", "b"], [{"a": 1, "b": "x, y"}, {"a": 2, "b": ""}])
    assert file.read_bytes() == b'a,b\n1,"x, y"\n2,\n'
    with pytest.raises(ValueError, match="c"):
        write_table(file, ["a"], [{"a": 3}, {"c": 4}])
    assert file.read_bytes().startswith(b"a,b")
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]
