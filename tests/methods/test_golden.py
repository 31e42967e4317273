"""Golden curves: the losses of ten steps of each stage on toy data, with every method's defaults, are the file's.

After a change of numbers that is meant, write tests/golden anew, by
``PYTHONPATH=tests:tests/methods python tests/methods/test_golden.py [METHOD ...]``, and give CHANGELOG.md a
line marked "numbers change".
"""

import json
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from crops import all_stages

from semivox.methods import list_methods
from semivox.runs.folder import open_run
from toy_training import THREE_LEVELS, TINY
from toy_training import train_toy as train_on_toys
from toys import write_toy_dataset

GOLDEN = Path(__file__).parents[1] / "golden"
DRAWING = ("action", "arco", "dtc", "mona", "pixel_contrast", "secl")
"""They draw pixels, or keep the surest, by the classes that a net finds: where two are equally likely the last bit
decides, and with it who is taken. Between one thread and two their losses differ by up to .0014 of themselves, those of
the others by .000001. DTC's mask is the sign of a distance, as good as: .0033.
"""
UNDROPPED = ("cvrl",)
"""Those whose nets keep all channels. The toy net has two, and where dropout takes both a norm enlarges the last bit of
what is left, which CVRL then compares: between one thread and two its losses differ by .001 with dropout, by .000003
without.
"""
SCALES = ("urpc",)
"""Those that compare the scales of a decoder, of which the toy net, with two levels, has one."""
PAPER = ("mean_teacher", "simcvd")
"""Those whose teacher sees other crops than in the paper; golden/paper has the curves of the published views."""


def curve(method: str, output: Path, train_toy: Callable[..., Any], **further: Any) -> list[dict[str, float]]:
    """Return the loss terms of each of ten steps of every stage; `further` are fields of the method."""
    fields = {"geometry": "affine", "intensity": "weak", **further}  # the defaults, which the toy trainings change
    stages = {stage.name: {"steps": 10} for stage in all_stages(method)}
    settings = {"stages": stages, "checkpoint_every": 10}
    if method in UNDROPPED:
        settings["net"] = {**TINY["net"], "dropout": 0.0}
    if method in SCALES:
        settings["net"] = {**TINY["net"], **THREE_LEVELS}
    train_toy(output, method=method, settings=settings, fields=fields)
    return [row["losses"] for row in open_run(output).log_rows()]


@pytest.mark.parametrize("method", list_methods())
def test_ten_steps_of_each_stage_have_the_losses_of_the_golden_curve(method, train_toy, tmp_path):
    assert_golden(curve(method, tmp_path, train_toy), GOLDEN / f"{method}.json", method)


@pytest.mark.parametrize("method", PAPER)
def test_the_published_views_of_teachers_train_as_they_did(method, train_toy, tmp_path):
    found = curve(method, tmp_path, train_toy, teacher_view="paper")
    assert_golden(found, GOLDEN / "paper" / f"{method}.json", method)


def assert_golden(found: list[dict[str, float]], file: Path, method: str) -> None:
    golden = json.loads(file.read_text())
    assert len(found) == len(golden) == 10 * len(all_stages(method))
    for step, (row, expected) in enumerate(zip(found, golden, strict=True)):
        # As far as CPUs, and numbers of threads, agree: they order sums differently.
        assert row == pytest.approx(expected, rel=1e-2 if method in DRAWING else 1e-4, abs=1e-9), f"step {step}"


def test_every_golden_curve_is_of_a_method():
    assert {path.stem for path in GOLDEN.glob("*.json")} == set(list_methods())


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        data = write_toy_dataset(Path(folder, "data"), cases=5)
        train = partial(train_on_toys, data, cache=Path(folder, "cache"))
        for name in sys.argv[1:] or list_methods():
            rows = ",\n".join(json.dumps(row) for row in curve(name, Path(folder, name), train))
            (GOLDEN / f"{name}.json").write_text(f"[\n{rows}\n]\n")
