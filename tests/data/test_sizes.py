"""A header that asks for more than its file can hold, or than the memory has, is refused before anything is read."""

import gzip
import json
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest
import SimpleITK
from PIL import Image

import thresholding
from semivox.data import sizes
from semivox.data.checking import check_dataset
from semivox.data.dataset import read_dataset
from semivox.data.preparation import Recipe, prepare_dataset
from semivox.data.splitting import Split
from semivox.data.volume import read_header, read_image
from semivox.errors import DatasetError, GeometryError, SemivoxError
from semivox.prediction.files import predict
from toys import write_toy_dataset

RECIPE = Recipe(
    dims=3, spacing=None, slice_axis=2, normalise=("volume",), clip=(None,), mean=(None,), std=(None,), classes=2,
    channels=1, label_values=(0, 1),
)  # fmt: skip
META = "ObjectType = Image\nNDims = 3\nDimSize = {0} {0} {0}\nElementType = MET_FLOAT\n{1}ElementDataFile = LOCAL\n"
PACKED = "CompressedData = True\nCompressedDataSize = 8\n"
NRRD = "NRRD0004\ntype: float\ndimension: 3\nsizes: {0} {0} {0}\nencoding: {1}\nendian: little\n\n"

MEASURED = """
import json, resource, sys
from pathlib import Path
import nibabel, numpy, SimpleITK
from PIL import Image
from semivox.data.volume import read_header, read_image
from semivox.errors import SemivoxError
def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
told = {}
for name in sys.argv[1:]:
    for read in (read_header, lambda path: read_image([path])):
        before = peak()
        try:
            read(Path(name))
            told[name] = ["read", 0]
        except SemivoxError as error:
            told[name] = [str(error), peak() - before]
print(json.dumps(told))
"""


def nifti_header(sides: tuple[int, ...]) -> bytes:
    header = nib.Nifti1Header()
    header.set_data_dtype(np.float32)
    header.set_data_shape(sides)
    return header.binaryblock + bytes(4)


def png(sides: tuple[int, int], body: bytes, *, bits: int = 8) -> bytes:
    stored = b"\x89PNG\r\n\x1a\n"
    header = struct.pack(">IIBBBBB", *sides, bits, 0, 0, 0, 0)
    for name, part in ((b"IHDR", header), (b"IDAT", zlib.compress(body)), (b"IEND", b"")):
        stored += struct.pack(">I", len(part)) + name + part + struct.pack(">I", zlib.crc32(name + part))
    return stored


def bombs(folder: Path) -> list[Path]:
    """Write files of at most a few MB that ask for gigabytes to terabytes."""
    jpeg = folder / "a.jpg"
    Image.new("L", (8, 8)).save(jpeg)
    stored = jpeg.read_bytes()
    place = stored.index(b"\xff\xc0") + 5
    tiff = folder / "small.tif"
    Image.new("L", (7, 7)).save(tiff)
    wide = tiff.read_bytes()
    for tag in (256, 257):
        assert struct.pack("<HHII", tag, 4, 1, 7) in wide
        wide = wide.replace(struct.pack("<HHII", tag, 4, 1, 7), struct.pack("<HHII", tag, 4, 1, 13_000))
    files = {
        "five_gb.nii.gz": gzip.compress(nifti_header((1100, 1100, 1100))),
        "most.nii.gz": gzip.compress(nifti_header((32767, 32767, 32767))),
        "channels.nii.gz": gzip.compress(nifti_header((1100, 1100, 1, 1100))),
        "most.nii": nifti_header((32767, 32767, 32767)),
        "zeros.nii.gz": gzip.compress(nifti_header((32767, 32767, 32767)) + bytes(10**8)),
        "raw.mha": META.format(1100, "").encode(),
        "packed.mha": META.format(32767, PACKED).encode() + zlib.compress(b""),
        "raw.nrrd": NRRD.format(1100, "raw").encode(),
        "packed.nrrd": NRRD.format(32767, "gzip").encode() + gzip.compress(b""),
        "text.nrrd": NRRD.format(1100, "ascii").encode() + b"1 2 3",
        "wide.png": png((50_000, 50_000), b""),
        "zeros.png": png((50_000, 50_000), bytes(50_000 * 2000)),
        "deep.png": png((13_000, 13_000), b"", bits=16),
        "small.tif": wide,
        "a.jpg": stored[:place] + struct.pack(">HH", 50_000, 50_000) + stored[place + 4 :],
    }
    for name, content in files.items():
        (folder / name).write_bytes(content)
    return [folder / name for name in files]


def test_bombs_end_in_one_line_and_little_memory(tmp_path):
    paths = bombs(tmp_path)
    assert paths[0].stat().st_size < 100
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *map(str, paths)], capture_output=True, text=True, check=True
    )  # fmt: skip
    told = json.loads(done.stdout)
    assert done.stderr == ""
    for path in paths:
        message, kilobytes = told[str(path)]
        assert message.startswith(f"{path}: found "), message
        assert "\n" not in message
        assert kilobytes < 100_000, (path.name, kilobytes)


@pytest.mark.parametrize("name", ["five_gb.nii.gz", "raw.mha", "packed.nrrd"])
def test_check_preparation_and_prediction_refuse_them_too(name, tmp_path):
    folder = write_toy_dataset(tmp_path / "data", cases=2, unlabelled=1)
    bomb = next(path for path in bombs(tmp_path) if path.name == name)
    (folder / "imagesTr" / "case_01_0000.nii.gz").unlink()
    bomb.rename(folder / "imagesTr" / f"case_01_0000{''.join(bomb.suffixes)}")
    assert [(fault.severity, fault.case) for fault in check_dataset(folder)] == [("error", "case_01")]
    split = Split(("case_00",), ("case_01",), ())
    with pytest.raises(DatasetError, match=r"case_01.* promises \d+ bytes of values"):
        prepare_dataset(read_dataset(folder), split, RECIPE, tmp_path / "cache")
    run = thresholding.write_run(tmp_path / "run")
    with pytest.raises(SemivoxError, match=r"case_01.* promises \d+ bytes of values"):
        predict([run], [folder / "imagesTr"], output=tmp_path / "masks")


@pytest.mark.parametrize("ending", [".nii.gz", ".nii", ".mha", ".nrrd", ".png"])
def test_a_scan_larger_than_the_free_memory_is_refused_before_it_is_read(ending, tmp_path, monkeypatch):
    path = tmp_path / f"a{ending}"
    if ending == ".png":
        Image.new("L", (200, 100)).save(path)
    else:
        SimpleITK.WriteImage(SimpleITK.Image([200, 10, 10], SimpleITK.sitkUInt8), str(path))
    monkeypatch.setattr(sizes, "SMALL", 0)
    monkeypatch.setattr(sizes, "free_memory", lambda: 20_000 * (1 + 4))
    assert read_image([path]).array.size == 20_000
    monkeypatch.setattr(sizes, "free_memory", lambda: 20_000 * (1 + 4) - 1)
    for read in (read_header, lambda path: read_image([path])):
        with pytest.raises(DatasetError, match=rf"a{ending}: found \d+ x .* of memory that are free; crop"):
            read(path)


def test_the_free_memory_is_that_of_this_machine():
    assert 2**20 < sizes.free_memory() < 2**50


@pytest.mark.parametrize("change", [2, -2])
@pytest.mark.parametrize("ending", [".nii", ".mha", ".nrrd"])
def test_an_unpacked_file_has_exactly_the_bytes_that_its_header_promises(ending, change, tmp_path):
    path = tmp_path / f"a{ending}"
    SimpleITK.WriteImage(SimpleITK.Image([9, 8, 7], SimpleITK.sitkInt16), str(path))
    stored = path.read_bytes()
    path.write_bytes(stored + bytes(change) if change > 0 else stored[:change])
    with pytest.raises(DatasetError, match=r"promises \d+ bytes of values, the file has \d+ bytes"):
        read_header(path)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_a_side_of_no_voxels_is_refused(ending, tmp_path):
    nib.save(nib.Nifti1Image(np.zeros((4, 0, 3), np.uint8), np.eye(4)), tmp_path / f"a{ending}")
    with pytest.raises(DatasetError, match="found 4 x 0 x 3 x 1 voxels and channels, expected at least one of each"):
        read_header(tmp_path / f"a{ending}")


@pytest.mark.parametrize("column", [0.0, 1e-30, 1e-5, 1e-320])
def test_an_axis_without_length_is_a_fault(column, tmp_path):
    folder = write_toy_dataset(tmp_path / "data", cases=1, unlabelled=0)
    affine = np.diag([1e20 if column == 1e-30 else 1.0, 1.0, column, 1.0])
    image = nib.Nifti1Image(np.ones((4, 4, 4), np.uint8), None)
    image.header["sform_code"] = 1
    for row, name in enumerate(("srow_x", "srow_y", "srow_z")):
        image.header[name] = affine[row]
    path = folder / "imagesTr" / "case_00_0000.nii.gz"
    path.write_bytes(gzip.compress(image.header.binaryblock + bytes(4) + bytes(64)))
    with pytest.raises(GeometryError, match=r"found (the affine|voxels of)"):
        read_header(path)
    assert "error" in [fault.severity for fault in check_dataset(folder)]
