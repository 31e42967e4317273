"""Names that are no text, and JSON that is no description and no split: one clear line each."""

import contextlib
import json
import os
from pathlib import Path

import pytest

from semivox.data.checking import check_dataset
from semivox.data.dataset import list_scans, read_dataset
from semivox.data.names import is_plain, shown
from semivox.data.splitting import read_split
from semivox.errors import DatasetError
from toys import write_toy_dataset

DEEP = "[" * 100_000 + "]" * 100_000
HUGE = "1" + "0" * 5_000
LONG = "1" + "0" * 4_000


@pytest.fixture
def folder(tmp_path) -> Path:
    return write_toy_dataset(tmp_path / "toy", cases=4, unlabelled=1, shape=(6, 5, 4))


def one_line(error: BaseException) -> str:
    text = str(error)
    text.encode()  # it can be printed
    assert "\n" not in text
    assert len(text) < 2_000
    return text


def test_plain_text_is_told_from_what_cannot_be_printed_or_written():
    assert [is_plain(name) for name in ("Müller 3", "心臓", "a\xa0b")] == [True] * 3
    assert [is_plain(name) for name in ("", " ", "a\nb", "\udcff", "a\x00", None, 3, ["a"])] == [False] * 8
    assert len(shown({str(n): "x" * 10_000 for n in range(1_000)})) < 2_000
    assert shown("\udcff") == "'\\udcff'"


@pytest.mark.parametrize("place", ["imagesTr", "labelsTr", "imagesUn", "imagesTs"])
@pytest.mark.parametrize("name", [b"caf\xe9_0000.nii.gz", b"a\nb_0000.nii.gz"])
def test_a_file_name_that_is_no_text_is_one_fault_of_check_and_stops_train(place, name, folder):
    (folder / place).mkdir(exist_ok=True)
    odd = os.fsencode(folder / place) + b"/" + name
    with open(odd, "wb") as file:
        file.write((folder / "imagesTr/case_00_0000.nii.gz").read_bytes())
    faults = check_dataset(folder)
    assert [fault.what for fault in faults] == ["names of scans that are no text"]
    assert os.path.basename(str(faults[0]).split(": ")[1]) == place
    str(faults[0]).encode()
    with pytest.raises(DatasetError, match="names of scans that are no text") as caught:
        read_dataset(folder)
    one_line(caught.value)


def test_names_that_are_no_text_are_refused_in_further_folders_and_in_scans_to_predict(folder, tmp_path):
    odd = os.fsencode(tmp_path) + b"/more/p\xff"
    os.makedirs(odd)
    with open(odd + b"/a.nii.gz", "wb"):
        pass
    (tmp_path / "more/b.nii.gz").touch()
    with pytest.raises(DatasetError, match="no text") as caught:
        read_dataset(folder, unlabelled=tmp_path / "more")
    one_line(caught.value)


def test_names_that_are_no_text_are_refused_among_scans_to_predict(tmp_path):
    with open(os.fsencode(tmp_path) + b"/\xff.nii.gz", "wb"):
        pass
    with pytest.raises(DatasetError, match="1 names of scans that are no text") as caught:
        list_scans([tmp_path], 1)
    one_line(caught.value)


DESCRIPTIONS = {
    "deep": DEEP,
    "deep labels": f'{{"labels": {DEEP}}}',
    "deeper than is shown": f'{{"labels": {DEEP[:400] + DEEP[-400:]}}}',
    "huge": f'{{"labels": {{"background": 0, "a": {HUGE}}}}}',
    "long": f'{{"labels": {{"background": 0, "a": {LONG}}}}}',
    "huge key": f'{{"labels": {{"0": "background", "{HUGE}": "a"}}}}',
    "no UTF-8": b"\xff\xfe{}",
    "list": "[]",
    "null": "null",
    "true": '{"labels": {"background": false, "a": true}}',
    "float": '{"labels": {"background": 0, "a": 1e999}}',
    "empty class": '{"labels": {"background": 0, "": 1}}',
    "odd class": '{"labels": {"background": 0, "a\\nb": 1}}',
    "lone surrogate": '{"labels": {"background": 0, "\\ud800": 1}}',
    "odd channel": '{"channel_names": {"0": "\\ud800"}}',
    "channel of lists": f'{{"channel_names": {{"0": {DEEP[:300] + DEEP[-300:]}}}}}',
    "many": json.dumps({"labels": ["x" * 99] * 9999}),
    "name": '{"name": ["a"]}',
    "odd name": '{"name": "a\\u0000"}',
    "ending": '{"file_ending": {}}',
    "training": '{"training": 1e5}',
    "training of lists": f'{{"training": {DEEP[:600] + DEEP[-600:]}}}',
    "regions": '{"labels": {"\\ud800": [1], "b": [[2]]}}',
    "nominal": '{"spacing_is_nominal": 1}',
    "empty": "",
    "nothing": "{}",
}


@pytest.mark.parametrize("kind", DESCRIPTIONS)
def test_a_damaged_description_is_one_line_each(kind, folder):
    content = DESCRIPTIONS[kind]
    if isinstance(content, str) and content.startswith("{"):
        with contextlib.suppress(ValueError, RecursionError):  # else it is of no use to Python's own reader either
            content = json.dumps(json.loads((folder / "dataset.json").read_text()) | json.loads(content))
    (folder / "dataset.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    if kind == "nothing":
        (folder / "dataset.json").write_text("{}")
    with pytest.raises(DatasetError, match=r"dataset\.json") as caught:
        read_dataset(folder)
    one_line(caught.value)
    assert all("\n" not in str(fault) and str(fault).encode() for fault in check_dataset(folder))


SPLITS = {
    "deep": DEEP,
    "deep list": f'{{"labelled": {DEEP[:900] + DEEP[-900:]}}}',
    "huge seed": f'{{"labelled": ["a"], "seed": {HUGE}}}',
    "true seed": '{"labelled": ["a"], "seed": true}',
    "no UTF-8": b'{"labelled": ["\xff"]}',
    "number": "3",
    "null": "null",
    "empty name": '{"labelled": [""]}',
    "odd name": '{"labelled": ["a\\nb"]}',
    "lone surrogate": '{"labelled": ["\\ud800"]}',
    "odd key": '{"labelled": ["a"], "\\ud800": 1}',
    "long key": json.dumps({"labelled": ["a"], "k" * 100_000: 1}),
    "dictionary": '{"labelled": {"a": 1}}',
    "odd patients": '{"labelled": ["a"], "patients": "\\ud800"}',
    "hashes": '{"labelled": ["a"], "hashes": {"a": 3}}',
    "odd hashes": '{"labelled": ["a"], "hashes": {"": "0"}}',
    "fold": '[{"train": "a", "val": ["b"]}]',
    "fold of numbers": '[{"train": ["a"], "val": [3]}]',
    "fold of nothing": '[{"train": null, "val": null}]',
    "nested folds": '[[{"train": ["a"], "val": []}]]',
    "long": json.dumps({"labelled": ["a"], "seed": "x" * 100_000}),
    "empty": "",
}


@pytest.mark.parametrize("kind", SPLITS)
def test_a_damaged_split_is_one_line(kind, tmp_path):
    file, content = tmp_path / "split.json", SPLITS[kind]
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(DatasetError, match=r"split\.json") as caught:
        read_split(file)
    one_line(caught.value)
