"""Pictures: every kind of file gives its own values or a clear refusal; masks are index PNGs, the right way up."""

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import SimpleITK
from numpy.testing import assert_array_equal
from PIL import Image

from scans import save
from semivox.data.formats import mask_ending
from semivox.data.volume import content_hash, read_header, read_image, read_label, write_maps, write_mask
from semivox.errors import DatasetError

ROWS, COLUMNS = 5, 7
RANDOM = np.random.default_rng(0)


def values_of(kind: str, channels: int = 1) -> np.ndarray:
    """Return values over the whole range of a type, (rows, columns[, 3])."""
    shape = (ROWS, COLUMNS) if channels == 1 else (ROWS, COLUMNS, channels)
    if kind == "float32":
        return RANDOM.normal(size=shape).astype(kind)
    limits = np.iinfo(kind)
    return RANDOM.integers(limits.min, limits.max, size=shape, dtype=kind, endpoint=True)


def save_itk(values: np.ndarray, path: Path) -> Path:
    SimpleITK.WriteImage(SimpleITK.GetImageFromArray(values, isVector=values.ndim == 3), str(path))
    return path


def save_png(rows: np.ndarray, bits: int, colour: int, path: Path) -> Path:
    """Write a PNG by hand: what Pillow does not write, such as grey of four bits."""
    packed = b"".join(b"\0" + np.packbits(_bits(row, bits)).tobytes() for row in rows.astype(np.uint16))
    parts = {b"IHDR": struct.pack(">IIBBBBB", rows.shape[1], rows.shape[0], bits, colour, 0, 0, 0)}
    parts |= {b"PLTE": bytes(3 * 2**bits)} if colour == 3 else {}
    parts |= {b"IDAT": zlib.compress(packed), b"IEND": b""}
    chunks = [struct.pack(">I", len(d)) + n + d + struct.pack(">I", zlib.crc32(n + d)) for n, d in parts.items()]
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    return path


def _bits(row: np.ndarray, bits: int) -> np.ndarray:
    return (row[:, None] >> np.arange(bits)[::-1] & 1).ravel()


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    ("ending", "kind"),
    [(".png", "uint8"), (".PNG", "uint16")]
    + [(".tif", kind) for kind in ("uint8", "int8", "uint16", "int16", "uint32", "float32")],
)
def test_grey_and_rgb_come_in_their_own_values_with_rows_first(ending, kind, channels, tmp_path):
    values = values_of(kind, channels)
    path = save_itk(values, tmp_path / f"a{ending.lower()}").rename(tmp_path / f"b{ending}")
    image, header = read_image([path]), read_header(path)
    expected = values.reshape(ROWS, COLUMNS, 1, channels).transpose(3, 0, 1, 2).astype(np.float32)
    assert_array_equal(image.array, expected)
    assert image.spacing == header.spacing == (1, 1, 1)
    assert header.shape == image.shape == (ROWS, COLUMNS, 1)
    assert (header.channels, header.dtype) == (channels, kind)


@pytest.mark.parametrize(("mode", "channels"), [("L", 1), ("RGB", 3)])
def test_a_jpeg_comes_as_it_is_decoded(mode, channels, tmp_path):
    Image.fromarray(values_of("uint8", 3)).convert(mode).save(tmp_path / "a.jpg")
    decoded = np.asarray(Image.open(tmp_path / "a.jpg")).reshape(ROWS, COLUMNS, channels)
    assert_array_equal(read_image([tmp_path / "a.jpg"]).array[..., 0], decoded.transpose(2, 0, 1))
    assert read_header(tmp_path / "a.jpg").channels == channels


@pytest.mark.parametrize(("colour", "bits"), [(0, 1), (0, 2), (0, 4), (0, 8), (0, 16), (3, 1), (3, 2), (3, 4), (3, 8)])
def test_labels_are_the_stored_indices_whatever_their_palette_or_bits(colour, bits, tmp_path):
    indices = RANDOM.integers(0, 2 ** min(bits, 12), size=(ROWS, COLUMNS))
    label = read_label(save_png(indices, bits, colour, tmp_path / "a.png"))
    assert_array_equal(label.array, indices[..., None])


def test_labels_in_tiff_come_from_a_palette_one_bit_or_grey(tmp_path):
    indices = values_of("uint8") % 2
    Image.fromarray(indices).convert("P").save(tmp_path / "palette.tif")
    Image.fromarray(indices.astype(bool)).save(tmp_path / "bit.tif", compression="group4")
    save_itk(indices.astype(np.float32), tmp_path / "float.tif")
    for name in ("bit.tif", "palette.tif", "float.tif"):
        assert_array_equal(read_label(tmp_path / name).array[..., 0], indices)


def test_the_same_picture_in_another_format_is_the_same_scan(tmp_path):
    values = values_of("uint8", 3)
    paths = [tmp_path / "a.png", tmp_path / "a.tif"]
    for path in paths:
        Image.fromarray(values).save(path)
    first, second = (content_hash(read_image([path]).array) for path in paths)
    assert first == second


def test_a_mask_lies_over_its_picture_and_has_a_colour_per_class(tmp_path):
    values = values_of("uint8", 3)
    Image.fromarray(values).save(tmp_path / "a.jpg", quality=95)
    picture = read_image([tmp_path / "a.jpg"])
    indices = np.zeros((ROWS, COLUMNS), np.int64)
    indices[1, 4], indices[4, 0], indices[0, 6] = 1, 20, 255
    assert mask_ending(picture.path) == ".png"
    write_mask(indices[..., None], picture, tmp_path / "mask.png")
    with Image.open(tmp_path / "mask.png") as mask:
        assert mask.mode == "P"
        assert mask.size == (COLUMNS, ROWS)
        assert_array_equal(np.asarray(mask), indices)
        colours = mask.getpalette()
    assert len({tuple(colours[3 * index : 3 * index + 3]) for index in range(40)}) == 40
    assert_array_equal(read_label(tmp_path / "mask.png").array, indices[..., None])


def test_values_beyond_a_byte_take_sixteen_bits(tmp_path):
    picture = read_image([save_itk(values_of("uint16"), tmp_path / "a.png")])
    indices = np.full((ROWS, COLUMNS, 1), 70)
    indices[2, 3] = 300
    write_mask(indices, picture, tmp_path / "mask.png")
    assert_array_equal(read_label(tmp_path / "mask.png").array, indices)


def test_maps_of_a_picture_are_nifti_in_its_rows_and_columns(tmp_path):
    picture = read_image([save_itk(values_of("uint8"), tmp_path / "a.png")])
    maps = RANDOM.random((2, ROWS, COLUMNS, 1)).astype(np.float32)
    write_maps(maps, picture, tmp_path / "a.nii.gz")
    assert_array_equal(read_image([tmp_path / "a.nii.gz"]).array, maps)


@pytest.mark.parametrize(("name", "mask"), [("m.tif", np.ones((5, 7, 1))), ("m.png", np.full((5, 7, 1), 70_000)),
                                            ("m.png", np.full((5, 7, 1), -1))])  # fmt: skip
def test_masks_that_a_png_cannot_hold_are_refused(name, mask, tmp_path):
    picture = read_image([save_itk(values_of("uint8"), tmp_path / "a.png")])
    with pytest.raises(DatasetError, match=r"expected a mask .* ends in \.png"):
        write_mask(mask, picture, tmp_path / name)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.png"]


def test_a_volume_is_not_written_into_a_picture(tmp_path):
    volume = read_image([save(np.zeros((3, 4, 5), np.uint8), tmp_path / "a.nii.gz")])
    with pytest.raises(DatasetError, match="expected a mask"):
        write_mask(volume.array[0], volume, tmp_path / "mask.png")


def test_transparency_print_colours_pages_and_rare_numbers_are_refused_with_the_way_out(tmp_path):
    values = values_of("uint8", 3)
    rgb = Image.fromarray(values)
    rgb.convert("RGBA").save(tmp_path / "rgba.png")
    rgb.convert("RGBA").save(tmp_path / "rgba.tif")
    rgb.convert("CMYK").save(tmp_path / "cmyk.jpg")
    rgb.convert("CMYK").save(tmp_path / "cmyk.tif")
    rgb.save(tmp_path / "pages.tif", save_all=True, append_images=[rgb])
    Image.fromarray(values[..., 0]).save(tmp_path / "frames.png", save_all=True, append_images=[rgb.convert("L")])
    Image.fromarray(values[..., 0].astype(np.float32)).save(tmp_path / "double.tif")
    stored = (tmp_path / "double.tif").read_bytes()
    bits = struct.pack("<HHIH", 258, 3, 1, 32)
    assert bits in stored
    (tmp_path / "double.tif").write_bytes(stored.replace(bits, struct.pack("<HHIH", 258, 3, 1, 64)))
    for name, words in [
        ("rgba.png", "alpha.*remove"), ("rgba.tif", "4 channels.*convert"), ("cmyk.jpg", "mode CMYK.*convert"),
        ("cmyk.tif", "colours 5.*convert"), ("pages.tif", "several pages.*stack"), ("frames.png", "2 frames"),
        ("double.tif", r"\(64,\) bits.*convert"),
    ]:  # fmt: skip
        with pytest.raises(DatasetError, match=rf"{name}: found .*{words}"):
            read_image([tmp_path / name])


@pytest.mark.parametrize("name", ["a.png", "deep.png", "a.jpg", "a.tif"])
def test_truncated_pictures_are_refused_by_name(name, tmp_path):
    values = RANDOM.integers(0, 2**16, size=(64, 64, 3)).astype(np.uint16)
    save_itk(values if name == "deep.png" else values.astype(np.uint8), tmp_path / name)
    stored = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(stored[: len(stored) * 2 // 3])
    with pytest.raises(DatasetError, match=rf"{name}: found an unreadable or truncated file .*copy it again"):
        read_image([tmp_path / name])


def test_a_file_that_only_bears_a_pictures_name_is_refused(tmp_path):
    for name in ("a.png", "a.tif", "a.jpg"):
        (tmp_path / name).write_bytes(b"no picture at all, but long enough")
        with pytest.raises(DatasetError, match=f"{name}: found an unreadable"):
            read_header(tmp_path / name)


def test_a_palette_is_no_image_and_a_jpeg_no_label(tmp_path):
    Image.fromarray(values_of("uint8")).convert("P").save(tmp_path / "a.png")
    Image.fromarray(values_of("uint8")).save(tmp_path / "a.jpg")
    with pytest.raises(DatasetError, match=r"a\.png: found indices of a palette.*convert it to RGB"):
        read_image([tmp_path / "a.png"])
    with pytest.raises(DatasetError, match=r"a\.jpg: found a JPEG.*export it as PNG"):
        read_label(tmp_path / "a.jpg")
