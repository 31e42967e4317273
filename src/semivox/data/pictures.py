"""Plain pictures: PNG, TIFF and JPEG, grey, RGB or indices of a palette, as arrays of rows and columns.

Pillow reads JPEGs, palettes and whatever has at most eight bits, ITK the rest of TIFF and PNG: Pillow cuts RGB of
sixteen bits to eight, ITK turns a palette's indices into colours. What neither reads right is refused.
"""

import colorsys
import struct
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import SimpleITK
from PIL import Image, TiffImagePlugin

from semivox.data.sizes import refuse_promise
from semivox.data.streams import MOST_DEFLATED
from semivox.errors import DatasetError

ENDINGS = (".png", ".tif", ".tiff", ".jpg", ".jpeg")
"""The file endings of pictures, in lower case."""
LOSSY = (".jpg", ".jpeg")
"""Those whose compression changes values, so that they cannot hold labels."""
PALETTE = "palette"
"""The type of a picture whose values are indices of a palette."""
MOST_PIXELS = 178_956_970
"""More are refused, whoever reads them: it is the number beyond which Pillow refuses."""

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_COLOURS = {0: (1, "grey"), 2: (3, "RGB"), 3: (1, PALETTE)}  # alpha is 4 and 6
_TIFF_COLOURS = {1: (1, "grey"), 2: (3, "RGB"), 3: (1, PALETTE)}
_TIFF_TYPES = {
    (1, 1): "uint8", (8, 1): "uint8", (16, 1): "uint16", (32, 1): "uint32",
    (8, 2): "int8", (16, 2): "int16", (32, 2): "int32", (32, 3): "float32",
}  # fmt: skip
_TIFF_PACKINGS = {1: 1, 5: 2048, 8: MOST_DEFLATED, 32946: MOST_DEFLATED, 32773: 64}
"""By compression, the bytes that one byte can stand for at most; of the others there is no such number."""
_EXPECTED = "grey, RGB or a palette, without transparency"


@dataclass(frozen=True)
class Kind:
    """What a picture's header says.

    Attributes:
        rows: pixels from top to bottom.
        columns: pixels from left to right.
        channels: 3 for RGB, else 1.
        dtype: name of the stored type, or `PALETTE`.
        bits: per channel.
    """

    rows: int
    columns: int
    channels: int
    dtype: str
    bits: int

    @property
    def deep(self) -> bool:
        """Whether ITK has to read it: the file may have more than Pillow would give."""
        return self.dtype not in ("uint8", PALETTE)


def is_picture(path: Path) -> bool:
    """Return whether a file's ending is that of a picture."""
    return Path(path).suffix.lower() in ENDINGS


def is_lossy(path: Path) -> bool:
    """Return whether a file's ending is that of a picture that cannot hold labels."""
    return Path(path).suffix.lower() in LOSSY


def read_kind(path: Path) -> Kind:
    """Return what a picture's header says; its pixels are not read.

    Raises:
        DatasetError: several pages, transparency, another kind of colours or numbers than those that are read, or more
            than `MOST_PIXELS`.
        Exception: whatever a damaged file makes its reader raise.
    """
    ending = path.suffix.lower()
    kind, most = _png_kind(path) if ending == ".png" else _jpeg_kind(path) if ending in LOSSY else _tiff_kind(path)
    if kind.rows * kind.columns > MOST_PIXELS:
        raise _refusal(path, f"{kind.rows} x {kind.columns} pixels", "cut it into tiles", f"at most {MOST_PIXELS}")
    if most is not None:
        promised = kind.rows * (kind.columns * kind.channels * kind.bits // 8)
        refuse_promise(promised, path.stat().st_size, most=most)
    return kind


def read_pixels(path: Path, kind: Kind) -> np.ndarray:
    """Return a picture's values (rows, columns, channels) in their stored type; a palette's indices are uint8.

    Raises:
        DatasetError: several frames.
        Exception: whatever a damaged file makes its reader raise; of a PNG, each damaged byte.
    """
    if path.suffix.lower() == ".png":
        _verify_png(path)
    if kind.deep:
        ending = path.suffix.lower()
        values = SimpleITK.GetArrayFromImage(
            SimpleITK.ReadImage(str(path), imageIO="PNGImageIO" if ending == ".png" else "TIFFImageIO")
        )
    else:
        values = _pillow_pixels(path, kind)
    return values.reshape(kind.rows, kind.columns, kind.channels)


def drawn_as_scan(array: np.ndarray) -> np.ndarray:
    """Return (..., rows, columns, 1) as (..., X, Y, 1) of the scan that is drawn the same way up.

    A scan is drawn with its front at the top and its right at the left; see `semivox.reporting.slices.draw_slice`.
    """
    return np.flip(np.swapaxes(array, -3, -2), (-3, -2))


def write_indices(indices: np.ndarray, path: Path) -> None:
    """Write values (rows, columns) as an index PNG: 8 bits with a palette of distinct colours, or 16 bits of grey.

    Raises:
        DatasetError: the ending is not .png, or a value is negative or above 65535.
    """
    low, high = int(indices.min(initial=0)), int(indices.max(initial=0))
    if path.suffix.lower() != ".png" or low < 0 or high > 65535 or indices.ndim != 2:
        raise DatasetError(
            f"{path.name}: found values {low} to {high} of shape {indices.shape}, expected a mask (rows, columns) with "
            "values 0 to 65535 for a file that ends in .png; write other masks as .nii.gz"
        )
    if high > 255:
        Image.fromarray(indices.astype(np.uint16)).save(path)
        return
    picture = Image.fromarray(indices.astype(np.uint8))
    picture.putpalette(_palette())
    picture.save(path)


def _png_kind(path: Path) -> tuple[Kind, int | None]:
    with path.open("rb") as file:
        head = file.read(26)
    if head[:8] != _PNG_SIGNATURE or len(head) < 26:
        raise ValueError("it does not start as a PNG does")
    columns, rows, bits, colour = struct.unpack(">IIBB", head[16:26])
    if colour not in _PNG_COLOURS:
        raise _refusal(path, "a PNG with transparency (alpha)", "remove the alpha channel")
    channels, word = _PNG_COLOURS[colour]
    dtype = PALETTE if word == PALETTE else "uint16" if bits == 16 else "uint8"
    return Kind(rows, columns, channels, dtype, bits), MOST_DEFLATED


def _verify_png(path: Path) -> None:
    """Compare the checksum of every part of a PNG, which its readers do of some.

    Raises:
        ValueError: one differs, or the last part is missing.
    """
    with path.open("rb") as file:
        file.seek(len(_PNG_SIGNATURE))
        name = b""
        while name != b"IEND":
            length, name = struct.unpack(">I4s", file.read(8))
            checksum = zlib.crc32(file.read(length), zlib.crc32(name))
            if file.read(4) != struct.pack(">I", checksum):
                raise ValueError(f"the checksum of its part {name.decode('latin-1')} differs")


def _jpeg_kind(path: Path) -> tuple[Kind, int | None]:
    with _opened(path, formats=["JPEG"]) as picture:
        mode, (columns, rows) = picture.mode, picture.size
    if mode not in ("L", "RGB"):
        raise _refusal(path, f"a JPEG of mode {mode}", "convert it to RGB")
    return Kind(rows, columns, len(mode), "uint8", 8), None


def _tiff_kind(path: Path) -> tuple[Kind, int | None]:
    with path.open("rb") as file:
        head = file.read(8)
        tags = TiffImagePlugin.ImageFileDirectory_v2(head + file.read(8) if head[2:3] == b"\x2b" else head)
        file.seek(tags.next)
        tags.load(file)
    if tags.next:
        raise _refusal(path, "a TIFF of several pages", "write one file per picture, or a stack as .nii.gz")
    # Tags: 262 colours, 258 bits, 339 kind of numbers, 277 channels, 284 channels beside each other.
    bits, numbers, samples = tags.get(258, (1,)), tags.get(339, (1,)), tags.get(277, 1)
    channels, word = _TIFF_COLOURS.get(tags.get(262, -1), (0, ""))
    dtype = _TIFF_TYPES.get((bits[0], numbers[0]), "")
    plain = word != PALETTE or (bits[0], numbers[0]) == (8, 1)
    if not (channels == samples == len(bits) and dtype and plain and tags.get(284, 1) == 1 and len({*bits}) == 1):
        found = f"colours {tags.get(262)}, {samples} channels of {bits} bits, numbers of kind {numbers}"
        raise _refusal(path, f"a TIFF ({found})", "convert it to grey or RGB of 8, 16 or 32 bits, channels together")
    kind = Kind(tags[257], tags[256], channels, PALETTE if word == PALETTE else dtype, bits[0])
    return kind, _TIFF_PACKINGS.get(tags.get(259, 1))


def _refusal(path: Path, found: str, fix: str, expected: str = _EXPECTED) -> DatasetError:
    return DatasetError(f"{path}: found {found}, expected {expected}; {fix}")


@contextmanager
def _opened(path: Path, formats: list[str] | None = None) -> Iterator[Image.Image]:
    """Give a picture that Pillow has opened; one that is too large for Pillow is refused, never warned of.

    Raises:
        DatasetError: more than `MOST_PIXELS`.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # from half of the limit on
            picture = Image.open(path, formats=formats)
    except Image.DecompressionBombError:
        raise _refusal(path, "more pixels than are read", "cut it into tiles", f"at most {MOST_PIXELS}") from None
    with picture:
        yield picture


def _pillow_pixels(path: Path, kind: Kind) -> np.ndarray:
    with _opened(path) as picture:
        if getattr(picture, "n_frames", 1) > 1:
            raise _refusal(path, f"{getattr(picture, 'n_frames', 1)} frames", "write one file per picture")
        values = np.asarray(picture).astype(np.uint8)
    if kind.dtype != PALETTE and 1 < kind.bits < 8:  # Pillow spreads grey over 0 to 255
        values = values // np.uint8(255 // (2**kind.bits - 1))
    return values


def _palette() -> list[int]:
    """Return 256 colours as (r, g, b, r, g, b, ...): black, then hues that lie far from those just before, white."""
    colours = [colorsys.hsv_to_rgb(index * 0.618034 % 1, 0.75, 0.95) for index in range(1, 255)]
    return [round(255 * part) for colour in [(0, 0, 0), *colours, (1, 1, 1)] for part in colour]
