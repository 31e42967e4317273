"""Where results go: a link, a file or a pipe in place of a folder is refused in one line by the verbs that fill one."""

import os
from pathlib import Path

import pytest

from toys import write_toy_dataset

RUNS = Path(__file__).parents[1] / "runs" / "before"
VERBS = {
    "train": ("train", "data"),
    "train --folds": ("train", "data", "--folds", "2"),
    "predict": ("predict", str(RUNS), "data/imagesTr"),
    "bench": ("bench", "protocol.toml"),
}
PROTOCOL = """
[bench]
title = "toys"
data = "data"
config = "demo"
held_out = 1

[[bench.run]]
method = "supervised"
labelled = 1
"""


@pytest.mark.parametrize("kind", ["a link", "a file", "a device or a pipe"])
@pytest.mark.parametrize("words", VERBS.values(), ids=VERBS)
def test_what_is_no_folder_is_not_written_into(words, kind, semivox, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_toy_dataset(Path("data"), cases=4)
    Path("protocol.toml").write_text(PROTOCOL)
    Path("elsewhere").mkdir()
    if kind == "a link":
        Path("out").symlink_to("elsewhere")
    elif kind == "a file":
        Path("out").write_text("kept")
    else:
        os.mkfifo("out")
    code, _, err = semivox(*words, "-o", "out", "--device", "cpu")
    assert code == 2
    assert f"cannot write into out: found {kind}, expected a folder or none; name another with -o" in err
    assert not any(Path("elsewhere").iterdir())
    assert kind != "a file" or Path("out").read_text() == "kept"
