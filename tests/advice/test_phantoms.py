"""Bar: where unlabelled scans can help it says that they do, and where they cannot that they do not."""

import importlib.util
from pathlib import Path

import pytest

FILE = Path(__file__).parents[2] / "benchmarks/advice.py"


@pytest.fixture(scope="module")
def phantoms():
    spec = importlib.util.spec_from_file_location("advice_of_phantoms", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.slow
@pytest.mark.parametrize(("kind", "says"), [("varied", "helps"), ("plain", "does not help")])
def test_unlabelled_scans_that_help_and_ones_that_cannot(phantoms, tmp_path, kind, says):
    assert phantoms.row(tmp_path, kind, seed=0)["says"] == says
