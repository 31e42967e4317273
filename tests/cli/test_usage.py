"""Usage: help, version and completion load nothing heavy, and what is missing is answered with an example."""

import os
import shlex
import subprocess
import sys

import pytest
import typer

from semivox import __version__
from semivox.cli.verbs import EXAMPLES, app

HEAVY = ("torch", "monai", "scipy", "matplotlib", "SimpleITK", "nibabel", "lightning_fabric")
VERBS = [command.name for command in app.registered_commands]


def test_the_version_is_told(semivox):
    assert semivox("--version") == (0, f"semivox {__version__}\n", "")


@pytest.mark.parametrize("verb", VERBS)
def test_h_is_help(verb, semivox):
    code, out, _ = semivox(verb, "-h")
    assert code == 0
    assert out == semivox(verb, "--help")[1]
    assert out.startswith("Usage: ")
    assert "Example: semivox " in " ".join(out.split())


def test_help_tells_the_exit_codes(semivox):
    out = " ".join(semivox("-h")[1].split())
    for words in ("0 done", "1 our fault, or scans", "2 something that you can mend", "3 the time", "130 interrupted"):
        assert words in out


@pytest.mark.parametrize(("words", "missing", "usage"), [
    (["train"], "argument 'DATA'", "train DATA -o OUTPUT [OPTIONS]"),
    (["split", "."], "option '-o' / '--output'", "split DATA -o OUTPUT [OPTIONS]"),
    (["predict"], "argument 'RUN... SCANS...'", "predict RUN... SCANS... -o OUTPUT [OPTIONS]"),
    (["report"], "argument 'SCORES...'", "report SCORES... [OPTIONS]"),
    (["bench"], "argument 'PROTOCOL'", "bench PROTOCOL [OPTIONS]"),
])  # fmt: skip
def test_what_is_missing_is_answered_with_the_usage_and_an_example(words, missing, usage, semivox):
    code, out, err = semivox(*words)
    assert (code, out) == (2, "")
    first, second, third = err.splitlines()
    assert first == f"semivox: Missing {missing}."
    assert second.startswith("Usage: ")
    assert second.endswith(f" {usage}")
    assert third.startswith(f"Example: semivox {words[0]} ")


@pytest.mark.parametrize("example", EXAMPLES.values())
def test_every_example_parses(example):
    program, verb, *words = shlex.split(example)
    command = typer.main.get_command(app).commands[verb]
    for parameter in command.params:
        parameter.callback = None  # DATA and the like need not exist
    command.make_context(verb, words)
    assert program == "semivox"


COMPLETING = f"""
import sys
sys.argv = ["semivox"]
from semivox.cli.main import main
try:
    main()
except SystemExit:
    pass
sys.exit(", ".join(name for name in {HEAVY} if name in sys.modules) or 0)
"""


def completed(words: str) -> list[str]:
    """Return what the shell offers behind words, and see that nothing heavy was loaded for it."""
    asked = {"_SEMIVOX_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(len(words.split()) - 1)}
    done = subprocess.run(
        [sys.executable, "-c", COMPLETING], env=os.environ | asked, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.split()


def test_a_shell_completes_verbs_and_options():
    assert completed("semivox pre") == ["prepare", "predict"]
    assert completed("semivox train --meth") == ["--method"]


def test_the_shells_script_is_shown(semivox):
    code, out, _ = semivox("--show-completion", "bash")
    assert code == 0
    assert "COMPREPLY=" in out
