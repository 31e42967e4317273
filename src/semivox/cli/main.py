"""The command line: runs a verb, and turns what it raises into one line and an exit code."""

import errno
import signal
import sys
from typing import Any

import typer

from semivox.cli.usage import usage_of
from semivox.cli.verbs import app
from semivox.errors import FailedRunsError, PredictionError, SemivoxError, nearest
from semivox.files import FEW_HANDLES

INTERRUPTED = 130
"""What shells give for Ctrl-C, and typer for a KeyboardInterrupt."""


def main() -> None:
    """Run the command line: exit 0 when done, 1 for our fault or what failed, 2 for the user's, 3, 130.

    3 says that the time of --budget is up, 130 that a signal came: the same command goes on.
    """
    debug = "--debug" in sys.argv
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what a queue sends is told and cleaned up as Ctrl-C is
    words = [word for word in sys.argv[1:] if word != "--debug"] or ["--help"]
    try:
        code = app(words, standalone_mode=False)
    except typer.TyperException as error:
        _fail(_with_nearest(error), further=usage_of(error))
    except SemivoxError as error:
        if debug:
            raise
        _fail("" if error.quiet else error, code=error.exit_code)
    except OSError as error:
        if debug:
            raise
        if error.errno in (errno.EMFILE, errno.ENFILE):
            _fail(FEW_HANDLES)
        _fail(f"{error.filename or 'a file'}: {error.strerror or error}; check the path, the disk and its permissions")
    if code == INTERRUPTED:
        print("semivox: stopped; the same command goes on where it was (train: with --resume)", file=sys.stderr)
    sys.exit(code if isinstance(code, int) else 0)


def _with_nearest(error: typer.TyperException) -> str:
    """Return a usage error on one line, with the nearest known verb where an unknown one was given."""
    text = " ".join(error.format_message().split())
    if text.startswith("No such command"):
        wrong: Any = text.split("'")[1]
        known = [command.name for command in app.registered_commands if command.name]
        return f"there is no verb '{wrong}': {nearest(wrong, known)}"
    return text


def _fail(message: object, *, code: int = 2, further: str = "") -> None:
    """Print what went wrong, on one line, or on one for each scan or run that failed, and exit."""
    lines = [" ".join(line.split()) for line in str(message).splitlines()]
    text = "\n  ".join(lines) if isinstance(message, PredictionError | FailedRunsError) else " ".join(lines)
    if text:
        print(f"semivox: {text}\n{further}", file=sys.stderr, end="")
    sys.exit(code)


if __name__ == "__main__":
    main()
