"""The command line in a process of torchrun, once for each argument; leaves in FILE_rank_N.json what became of it.

``torchrun --nproc-per-node 2 toy_exits.py FILE '{"words": ["train", ...], "broken_rank": 1}'``: in the broken rank the
method cannot be made.
"""

import contextlib
import io
import json
import os
import sys
from pathlib import Path
from typing import Any

from semivox.cli.main import main
from semivox.data import caching
from semivox.errors import ConfigError
from semivox.training import start

RANK = int(os.environ["RANK"])


def refuse(*_: Any, **__: Any) -> None:
    raise ConfigError(f"broken on rank {RANK}")


def outcome(words: list[str], broken_rank: int | None) -> dict[str, Any]:
    """Return the exit code of a command, its lines on standard error, and how many cache entries it wrote."""
    stored = []
    really_make, really_store = start.make_method, caching._store
    start.make_method = refuse if broken_rank == RANK else really_make
    caching._store = lambda entry, *given: (stored.append(entry.name), really_store(entry, *given))
    sys.argv = ["semivox", *words]
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            main()
    except SystemExit as left:
        lines = [line for line in said.getvalue().splitlines() if line.startswith("semivox:")]
        return {"code": left.code, "lines": lines, "stored": len(stored)}
    finally:
        start.make_method, caching._store = really_make, really_store
    raise AssertionError("the command line always exits")


if __name__ == "__main__":
    file = Path(sys.argv[1])  # main replaces sys.argv
    found = [outcome(word["words"], word.get("broken_rank")) for word in list(map(json.loads, sys.argv[2:]))]
    file.with_name(f"{file.name}_rank_{RANK}.json").write_text(json.dumps(found))
