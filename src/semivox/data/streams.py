"""Compressed streams: gzip and zlib, unpacked piece by piece, and verified to their last byte."""

import zlib
from collections.abc import Iterator
from typing import IO

import numpy as np

GZIP = 31
"""zlib's word for a stream that begins and ends as gzip's do."""
GZIP_OR_ZLIB = 47
"""zlib's word for either, told apart by the first bytes."""
MOST_DEFLATED = 1032
"""Bytes that one byte of such a stream can stand for at most: 258 in two bits."""


def unpacked(file: IO[bytes], kind: int = GZIP, *, piece_size: int = 2**20) -> Iterator[bytes]:
    """Yield what a file holds from where it stands to its end, in pieces.

    Several streams may follow each other, as gzip allows; nothing else may follow. zlib itself compares the checksum
    (and gzip's length) at a stream's end, which readers of images never reach: they stop when the image is full.

    Args:
        file: open for reading.
        kind: `GZIP` or `GZIP_OR_ZLIB`.
        piece_size: bytes of a piece at most, and of what is read at once.

    Raises:
        ValueError: the last stream has no end, or something else follows it.
        zlib.error: the stream is damaged.
    """
    stream, waiting = zlib.decompressobj(kind), b""
    while waiting or (waiting := file.read(piece_size)):
        if stream.eof:
            stream = zlib.decompressobj(kind)
        if piece := stream.decompress(waiting, piece_size):
            yield piece
        waiting = stream.unused_data if stream.eof else stream.unconsumed_tail
    while not stream.eof and (piece := stream.decompress(b"", piece_size)):  # what it held back
        yield piece
    if not stream.eof:
        raise ValueError("its compressed stream ends before its checksum")


def filled(pieces: Iterator[bytes], size: int) -> np.ndarray:
    """Return the bytes of all pieces as uint8 (size,).

    Raises:
        ValueError: they are more or fewer.
    """
    buffer, end = np.empty(size, np.uint8), 0
    for piece in pieces:
        if end + len(piece) > size:
            raise ValueError(f"it holds more than the {size} bytes that its header promises")
        buffer[end : end + len(piece)] = np.frombuffer(piece, np.uint8)
        end += len(piece)
    if end < size:
        raise ValueError(f"it holds {end} of the {size} bytes that its header promises")
    return buffer


def verify(pieces: Iterator[bytes], size: int) -> None:
    """Read all pieces, and keep none.

    Raises:
        ValueError: they are not `size` bytes in all.
    """
    found = 0
    for piece in pieces:
        found += len(piece)
        if found > size:
            break
    if found != size:
        raise ValueError(f"it holds {'more' if found > size else found} of the {size} bytes that its header promises")
