"""Payloads of NRRD and MetaImage files: where a header says that the values lie, and whether they are all there.

ITK reads both, but stops before a stream's checksum, and follows a header to any file that it names.
"""

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from semivox.data.sizes import refuse_promise
from semivox.data.streams import GZIP, GZIP_OR_ZLIB, MOST_DEFLATED, unpacked, verify
from semivox.errors import DatasetError

ENDINGS = {".mha": ".mha", ".mhd": ".mha", ".nrrd": ".nrrd", ".nhdr": ".nrrd"}
"""The file endings, in lower case, each with that of a file of the same kind that holds its values itself."""

_LONGEST = 2**24  # bytes of a header: one with a text per frame has thousands of lines
_PLAIN, _TEXT = "plain", "text"
_NRRD_PACKINGS: dict[str, str | int] = {
    "raw": _PLAIN, "gzip": GZIP, "gz": GZIP, "ascii": _TEXT, "text": _TEXT, "txt": _TEXT, "hex": _TEXT,
}  # fmt: skip


@dataclass(frozen=True)
class Payload:
    """Where the values of a file lie.

    Attributes:
        file: which has them: the one with the header, or a data file beside it.
        start: byte at which they, or their compressed stream, begin.
        last: whether they are the last bytes of the file instead, and begin there or later.
        packing: "plain", "text", or a kind of stream; see `semivox.data.streams`.
        packed_size: bytes of the stream, where the header says so.
        skipped: bytes of the unpacked stream before the values.
    """

    file: Path
    start: int
    packing: str | int
    last: bool = False
    packed_size: int | None = None
    skipped: int = 0


def find_payload(path: Path) -> Payload:
    """Return where the values of a NRRD or MetaImage file lie; only its header is read.

    Raises:
        DatasetError: in a file that is not there, or that does not lie beside the header; or packed as none is read.
        ValueError: no header that is understood.
    """
    return _meta_payload(path) if path.suffix.lower() in (".mha", ".mhd") else _nrrd_payload(path)


def refuse_misfit(payload: Payload, size: int, value_size: int) -> None:
    """Refuse a payload that cannot be `size` bytes of values, by the sizes of its file alone.

    Raises:
        ValueError: it is too short, or, where it is not packed, too long.
    """
    stored = payload.file.stat().st_size - payload.start
    if payload.packing == _PLAIN:
        refuse_promise(size, stored, exact=not payload.last)
    elif payload.packing == _TEXT:
        refuse_promise(size // value_size, stored)  # a digit each
    else:
        if payload.packed_size not in (None, stored):
            raise ValueError(f"its header promises {payload.packed_size} packed bytes, the file has {stored}")
        refuse_promise(size, stored, most=MOST_DEFLATED)


def verify_payload(payload: Payload, size: int) -> None:
    """Unpack a payload to its last byte, where it is packed, and keep nothing of it.

    Raises:
        ValueError: it is not `size` bytes of values, or its stream has no end.
        zlib.error: the stream is damaged.
    """
    if isinstance(payload.packing, int):
        with payload.file.open("rb") as file:
            file.seek(payload.start)
            verify(unpacked(file, payload.packing), size + payload.skipped)


def _meta_payload(path: Path) -> Payload:
    fields, start = {}, 0
    with path.open("rb") as file:
        while "ElementDataFile" not in fields:
            key, *value = re.split("[=:]", _line(file), maxsplit=1)  # either, as for ITK
            if value:
                fields[key.strip()] = value[0].strip()
        start = file.tell()
        file.seek(0)
        if file.read(start).count(b"ElementDataFile") > 1:  # ITK may take the other one, which is spelt in its own ways
            raise ValueError("its header names the file of its values twice")
    named, binary = fields["ElementDataFile"], _says(fields, "BinaryData", True)
    local = named.upper() == "LOCAL"
    data = path if local else _beside(path, named.removeprefix("./"), is_list=named.upper().startswith("LIST"))
    skip = int(fields.get("HeaderSize", 0))
    packed = _says(fields, "CompressedData", False)
    if packed and "CompressedDataSize" not in fields:
        raise ValueError("its header names no CompressedDataSize")  # ITK then reads rubbish, and says nothing
    return Payload(
        data,
        start=skip if skip > 0 else start if local else 0,
        last=skip < 0,
        packing=GZIP_OR_ZLIB if packed else _PLAIN if binary else _TEXT,
        packed_size=int(fields["CompressedDataSize"]) if packed else None,
    )


def _nrrd_payload(path: Path) -> Payload:
    fields: dict[str, str] = {}
    with path.open("rb") as file:
        if not _line(file).startswith("NRRD"):
            raise ValueError("it does not start as a NRRD does")
        while line := _line(file, may_end="datafile" in fields):
            field, _, value = line.partition(": ")
            fields.setdefault(field.strip().lower().replace(" ", ""), value.strip())
        start = file.tell()
    named, encoding = fields.get("datafile"), fields.get("encoding", "raw").lower()
    if encoding not in _NRRD_PACKINGS:
        raise DatasetError(f"{path}: found the encoding '{encoding}', expected raw or gzip; store it anew")
    data = path if named is None else _beside(path, named.removeprefix("./"), is_list=named.startswith("LIST"))
    start = _after_lines(data, start if named is None else 0, int(fields.get("lineskip", 0)))
    skip, packing = int(fields.get("byteskip", 0)), _NRRD_PACKINGS[encoding]
    if packing == GZIP:
        return Payload(data, start, packing, skipped=skip)
    return Payload(data, start + max(skip, 0), packing, last=skip < 0)


def _line(file: IO[bytes], *, may_end: bool = False) -> str:
    """Return a header's next line without its end; an empty one at the end of the file, where that may be."""
    if file.tell() > _LONGEST or not (line := file.readline(_LONGEST)):
        if may_end:
            return ""
        raise ValueError("its header has no end")
    text = os.fsdecode(line).removesuffix("\n").removesuffix("\r")  # as names of files are
    if "\r" in text:
        raise ValueError("its header has a line within a line")  # for ITK they are two
    return text


def _says(fields: dict[str, str], key: str, default: bool) -> bool:
    """Return a yes or no as MetaImage has it, by its first letter."""
    return fields[key][:1].upper() in ("T", "Y", "1") if key in fields else default


def _after_lines(path: Path, start: int, lines: int) -> int:
    with path.open("rb") as file:
        file.seek(start)
        for _ in range(lines):
            if not file.readline():
                raise ValueError(f"it has fewer lines than the {lines} that its header skips")
        return file.tell()


def _beside(path: Path, named: str, *, is_list: bool) -> Path:
    """Return the data file of a header, which must be one file of the same folder.

    Raises:
        DatasetError: it is a list, a pattern, in another folder, or missing.
    """
    if is_list or "%" in named:
        found = f"values in a list of files ({named})"
    elif not named or named in (".", "..") or any(sign in named for sign in "/\\:\0"):
        found = f"values in the file '{named}'"
    elif not (path.parent / named).is_file():
        found = f"no file '{named}' beside it"
    else:
        return path.parent / named
    raise DatasetError(
        f"{path}: found {found}, expected its values in itself or in one file of its own folder; put that file beside "
        f"it, or store both as one {ENDINGS[path.suffix.lower()]}"
    )
