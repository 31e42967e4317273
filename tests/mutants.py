"""Mutants: seeded damage to the files that semivox writes and reads, as disks, editors and people do it."""

import copy
import csv
import io
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch

DEEP = "[" * 50_000 + "]" * 50_000
STRANGE: tuple[Any, ...] = (
    None, True, False, 0, -1, 1, 7, 10**30, -(10**30), 1e308, 0.5, float("nan"), float("inf"), "", " ", "x", "0",
    "../..", "a\x00b", "\ud800", "/dev/null", "é" * 300, [], [None], [[]], [1, 2, 3], ["x"], {}, {"x": 1}, {"": None},
)  # fmt: skip
"""Values that stand where another kind is expected."""


def raw(data: bytes, rng: random.Random) -> bytes:
    """Return the bytes truncated, emptied, with flipped bits, or replaced by what is no text or nests deep."""
    where = rng.randrange(max(1, len(data)))
    flipped = bytearray(data or b"\0")
    flipped[where % len(flipped)] ^= 1 << rng.randrange(8)
    cut, bits = data[:where], bytes(flipped)
    return rng.choice([cut, cut, b"", bits, bits, b"\xff\xfe", b"\0" * 64, DEEP.encode(), b"{}"])


def places(value: Any) -> Iterator[tuple[Any, Any]]:
    """Yield (container, key) of everything within a value."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in list(items):
        yield value, key
        yield from places(item)


def of_tree(tree: Any, rng: random.Random, strange: Callable[[], Any]) -> Any:
    """Return a tree with one item dropped, replaced, nested deeper, or beside one that nobody knows."""
    tree = copy.deepcopy(tree)
    found = list(places(tree))
    if not found:
        return strange()
    container, key = rng.choice(found)
    match rng.randrange(8):
        case 0 | 1:
            del container[key]
        case 2:
            container[key] = [container[key]]
        case 3 if isinstance(container, dict):
            container[rng.choice(["odd", "", "../x"])] = strange()
        case _:
            container[key] = strange()
    return tree


def of_json(data: bytes, rng: random.Random) -> bytes:
    return json.dumps(of_tree(json.loads(data), rng, lambda: rng.choice(STRANGE))).encode()


def of_lines(data: bytes, rng: random.Random) -> bytes:
    """Return a log in which one line is another."""
    lines = data.splitlines()
    number = rng.randrange(len(lines))
    lines[number] = of_json(lines[number], rng) if rng.random() < 0.8 else json.dumps(rng.choice(STRANGE)).encode()
    return b"\n".join(lines) + b"\n"


def of_toml(data: bytes, rng: random.Random) -> bytes:
    """Return a config in which the value of one key is another, or the key is gone or an unknown one."""
    lines = data.decode().splitlines()
    number = rng.randrange(len(lines))
    key = lines[number].partition(" = ")[0]
    values = ["true", "-1", "0", "1" + "0" * 30, "1e308", "nan", "inf", '""', '"x"', '"../.."', "[]", "[[]]", "{}",
              "{ x = 1 }", "[1, 2, 3]", "['x']", "[-1, 0, 1]", DEEP[:2000] + DEEP[-2000:], "1979-05-27"]  # fmt: skip
    lines[number] = rng.choice(["", f"odd.{key} = 1", *[f"{key} = {value}" for value in values]])
    return "\n".join(lines).encode()


def of_table(data: bytes, rng: random.Random) -> bytes:
    """Return a csv in which a cell, a row or a column is another or gone."""
    rows = list(csv.reader(io.StringIO(data.decode())))
    line, column = rng.randrange(len(rows)), rng.randrange(len(rows[0]))
    match rng.randrange(5):
        case 0:
            del rows[line]
        case 1:
            for row in rows:
                del row[column]
        case 2:
            rows[line] = rows[line][:column]
        case _:
            rows[line][column] = str(rng.choice([value for value in STRANGE if value != "\ud800"]))
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def of_checkpoint(data: bytes, rng: random.Random) -> bytes:
    """Return a checkpoint in which a number or a tensor is another kind, shape or type, not finite, or gone."""
    state = torch.load(io.BytesIO(data), weights_only=True)
    tensors = [(container, key) for container, key in places(state) if isinstance(container[key], torch.Tensor)]
    if rng.random() < 0.5:
        container, key = rng.choice(tensors)
        tensor = container[key]
        container[key] = rng.choice(
            [tensor[..., None], tensor.flatten()[:1], tensor.double(), tensor.to(torch.int64), tensor * torch.nan,
             tensor.to(torch.complex64), torch.zeros(0), tensor.flatten().tolist(), tensor.to_sparse()]
        )  # fmt: skip
    else:
        state = of_tree(state, rng, lambda: rng.choice([*STRANGE, torch.zeros(2)]))
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


BY_ENDING = {".json": of_json, ".jsonl": of_lines, ".toml": of_toml, ".csv": of_table, ".pt": of_checkpoint}


def mutate(file: Path, rng: random.Random) -> str:
    """Damage a file in place; return how, for the message."""
    before = file.read_bytes()
    kind = raw if rng.random() < 0.25 else BY_ENDING[file.suffix]
    file.write_bytes(kind(before, rng))
    return kind.__name__
