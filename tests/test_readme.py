"""The README: its Python runs as it stands, and its table of methods is the list of methods."""

import re
from pathlib import Path

from semivox.cli.cards import first_sentences

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_python_runs_as_it_stands(tmp_path, monkeypatch, capsys):
    blocks = re.findall(r"^```python\n(.*?)^```", README, flags=re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    monkeypatch.chdir(tmp_path)
    for block in blocks:
        exec(compile(block, "README.md", "exec"), names := {})
    rows = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert [row[:2] for row in rows] == [["phantom_0004", "chamber"], ["phantom_0005", "chamber"]]
    assert all(0 <= float(dice) <= 1 and float(distance) >= 0 for *_, dice, distance in rows)
    assert names["mask"].shape == names["image"].shape
    assert (tmp_path / "mask.nii.gz").read_bytes() == (tmp_path / "masks/phantom_0004.nii.gz").read_bytes()


def test_the_table_of_methods_has_every_method():
    listed = re.findall(r"^\| `(\w+)` \| (.+) \|$", README, flags=re.MULTILINE)
    assert listed == list(first_sentences().items())
