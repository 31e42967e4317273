"""Who may import whom: the table of the architecture, read from the sources."""

import ast
import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import semivox

SOURCE = Path(semivox.__file__).parent
TORCH_FREE = (
    "files", "scoring.metrics", "scoring.evaluation", "reporting.report", "data.phantom", "data.dataset", "data.volume",
    "data.splitting",
)
HEAVY = ("torch", "monai", "scipy", "matplotlib", "SimpleITK", "nibabel", "lightning_fabric")

BASE = {"errors", "types", "files"}
BELOW_RUNS = {"ops", "config", "data", "planning", "nets", "methods", *BASE}
BELOW_WORKFLOW = {"benchmarking", "training", "prediction", "runs", "scoring", "reporting", *BELOW_RUNS}
ALLOWED = {
    "errors": set(),
    "types": set(),
    "files": {"errors"},
    "ops": {"errors", "types"},
    "config": {"errors"},
    "data": {"files", "errors", "types"},
    "scoring": {"data", "config", "files", "errors"},
    "planning": {"data", "config", "errors", "types"},
    "nets": {"ops", "errors", "types"},
    "methods": {"nets", "ops", "errors", "types"},
    "reporting": {"scoring", "data", "files", "config", "errors"},
    "reviewing": {"reporting", "scoring", "data", "files", "errors"},
    "runs": {"methods", "nets", "config", *BASE},
    "tracking": {"runs", "config", "errors"},
    "training": {"tracking", "runs", *BELOW_RUNS},
    "prediction": {"runs", "data", "ops", "config", "files", "errors"},
    "exchange": {"reviewing", "prediction", "runs", "scoring", "data", "ops", "files", "errors"},
    "quality": {"prediction", "runs", "scoring", "data", "files", "errors"},
    "benchmarking": {"training", "prediction", "runs", "scoring", "reporting", *BELOW_RUNS},
    "selection": {"reviewing", "prediction", "runs", "nets", "data", "files", "errors", "scoring"},
    "workflow": {"quality", "reviewing", "exchange", *BELOW_WORKFLOW},
    "advice": {"selection", "workflow", *BELOW_WORKFLOW},
    "cli": {"advice", "selection", "workflow", "quality", "exchange", "reviewing", *BELOW_WORKFLOW},
}
"""Who may import whom, one row a room; every room also imports itself."""
LOOSE = {"__init__.py", "errors.py", "types.py", "files.py", "py.typed"}


def imports_of(file: Path) -> set[str]:
    """Return the rooms of semivox that a file imports anywhere."""
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("semivox"):
            parts = node.module.split(".")
            found |= {parts[1]} if len(parts) > 1 else {alias.name for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {a.name.split(".")[1] for a in node.names if a.name.startswith("semivox.")}
    return found


def room_of(file: Path) -> str:
    relative = file.relative_to(SOURCE)
    return relative.parts[0] if len(relative.parts) > 1 else relative.stem


FILES = sorted(SOURCE.rglob("*.py"))


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_every_file_imports_only_what_its_floor_allows(file: Path) -> None:
    room = room_of(file)
    if room == "__init__":
        return
    assert room in ALLOWED, f"{room} has no row in the table"
    assert imports_of(file) - {room} <= ALLOWED[room]


@pytest.mark.parametrize("file", sorted((SOURCE / "methods").glob("*.py")), ids=lambda file: file.stem)
def test_a_method_never_imports_another_method(file: Path) -> None:
    if file.stem in ("__init__", "base"):
        return
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("semivox.methods"):
            assert node.module.startswith("semivox.methods.base")


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(SOURCE)))
def test_every_file_says_on_its_first_line_what_it_is(file: Path) -> None:
    assert file.read_text().startswith(('"""', 'r"""'))
    assert file.stem not in ("utils", "helpers", "misc", "common")


def test_nothing_new_lies_loose_on_the_ground_floor() -> None:
    assert {file.name for file in SOURCE.iterdir() if file.is_file()} == LOOSE


@pytest.mark.parametrize("room", sorted(file.parent.name for file in SOURCE.glob("*/__init__.py")))
def test_a_room_says_in_one_line_what_it_is_for(room: str) -> None:
    lines = (SOURCE / room / "__init__.py").read_text().splitlines()
    assert room == "methods" or len(lines) == 1, "a room's __init__.py is its docstring alone; methods' is the registry"


def test_no_two_rooms_import_each_other_in_a_circle() -> None:
    floors = dict.fromkeys(room for room, allowed in ALLOWED.items() if not allowed)
    while len(floors) < len(ALLOWED):
        next_floor = [room for room, below in ALLOWED.items() if room not in floors and below <= floors.keys()]
        assert next_floor, f"a circle among {ALLOWED.keys() - floors.keys()}"
        floors |= dict.fromkeys(next_floor)


def test_a_module_bears_the_name_of_no_public_function() -> None:
    modules = [module.name for module in pkgutil.walk_packages([str(SOURCE)], "semivox.")]
    for name in modules:
        importlib.import_module(name)
    for name in semivox.__all__:
        value = getattr(semivox, name)
        assert isinstance(value, str) or callable(value), name


@pytest.mark.parametrize("name", TORCH_FREE)
def test_what_only_reads_or_scores_loads_no_torch(name: str) -> None:
    code = f"import sys, semivox.{name}; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_help_loads_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['semivox', '--help']\n"
        "from semivox.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        f"loaded = [name for name in {HEAVY!r} if name in sys.modules]\n"
        "sys.exit(', '.join(loaded) or 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
