"""What check and train begin with: the same few lines on a terminal and through a pipe, none on standard output."""

from pathlib import Path

from toys import write_toy_dataset

TINY = ["--set", "steps=2", "--set", "patch=[16,16,8]", "--set", "net.filters=2", "--set", "net.levels=2",
        "--set", "batch_labelled=1", "--set", "batch_unlabelled=1", "--device", "cpu"]  # fmt: skip


def facts_of(err: str) -> dict[str, str]:
    return dict(line.split(maxsplit=1) for line in err.splitlines() if " " in line)


def test_check_begins_with_what_it_sees(semivox, tmp_path):
    data = str(write_toy_dataset(tmp_path / "data", cases=6, unlabelled=2))
    code, out, err = semivox("check", data)
    assert (code, out) == (0, "0 errors, 0 warnings\n")
    assert err.splitlines()[:6] == [
        f"data      {data} (toy)",
        "scans     6: 4 labelled, 2 unlabelled",
        "channels  MR_0",
        "classes   background, blob_1",
        "spacing   1 x 1 x 2 mm",
        "shape     20 x 18 x 12",
    ]
    semivox("split", data, "--labelled", "1", "--held-out", "2", "-o", "split.json")
    assert facts_of(semivox("check", data, "--split", "split.json")[2])["scans"] == (
        "6: 1 labelled, 3 unlabelled, 2 held out"
    )


def test_train_begins_with_scans_method_device_and_run(semivox, tmp_path):
    data = str(write_toy_dataset(tmp_path / "data", cases=6, unlabelled=2))
    semivox("split", data, "--labelled", "2", "--held-out", "1", "-o", "split.json")
    code, out, err = semivox("train", data, "--split", "split.json", "-o", "runs/mine", *TINY)
    assert (code, out) == (0, "runs/mine\n")
    lines = err.splitlines()
    assert lines[0].startswith("data      ")
    facts = facts_of("\n".join(lines[:10]))
    assert list(facts) == [
        "data", "scans", "channels", "classes", "spacing", "shape", "method", "training", "device", "run",
    ]  # fmt: skip
    assert facts["scans"] == "6: 2 labelled, 3 unlabelled, 1 held out"
    assert facts["method"] == "averaged_match, by default, since 3 scans are unlabelled; --method names another"
    assert facts["training"] == (
        "vnet of 2 filters, patch 16 x 16 x 8, 1 + 2 steps of 1 labelled and 1 unlabelled crops, seed 0"
    )
    assert facts["device"] == "cpu, precision 32"
    assert facts["run"] == str(Path("runs/mine"))


def test_a_method_that_was_named_needs_no_reason_and_one_by_default_says_why(semivox, tmp_path):
    data = str(write_toy_dataset(tmp_path / "data", cases=3, unlabelled=0))
    _, _, err = semivox("train", data, "-o", "default", *TINY)
    assert facts_of(err)["method"].startswith("supervised, by default, since no scan is unlabelled;")
    words = ["train", data, "-o", "named", *TINY, "--method", "supervised"]
    assert facts_of(semivox(*words)[2])["method"] == "supervised"
    assert facts_of(semivox(*words, "--resume")[2])["method"] == "supervised"


def test_a_terminal_shows_the_same_lines(semivox, tmp_path, monkeypatch):
    data = str(write_toy_dataset(tmp_path / "data", cases=3, unlabelled=1))
    plain = semivox("check", data)[2].splitlines()[:6]
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    monkeypatch.setenv("COLUMNS", "40")
    assert semivox("check", data)[2].splitlines()[:6] == plain
