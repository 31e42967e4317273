"""TOML: keys and values as text that `tomllib` reads back as they were, and tables under dotted keys."""

import json
import re
from collections.abc import Mapping
from typing import Any

from semivox.errors import ConfigError


def key_text(key: str) -> str:
    """Return a dotted key; parts with anything but letters, digits, - and _ are quoted."""
    return ".".join(map(_bare_or_quoted, key.split(".")))


def value_text(value: Any, *, where: str) -> str:
    """Return a value on one line: a number, a truth value, a string, or a list or table of such.

    Args:
        value: to write.
        where: its key, for the error.

    Raises:
        ConfigError: None, for which TOML has no word, or a value of another kind.
    """
    if isinstance(value, Mapping):
        pairs = (f"{_bare_or_quoted(key)} = {value_text(item, where=where)}" for key, item in value.items())
        return "{" + ", ".join(pairs) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(value_text(item, where=where) for item in value) + "]"
    if isinstance(value, float):
        return repr(value)  # inf and nan are words of TOML, but not those of JSON
    if isinstance(value, bool | int):
        return json.dumps(value)
    if isinstance(value, str):
        return _quoted(value)
    raise ConfigError(f"key '{where}': found {value!r}, expected what TOML can write; leave it out or give another")


def _bare_or_quoted(key: str) -> str:
    return key if re.fullmatch(r"[A-Za-z0-9_-]+", key) else _quoted(key)


def _quoted(text: str) -> str:
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")  # JSON lets DEL pass, TOML does not


def flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested values under dotted keys; an empty table sets nothing."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def nest(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Return values under dotted keys as nested dictionaries.

    Raises:
        ConfigError: a key is used both for a value and for a table.
    """
    nested: dict[str, Any] = {}
    for key, value in flat.items():
        *tables, last = key.split(".")
        table = nested
        for name in tables:
            table = table.setdefault(name, {})
            if not isinstance(table, dict):
                raise ConfigError(f"key '{key}': '{name}' is a value, not a table")
        table[last] = value
    return nested
