"""A damaged file is noticed: one flipped bit of what is packed, in an image or a label, by every reader."""

import gzip
import io
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from numpy.testing import assert_array_equal
from PIL import Image

import thresholding
from semivox.data.checking import check_dataset
from semivox.data.dataset import read_dataset
from semivox.data.preparation import Recipe, prepare_dataset
from semivox.data.splitting import Split
from semivox.data.streams import GZIP, GZIP_OR_ZLIB, filled, unpacked, verify
from semivox.data.volume import read_file, read_image, read_label
from semivox.errors import DatasetError, SemivoxError
from semivox.prediction.files import predict
from toys import write_description

FLIPS = 200
RANDOM = np.random.default_rng(5)
LABEL = RANDOM.integers(0, 2, (24, 20, 20)).astype(np.uint8)
RECIPE = Recipe(
    dims=3, spacing=None, slice_axis=2, normalise=("volume",), clip=(None,), mean=(None,), std=(None,), classes=2,
    channels=1, label_values=(0, 1),
)  # fmt: skip


def save(values: np.ndarray, path: Path) -> Path:
    """Write an array packed, in the format of the path's ending."""
    if path.name.endswith(".nii.gz"):
        path.write_bytes(gzip.compress(nib.Nifti1Image(values, np.eye(4)).to_bytes(), mtime=0))
    elif path.suffix == ".png":
        Image.fromarray(values[..., 0].astype(np.uint8)).save(path)
    else:
        SimpleITK.WriteImage(SimpleITK.GetImageFromArray(values.T), str(path), useCompression=True)
    return path


def start_of_payload(path: Path) -> int:
    """Return the byte at which what is packed begins, after the headers of file and stream."""
    stored = path.read_bytes()
    if path.suffix == ".nrrd":
        return stored.index(b"\n\n") + 12
    return {".gz": 10, ".png": 8}.get(path.suffix) or stored.index(b"LOCAL\n") + 6


def damaged(path: Path, count: int = FLIPS) -> Iterator[int]:
    """Flip one bit of a file's payload after the other, and put each right before the next."""
    whole = path.read_bytes()
    for bit in np.random.default_rng(9).integers(8 * start_of_payload(path), 8 * len(whole), count).tolist():
        changed = bytearray(whole)
        changed[bit // 8] ^= 1 << bit % 8
        path.write_bytes(changed)
        yield bit
    path.write_bytes(whole)


def noticed(read: Callable[[], object]) -> bool:
    try:
        read()
    except DatasetError:
        return True
    return False


@pytest.fixture(params=[".nii.gz", ".mha", ".nrrd", ".png"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A data folder with one labelled scan, packed."""
    folder = tmp_path / "data"
    for name in ("imagesTr", "labelsTr"):
        (folder / name).mkdir(parents=True)
    write_description(folder, channels=1, classes=2, training=1)
    if request.param == ".png":
        (folder / "dataset.json").write_text((folder / "dataset.json").read_text().replace(".nii.gz", ".png"))
    label = LABEL[..., 2:3] if request.param == ".png" else LABEL
    image = (label * 90 + RANDOM.integers(0, 100, label.shape)).astype(np.int16)
    save(image, folder / "imagesTr" / f"a_0000{request.param}")
    save(label, folder / "labelsTr" / f"a{request.param}")
    description = (folder / "dataset.json").read_text()
    (folder / "dataset.json").write_text(description.replace('".nii.gz"', f'"{request.param}"'))
    return folder


@pytest.mark.parametrize("which", ["image", "label"])
def test_a_flipped_bit_is_noticed_by_check_and_by_preparation(which, folder, tmp_path):
    case = read_dataset(folder).case("a")
    path = case.images[0] if which == "image" else case.label
    read = (lambda: read_image([path])) if which == "image" else (lambda: read_label(path))
    split, whole = Split(("a",), (), ()), read().array
    assert check_dataset(folder) == []
    idle = 0
    for bit in damaged(path):
        cache = tmp_path / f"cache{bit}"
        if not noticed(read):  # what fills up the last byte, or other bits for the very same content
            idle += 1
            assert_array_equal(read().array, whole)
            continue
        assert [fault.what for fault in check_dataset(folder)] == [f"{path.name} cannot be read"]
        assert noticed(lambda cache=cache: prepare_dataset(read_dataset(folder), split, RECIPE, cache))
    assert idle <= FLIPS // 50


def test_a_flipped_bit_is_noticed_by_prediction(folder, tmp_path):
    run = thresholding.write_run(tmp_path / "run")
    image = next((folder / "imagesTr").iterdir())
    assert any(noticed(lambda: read_image([image])) for _ in damaged(image))  # and the file stays damaged
    with pytest.raises(SemivoxError, match=image.name):
        predict([run], [image], output=tmp_path / "masks")
    assert not [path for path in (tmp_path / "masks").glob("*") if path.name.startswith("a.")]


@pytest.mark.parametrize(
    "rest", [b"\0", b"garbage", gzip.compress(b"more")[:-1], gzip.compress(b"more")],
    ids=["zero", "garbage", "part", "member"],
)  # fmt: skip
def test_what_follows_a_scan_in_its_file_is_noticed(rest, folder):
    if not (path := next((folder / "imagesTr").iterdir())).name.endswith(".png"):
        path.write_bytes(path.read_bytes() + rest)
        assert noticed(lambda: read_file(path))


def test_a_lost_end_is_noticed_down_to_the_last_byte(folder):
    path = next((folder / "imagesTr").iterdir())
    whole = path.read_bytes()
    for lost in range(1, 13):
        path.write_bytes(whole[:-lost])
        assert noticed(lambda: read_file(path))


def test_several_gzip_members_are_one_scan(tmp_path):
    stored = nib.Nifti1Image(LABEL, np.eye(4)).to_bytes()
    path = tmp_path / "a.nii.gz"
    path.write_bytes(b"".join(gzip.compress(stored[start : start + 100]) for start in range(0, len(stored), 100)))
    assert_array_equal(read_file(path).array[0], LABEL)


def test_a_packed_scan_has_the_very_values_that_nibabel_gives(tmp_path):
    for number, kind in enumerate([np.uint8, ">i2", np.int32, ">f4", np.float64]):
        image = nib.Nifti1Image(RANDOM.integers(0, 99, (3, 4, 5)).astype(kind), np.diag([2, 3, 4, 1.0]))
        for header in (image, nib.Nifti2Image.from_image(image)):
            for slope, inter in ((1, 0), (0.37, 0), (1, -1024), (0.01, 7.5)):
                header.header.set_slope_inter(slope, inter)
                for ending in (".nii", ".nii.gz"):
                    path = tmp_path / f"{number}{ending}"
                    stored = header.to_bytes()
                    path.write_bytes(gzip.compress(stored) if ending == ".nii.gz" else stored)
                    expected = np.asanyarray(nib.load(path).dataobj)
                    found = read_file(path).array[0]
                    assert found.dtype == expected.dtype
                    assert_array_equal(found, expected)


def test_a_stream_is_unpacked_in_small_pieces_and_filled_exactly():
    for packed, kind in ((gzip.compress(bytes(10**6)), GZIP), (zlib.compress(bytes(10**6)), GZIP_OR_ZLIB)):
        pieces = list(unpacked(io.BytesIO(packed), kind, piece_size=1000))
        assert max(map(len, pieces)) <= 1000
        assert len(filled(iter(pieces), 10**6)) == 10**6
        verify(iter(pieces), 10**6)
        for size in (10**6 - 1, 10**6 + 1):
            for take in (filled, verify):
                with pytest.raises(ValueError, match="that its header promises"):
                    take(iter(pieces), size)
