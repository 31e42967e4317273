"""From arguments to a run: where values come from, what is refused and when, and what a resumed run insists on."""

import json
import shutil
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from semivox.config.keys import Config
from semivox.data.caching import cache_size
from semivox.data.dataset import read_dataset
from semivox.data.faults import Fault
from semivox.data.splitting import Split, make_split, write_split
from semivox.errors import ConfigError, DatasetError, RunError, SemivoxError, UnknownMethodError
from semivox.methods import load_own, own_method
from semivox.runs.building import make_method_config
from semivox.runs.folder import open_run
from semivox.training.assembly import resolve_stages
from semivox.training.start import prepare, train
from toy_training import train_toy as train_on
from toys import write_toy_dataset

ONE = {"steps": 1}


def test_a_folder_with_a_run_is_refused_without_resume(train_toy, tmp_path):
    train_toy(tmp_path, settings=ONE)
    before = (tmp_path / "log.jsonl").read_bytes()
    with pytest.raises(RunError, match="holds a run already: continue it with --resume, or name another folder"):
        train_toy(tmp_path, settings=ONE)
    assert (tmp_path / "log.jsonl").read_bytes() == before


def test_two_trainings_do_not_share_a_run_folder(train_toy, tmp_path):
    """The second is refused while the first one prepares or trains, be it new or resumed, and the first goes on."""
    refused = []

    def start_another(*_):
        for resume in (False, True):
            with pytest.raises(RunError, match=r"being trained into by process \d+ on .+: wait for its end") as caught:
                train_toy(tmp_path / "run", resume=resume)
            refused.append(caught.value)

    def once(*_):
        if len(refused) == 2:
            with pytest.raises(RunError, match="is being trained into"):
                train_toy(tmp_path / "run", settings={"steps": 2}, resume=True)
            refused.append(None)

    assert train_toy(tmp_path / "run", settings={"steps": 2}, on_row=once,
                     on_prepared=lambda case, done, total: done == 1 and start_another()).finished  # fmt: skip
    assert len(refused) == 3
    assert [row["step"] for row in open_run(tmp_path / "run").log_rows()] == [0, 1]


def test_a_run_that_another_process_made_meanwhile_is_refused_and_left_alone(train_toy, toy_data, tmp_path):
    lists = Split(("case_00",), ("case_03",), held_out=("case_01",))  # without hashes: there is something to note
    kept = []

    def meanwhile(note):
        train_toy(tmp_path / "run", settings=ONE)
        kept.append((tmp_path / "run" / "log.jsonl").read_bytes())

    for resume in (False, True):
        with pytest.raises(RunError, match="holds a run already: continue it with --resume"):
            train_toy(tmp_path / "run", split=lists, resume=resume, on_note=meanwhile)
        assert (tmp_path / "run" / "log.jsonl").read_bytes() == kept[-1]
        shutil.rmtree(tmp_path / "run")


def test_what_should_be_known_is_said_once_before_anything_is_prepared(toy_data, tmp_path, monkeypatch):
    lists = Split(("case_00",), ("case_03",), held_out=("case_01",))
    said = []
    words = {"split": lists, "cache": tmp_path / "cache", "on_note": said.append}
    train(toy_data, output=tmp_path / "run", settings={**ONE, "patch": [8, 8, 8], "net": {"filters": 2}}, device="cpu",
          on_prepared=lambda *_: said.append("prepared"), **words)  # fmt: skip
    assert sum("copies of held-out scans in the pool cannot be recognised" in note for note in said) == 1
    assert sum(note.startswith("few labels: 1") for note in said) == 1, "what the plan warns of"
    assert said[-2:] == ["prepared", "prepared"]
    said.clear()
    monkeypatch.setattr("semivox.planning.capacity.device_memory", lambda device: 10**8)
    prepare(toy_data, config="demo", method="supervised", **words)
    assert sum(note.startswith("memory: about") for note in said) == 1, "of a config that is no plan"
    monkeypatch.setattr(
        "semivox.training.assembly.check_pool",
        lambda dataset, split: [Fault("warning", case, "axes", "skew", "square", "mend it") for case in "abc"],
    )
    said.clear()
    prepare(toy_data, config="demo", method="supervised", **words)
    assert any("warning: a: axes" in note and "(and 2 more: run `semivox check`)" in note for note in said)


def test_preparing_counts_into_the_time_budget(train_toy, tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])

    def slow(case, done, total):
        now[0] += 100

    settings = {"steps": 2}
    assert not train_toy(tmp_path, settings=settings, seconds=50, on_prepared=slow).finished
    assert train_toy(tmp_path, settings=settings, seconds=50, resume=True).finished


def test_with_nothing_named_the_plan_decides_and_what_is_set_wins(toy_data, toy_cache, tmp_path):
    words = ["steps=1", "net.filters=2", "patch=[8, 8, 8]"]
    train(toy_data, output=tmp_path, settings=words, cache=toy_cache, device="cpu")
    run = open_run(tmp_path)
    assert (run.config.method_name, run.config.steps, run.config.net.filters) == ("averaged_match", 1, 2)
    lines = dict(line.split("  # ")[::-1] for line in (tmp_path / "config.toml").read_text().splitlines())
    assert lines["plan"].split(" = ")[0] not in ("steps", "patch", "net.filters")
    text = (tmp_path / "config.toml").read_text()
    for line in ("steps = 1  # --set", "net.filters = 2  # --set", "dims = 3  # plan", "seed = 0  # default"):
        assert f"{line}\n" in text


def test_a_config_file_takes_the_place_of_the_plan_and_its_table_for_the_method_counts(toy_data, toy_cache, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text(
        "steps = 9\npatch = [8, 8, 8]\n[net]\nfilters = 2\nlevels = 2\n[method]\nlr = 0.5\n"
        "[methods.simcvd]\ntau = 0.25\n[methods.mean_teacher]\nweight = 7\n"
    )
    output = tmp_path / "run"
    train(toy_data, output=output, method="simcvd", config=str(file), settings=ONE, cache=toy_cache, device="cpu")
    config = open_run(output).config
    assert (config.steps, config.method_fields["tau"], config.method_fields["lr"]) == (1, 0.25, 0.5)
    text = (output / "config.toml").read_text()
    for line in (f"method.tau = 0.25  # {file}", "steps = 1  # --set", "method.name = \"simcvd\"  # --method"):
        assert f"{line}\n" in text
    assert "# plan" not in text


def test_where_nothing_is_unlabelled_the_default_is_supervised(toy_cache, tmp_path):
    data = write_toy_dataset(tmp_path / "data", cases=2, unlabelled=0)
    settings = ["steps=1", "net.filters=2", "patch=[8, 8, 8]"]
    train(data, output=tmp_path / "run", settings=settings, cache=toy_cache, device="cpu")
    assert open_run(tmp_path / "run").config.method_name == "supervised"


@pytest.mark.parametrize(
    ("words", "error", "message"),
    [
        ({"method": "simcdv"}, UnknownMethodError, "no method 'simcdv': did you mean 'simcvd'"),
        ({"settings": {"stpes": 1}}, ConfigError, "unknown key 'stpes' .--set.: did you mean 'steps'"),
        ({"fields": {"wieght": 1}}, ConfigError, "unknown key 'method.wieght' .*: did you mean 'method.weight'"),
        ({"settings": {"stages": {"second": ONE}}}, ConfigError, "'stages.second': mean_teacher has the stages train"),
        ({"settings": {"net": {"name": "vnt"}}}, SemivoxError, "vnet"),
        ({"settings": {"precision": "16"}}, ConfigError, "precision = '16'"),
        ({"split": Path("absent.json")}, DatasetError, "absent.json"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_any_scan_is_prepared(words, error, message, toy_data, tmp_path):
    with pytest.raises(error, match=message):
        train_on(toy_data, tmp_path / "run", cache=tmp_path / "cache", **words)
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "cache").exists()


def test_a_method_that_draws_unlabelled_crops_needs_some(tmp_path):
    data = write_toy_dataset(tmp_path / "data", cases=2, unlabelled=0)
    with pytest.raises(DatasetError, match="draws 2 unlabelled crops a step, but the split has no unlabelled scans"):
        train_on(data, tmp_path / "run", cache=tmp_path / "cache")
    assert not (tmp_path / "run").exists()


def test_a_table_for_a_method_that_does_not_exist_is_no_silent_typo(toy_data, tmp_path):
    file = tmp_path / "mine.toml"
    file.write_text("[methods.simcdv]\ntau = 0.25\n")
    with pytest.raises(UnknownMethodError, match="no method 'simcdv': did you mean 'simcvd'"):
        train_on(toy_data, tmp_path / "run", cache=tmp_path / "cache", config=str(file))


def test_the_pool_is_checked_before_training(toy_data, tmp_path):
    data = shutil.copytree(toy_data, tmp_path / "data")
    for name in ("case_00", "case_01"):
        (data / "labelsTr" / f"{name}.nii.gz").write_bytes(b"no image")
    with pytest.raises(DatasetError, match=r"case_00.*and 1 more: run `semivox check`"):
        train_on(data, tmp_path / "run", cache=tmp_path / "cache")


def test_what_was_prepared_is_what_training_reads(toy_data, tmp_path, monkeypatch):
    (tmp_path / "run.json").write_text("a run in the current folder is none of prepare's business")
    monkeypatch.chdir(tmp_path)
    words = {"method": "simcvd", "settings": {"steps": 1, "patch": [8, 8, 8], "net": {"filters": 2}}}
    seen = []
    cache = tmp_path / "cache"
    folder, size = prepare(toy_data, cache=cache, on_prepared=lambda *word: seen.append(word), **words)
    assert (folder, size) == (cache, cache_size(cache))
    assert seen == [(f"case_0{index}", index + 1, 5) for index in range(5)]
    train(toy_data, output=tmp_path / "run", cache=cache, device="cpu", **words)
    assert cache_size(cache) == size


def renamed(key: str, found: str, other: str):
    def change(data: Path, run: Path) -> None:
        text = (data / "dataset.json").read_text()
        assert found in text, key
        (data / "dataset.json").write_text(text.replace(found, other))

    return change


def replaced_scan(data: Path, run: Path) -> None:
    shutil.copy(data / "imagesTr" / "case_01_0000.nii.gz", data / "imagesTr" / "case_03_0000.nii.gz")


def edited_label(data: Path, run: Path) -> None:
    path = data / "labelsTr" / "case_01.nii.gz"
    label = nib.load(path)
    array = np.asarray(label.dataobj).copy()
    array[0, 0, 0] = 1 - array[0, 0, 0]
    nib.save(nib.Nifti1Image(array, label.affine), path)


def edited_split(data: Path, run: Path) -> None:
    lists = json.loads((run / "split.json").read_text())
    lists["unlabelled"].append(lists["labelled"].pop())
    (run / "split.json").write_text(json.dumps(lists))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (renamed("labels", "blob_1", "tumour"), "classes = .*blob_1.*, found .*tumour"),
        (renamed("channel_names", "MR_0", "CT"), r"channels = \['MR_0'\], found \['CT'\]"),
        (renamed("labels", '"blob_1": 1', '"blob_1": 2'), r"label values = \[0, 1\], found \[0, 2\]"),
        (renamed("labels", '"background": 0', '"background": 0, "ignore": 9'), "ignore label = None, found 9"),
        (replaced_scan, "content of the scan 'case_03' = "),
        (edited_label, "content of the label 'case_01' = "),
        (edited_split, r"split .digest. = "),
    ],
    ids=["classes", "channels", "label values", "ignore label", "scan", "label", "split"],
)
def test_a_run_does_not_go_on_with_other_data(change, message, toy_data, tmp_path):
    data = shutil.copytree(toy_data, tmp_path / "data")
    words = {"cache": tmp_path / "cache", "settings": ONE}
    train_on(data, tmp_path / "run", **words)
    change(data, tmp_path / "run")
    with pytest.raises(RunError, match=f"was started with {message}") as caught:
        train_on(data, tmp_path / "run", resume=True, **words)
    assert "start a new run with another -o" in str(caught.value)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ({"settings": {"steps": 2}}, "steps = 1, found 2"),
        ({"settings": ONE, "fields": {"lr": 0.5}}, "method.lr = .*, found 0.5"),
        ({"settings": ONE, "method": "simcvd"}, "method = 'mean_teacher', found 'simcvd'"),
        ({"settings": ONE, "config": "la2018-small"}, "found"),
    ],
)
def test_a_run_does_not_go_on_with_other_values(words, message, train_toy, tmp_path):
    train_toy(tmp_path, settings=ONE)
    with pytest.raises(RunError, match=f"was started with .*{message}"):
        train_toy(tmp_path, resume=True, **words)


def test_a_run_says_which_labels_it_reads_and_one_of_before_goes_on_with_a_note(train_toy, tmp_path):
    train_toy(tmp_path, settings=ONE)
    facts = json.loads((tmp_path / "run.json").read_text())
    assert set(facts["labels"]) == {"case_00", "case_01", "case_02"}, "of the labelled cases, and of no others"
    del facts["labels"]
    (tmp_path / "run.json").write_text(json.dumps(facts))
    said = []
    assert train_toy(tmp_path, settings=ONE, resume=True, on_note=said.append).finished
    assert sum("does not say with which labels it was started" in note for note in said) == 1


def test_a_run_does_not_go_on_with_another_split(train_toy, toy_data, tmp_path):
    dataset = read_dataset(toy_data)
    for labelled in (1, 2):
        write_split(make_split(dataset, labelled=labelled), tmp_path / f"{labelled}.json")
    train_toy(tmp_path / "run", settings=ONE, split=tmp_path / "1.json")
    with pytest.raises(RunError, match=r"was started with split .digest."):
        train_toy(tmp_path / "run", settings=ONE, split=tmp_path / "2.json", resume=True)
    assert train_toy(tmp_path / "run", settings=ONE, split=tmp_path / "1.json", resume=True).finished


def test_a_run_goes_on_with_less_said_in_another_place_and_with_its_data_elsewhere(toy_data, toy_cache, tmp_path):
    train_on(toy_data, tmp_path / "run", cache=toy_cache, seconds=1e-9)
    data = shutil.copytree(toy_data, tmp_path / "data")
    run = (tmp_path / "run").rename(tmp_path / "moved")
    assert train(data, output=run, resume=True, cache=tmp_path / "cache", device="cpu").finished
    train_on(toy_data, tmp_path / "whole", cache=toy_cache)
    totals = [[row["total"] for row in open_run(path).log_rows()] for path in (run, tmp_path / "whole")]
    assert totals[0] == totals[1]


def test_a_run_remembers_its_folder_of_further_scans(train_toy, tmp_path):
    (tmp_path / "further").mkdir()
    data = write_toy_dataset(tmp_path / "others", cases=1, unlabelled=1, seed=7)
    shutil.copy(data / "imagesTr" / "case_00_0000.nii.gz", tmp_path / "further" / "somebody_0000.nii.gz")
    train_toy(tmp_path / "run", unlabelled=tmp_path / "further", seconds=1e-9)
    assert train_toy(tmp_path / "run", resume=True).finished
    assert "somebody" in open_run(tmp_path / "run").facts["scans"]


def test_resume_starts_where_there_is_nothing_to_go_on_with(train_toy, tmp_path):
    assert train_toy(tmp_path, settings=ONE, resume=True).finished


def test_a_stages_numbers_come_from_its_own_keys_then_the_method_then_the_flat_keys():
    own = own_method("toy_stages")
    load_own(own)
    named = {"name": own.name, "sha256": own.digest}
    config = Config(steps=50, batch_labelled=3, method=named, stages={"second": {"steps": 20}})
    first, second, third = resolve_stages(config, make_method_config(config))
    assert [stage.steps for stage in (first, second, third)] == [3, 20, 50]
    assert [stage.batch_labelled for stage in (first, second, third)] == [3, 3, 3]
    assert [stage.batch_unlabelled for stage in (first, second, third)] == [0, 2, 2]
