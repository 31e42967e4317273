"""Names: text that can be printed, written and read again, and short words for values that cannot be used."""

import reprlib
import unicodedata

_short = reprlib.Repr()
_short.maxdict = _short.maxlist = _short.maxtuple = 10
_short.maxstring = _short.maxother = 100
_short.maxlong = 40


def is_plain(name: object) -> bool:
    """Return whether a value is text with something in it, without control characters or bytes that are no UTF-8."""
    return isinstance(name, str) and bool(name.strip()) and not {"Cc", "Cs"} & {*map(unicodedata.category, name)}


def shown(value: object) -> str:
    r"""Return a value as a person can read it in one line, however long or deep it is.

    >>> shown({"a": "x" * 1000})[:12], shown("\udcff")
    ("{'a': 'xxxxx", "'\\udcff'")
    """
    return _short.repr(value)
