"""What a training begins with: told once, before the notes, without a look at held-out scans."""

from semivox.data import overview
from semivox.data.dataset import read_dataset
from semivox.data.splitting import make_split


def test_no_header_of_a_held_out_scan_is_read(train_toy, toy_data, tmp_path, monkeypatch):
    read, told = overview.read_header, []
    monkeypatch.setattr(overview, "read_header", lambda path: (told.append(path.name), read(path))[1])
    split = make_split(read_dataset(toy_data), labelled=1, held_out=1)
    words = {"method": "supervised", "split": split, "settings": {"steps": 1, "batch_unlabelled": 0}}
    train_toy(tmp_path / "run", on_start=told.append, **words)
    *headers, facts = told
    assert sorted(name[:7] for name in headers) == sorted(split.pool)
    assert facts["scans"] == "5: 1 labelled, 3 unlabelled, 1 held out"
    assert facts["run"] == str(tmp_path / "run")


def test_a_run_that_goes_on_begins_with_the_same_lines(train_toy, tmp_path):
    told = []
    for resume in (False, True):
        train_toy(tmp_path / "run", method="supervised", settings={"steps": 1}, resume=resume, on_start=told.append)
    assert told[0] == told[1]
