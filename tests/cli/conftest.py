"""What the tests of the command line can use."""

import sys

import pytest

from semivox.cli import main as cli


@pytest.fixture
def semivox(monkeypatch, capsys, tmp_path):
    """Return a function that runs a command line in an empty working folder: (exit code, standard output, error)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SEMIVOX_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(sys, "path", list(sys.path))

    def run(*words: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["semivox", *words])
        capsys.readouterr()
        with pytest.raises(SystemExit) as stopped:
            cli.main()
        return stopped.value.code, *capsys.readouterr()

    return run
