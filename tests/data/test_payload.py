"""NRRD and MetaImage: values in one file beside the header are part of the scan, values elsewhere are refused."""

import gzip
import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from numpy.testing import assert_array_equal

from semivox.data.checking import check_dataset
from semivox.data.dataset import list_scans, read_dataset
from semivox.data.formats import files_of, mask_ending, read_raw
from semivox.data.preparation import Recipe, prepare_dataset
from semivox.data.splitting import make_split
from semivox.data.volume import read_image, write_mask
from semivox.errors import DatasetError
from toys import write_toy_dataset

VALUES = np.random.default_rng(0).normal(size=(4, 5, 6)).astype(np.float32)
RECIPE = Recipe(
    dims=3, spacing=None, slice_axis=2, normalise=("volume",), clip=(None,), mean=(None,), std=(None,), classes=2,
    channels=1, label_values=(0, 1),
)  # fmt: skip


def save(path: Path, values: np.ndarray = VALUES, *, packed: bool = False) -> Path:
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(values.T), str(path), useCompression=packed)
    return path


def change(path: Path, old: str, new: str, *, rest: bytes | None = None) -> Path:
    """Change a header's text, and what follows the header where it is given."""
    stored = path.read_bytes()
    end = stored.index(b"LOCAL\n") + 6 if path.suffix == ".mha" else stored.find(b"\n\n") + 2
    head, payload = (stored, b"") if path.suffix in (".mhd", ".nhdr") else (stored[:end], stored[end:])
    assert old.encode() in head
    path.write_bytes(head.replace(old.encode(), new.encode()) + (payload if rest is None else rest))
    return path


def stored_values(path: Path) -> np.ndarray:
    return read_raw(path).array[..., 0]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("ending", [".mhd", ".nhdr"])
def test_a_header_and_its_data_file_are_one_scan(ending, packed, tmp_path):
    path = save(tmp_path / f"a{ending}", packed=packed)
    header, data = files_of(path)
    assert (header, data.parent, data.suffix in (".raw", ".zraw", ".gz")) == (path, tmp_path, True)
    assert list(list_scans([tmp_path], 1).values()) == [(path,)]
    assert_array_equal(stored_values(path), VALUES)
    kept = data.read_bytes()
    data.write_bytes(kept[:-1])
    with pytest.raises(DatasetError, match=rf"a{ending}: found an unreadable or truncated file"):
        read_raw(path)
    data.unlink()
    with pytest.raises(DatasetError, match=rf"a{ending}: found no file '{data.name}' beside it, .*put that file"):
        read_raw(path, pixels=False)


@pytest.mark.parametrize(("ending", "expected"), [(".mhd", ".mha"), (".nhdr", ".nrrd")])
def test_the_mask_of_such_a_scan_is_one_file(ending, expected, tmp_path):
    scan = read_image([save(tmp_path / f"a{ending}")])
    assert mask_ending(scan.path) == expected
    mask = (scan.array[0] > 0).astype(np.uint8)
    with pytest.raises(DatasetError, match=rf"expected {expected}"):
        write_mask(mask, scan, tmp_path / "masks" / f"a{ending}")
    write_mask(mask, scan, tmp_path / "masks" / f"a{expected}")
    assert [path.name for path in (tmp_path / "masks").iterdir()] == [f"a{expected}"]
    assert_array_equal(stored_values(tmp_path / "masks" / f"a{expected}"), VALUES > 0)


@pytest.mark.parametrize(
    "named",
    ["/etc/passwd", "../secret.raw", "sub/secret.raw", "..\\secret.raw", "..", "a%03d.raw 1 2 1", "LIST", "LIST 2"],
)
@pytest.mark.parametrize("ending", [".mhd", ".mha", ".nhdr", ".nrrd"])
def test_values_elsewhere_are_refused_and_their_file_is_not_opened(ending, named, tmp_path):
    folder = tmp_path / "scans"
    (folder / "sub").mkdir(parents=True)
    for secret in (tmp_path, folder, folder / "sub"):
        (secret / "secret.raw").write_bytes(VALUES.tobytes("F"))
    path = save(folder / f"a{ending}")
    if ending in (".mhd", ".mha"):
        change(path, f"ElementDataFile = {'a.raw' if ending == '.mhd' else 'LOCAL'}", f"ElementDataFile = {named}")
    elif ending == ".nhdr":
        change(path, "data file: a.raw", f"data file: {named}")
    else:
        change(path, "encoding: raw", f"encoding: raw\nDataFile: {named}")
    for pixels in (False, True):
        with pytest.raises(DatasetError, match=r"found values in .* expected its values in itself or in one file of "):
            read_raw(path, pixels=pixels)
    with pytest.raises(DatasetError, match="found values in"):
        files_of(path)


@pytest.mark.parametrize(
    ("ending", "hidden"),
    [
        (".mha", "ElementDataFile: {}\n"), (".mha", "ElementDataFile\0= {}\n"), (".mha", "ElementDataFile\n= {}\n"),
        (".nrrd", "content: a\rdata file: {}\n"), (".nrrd", "#\rdata file: {}\n"), (".nrrd", "Data File: {}\n"),
    ],
)  # fmt: skip
def test_values_elsewhere_are_refused_in_all_spellings_that_itk_follows(ending, hidden, tmp_path):
    secret = tmp_path / "secret.raw"
    secret.write_bytes(np.full(VALUES.shape, 7, np.float32).tobytes())
    (tmp_path / "scans").mkdir()
    path = save(tmp_path / "scans" / f"a{ending}")
    old = "ElementDataFile" if ending == ".mha" else "encoding: raw\n"
    change(path, old, hidden.format(secret) + old if ending == ".mha" else old + hidden.format(secret))
    assert (SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))) == 7).all()
    for pixels in (False, True):
        with pytest.raises(DatasetError, match=f"a{ending}: found"):
            read_raw(path, pixels=pixels)


@pytest.mark.parametrize(("ending", "old", "new"), [
    (".mhd", "ElementDataFile = a.raw", "ElementDataFile = ./a.raw"),
    (".mhd", "ElementDataFile = a.raw", "ElementDataFile: a.raw"),
    (".mhd", "ElementDataFile = a.raw", "ElementDataFile : ./a.raw"),
    (".mha", "ElementDataFile = LOCAL", "ElementDataFile: LOCAL"),
    (".nhdr", "data file: a.raw", "data file: ./a.raw"),
])  # fmt: skip
def test_a_data_file_beside_its_header_is_found_in_the_spellings_that_itk_reads(ending, old, new, tmp_path):
    path = change(save(tmp_path / f"a{ending}"), old, new)
    assert_array_equal(SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))).T, VALUES)
    assert_array_equal(stored_values(path), VALUES)
    assert files_of(path)[-1] == (path if ending == ".mha" else tmp_path / "a.raw")


def test_a_changed_data_file_is_a_changed_scan(tmp_path):
    folder = write_toy_dataset(tmp_path / "data", cases=3, unlabelled=1)
    for case in read_dataset(folder).cases.values():
        for path in (*case.images, *filter(None, [case.label])):
            image = SimpleITK.ReadImage(str(path))
            path.unlink()
            SimpleITK.WriteImage(image, str(path).replace(".nii.gz", ".mhd"))
    description = folder / "dataset.json"
    description.write_text(description.read_text().replace(".nii.gz", ".mhd"))
    assert check_dataset(folder) == []
    dataset = read_dataset(folder)
    split = make_split(dataset, labelled=1, held_out=1)
    before = prepare_dataset(dataset, split, RECIPE, tmp_path / "cache")
    case = dataset.case("case_00")
    for header in (*case.images, case.label):
        data = header.with_suffix(".raw")
        kind = np.float32 if header != case.label else np.uint8
        data.write_bytes(np.frombuffer(data.read_bytes(), kind)[::-1].tobytes())
    after = prepare_dataset(dataset, split, RECIPE, tmp_path / "cache")
    assert before["case_00"].content != after["case_00"].content
    assert_array_equal(before["case_00"].label[::-1, ::-1, ::-1], after["case_00"].label)
    (dataset.case("case_02").images[0].with_suffix(".raw")).write_bytes(
        dataset.case("case_00").images[0].with_suffix(".raw").read_bytes()
    )
    assert [fault.what for fault in check_dataset(folder)] == ["duplicate scan"]


def test_a_header_says_where_its_values_begin(tmp_path):
    raw = VALUES.tobytes("F")
    for number, (ending, old, new, rest) in enumerate([
        (".mha", "ElementDataFile", "HeaderSize = -1\nElementDataFile", b"some text" + raw),
        (".nrrd", "encoding: raw", "encoding: raw\nline skip: 1\nbyte skip: 2", b"a line\nzz" + raw),
        (".nrrd", "encoding: raw", "encoding: raw\nbyteskip: -1", b"some text" + raw),
        (".nrrd", "encoding: raw", "encoding: gz\nbyte skip: 2", gzip.compress(b"zz" + raw)),
        (".nrrd", "encoding: raw", "encoding: hex", raw.hex().encode()),
        (".nrrd", "encoding: raw", "encoding: ascii", " ".join(map(repr, VALUES.ravel("F").tolist())).encode()),
    ]):  # fmt: skip
        path = change(save(tmp_path / f"{number}{ending}"), old, new, rest=rest)
        assert_array_equal(stored_values(path), VALUES)
        path.write_bytes(path.read_bytes()[:-30])
        with pytest.raises(DatasetError, match="unreadable or truncated"):
            stored_values(path)


def test_a_data_file_may_have_a_header_of_its_own(tmp_path):
    for ending, old, new in [
        (".mhd", "ElementDataFile = a.raw", "HeaderSize = 4\nElementDataFile = b.raw"),
        (".mhd", "ElementDataFile = a.raw", "HeaderSize = -1\nElementDataFile = b.raw"),
        (".nhdr", "data file: a.raw", "byte skip: 4\ndata file: ./b.raw"),
    ]:
        path = change(save(tmp_path / f"a{ending}"), old, new)
        (tmp_path / "b.raw").write_bytes(b"text" + VALUES.tobytes("F"))
        assert_array_equal(stored_values(path), VALUES)


def test_streams_that_itk_reads_wrong_without_a_word_are_refused(tmp_path):
    packed = zlib.compress(VALUES.tobytes("F"))
    path = save(tmp_path / "a.mha", packed=True)
    size = next(line for line in path.read_text("latin-1").splitlines() if line.startswith("CompressedDataSize"))
    for new, words in (("CompressedDataSize = 7", "promises 7 packed bytes"), ("Comment = no", "names no")):
        with pytest.raises(DatasetError, match=words):
            read_raw(change(save(path, packed=True), size, new))
    path = change(save(tmp_path / "a.nrrd"), "encoding: raw", "encoding: gzip", rest=packed)
    with pytest.raises(DatasetError, match="incorrect header check"):
        read_raw(path)
    path = change(save(tmp_path / "b.nrrd"), "encoding: raw", "encoding: bzip2", rest=b"BZh9")
    with pytest.raises(DatasetError, match="found the encoding 'bzip2', expected raw or gzip"):
        read_raw(path)


@pytest.mark.parametrize("name", ["a.mha", "a.mhd", "a.nrrd", "a.nhdr"])
@pytest.mark.parametrize("stored", [b"", b"NRRD0004\n", b"NRRD0004\ntype: float", b"ObjectType = Image\n", bytes(999)])
def test_a_header_without_an_end_is_refused(name, stored, tmp_path):
    (tmp_path / name).write_bytes(stored)
    with pytest.raises(DatasetError, match=f"{name}: found an unreadable"):
        read_raw(tmp_path / name)
    with pytest.raises(DatasetError, match=f"{name}: found an unreadable header"):
        files_of(tmp_path / name)


def test_a_data_file_may_have_a_name_of_any_letters(tmp_path):
    for ending in (".mhd", ".nhdr"):
        assert_array_equal(stored_values(save(tmp_path / f"M\u00fcller, zwei{ending}")), VALUES)


@pytest.mark.parametrize("ending", [".mha", ".mhd", ".nrrd", ".nhdr"])
def test_a_changed_header_is_read_or_refused_in_one_line(ending, tmp_path):
    random = np.random.default_rng(3)
    whole = save(tmp_path / f"a{ending}", packed=True).read_bytes()
    words = (b"-1", b"0", b"9" * 30, b"1e30", b"nan", b"LIST", b"../a", b"%d", b"\0", b"\n", b"=", b": ", b"\xff", b"")
    path, told = tmp_path / f"changed{ending}", []
    for _ in range(150):
        stored = bytearray(whole)
        for _ in range(random.integers(1, 4)):
            start = random.integers(min(len(stored), 300))
            stored[start : start + random.integers(12)] = words[random.integers(len(words))]
        path.write_bytes(stored)
        for read in (files_of, read_raw):
            try:
                read(path)
            except DatasetError as error:
                told.append(str(error))
    assert len(told) > 100
    assert not [message for message in told if "\n" in message]
