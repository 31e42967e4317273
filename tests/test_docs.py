"""README, docs and examples say what is so: links lead somewhere, commands parse, lists are whole."""

import ast
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from semivox.cli.cards import methods_page
from semivox.cli.main import app
from semivox.config.keys import Config, list_configs, parse_settings, validated
from semivox.data import checking, dataset, description, splitting, volume
from semivox.methods import list_methods

ROOT = Path(__file__).parents[1]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
SHIPPED = [*PAGES, *sorted([*ROOT.glob("examples/*.py"), *ROOT.glob("src/semivox/config/shipped/*.toml")])]


FENCED = re.compile(r"^```.*?^```", flags=re.DOTALL | re.MULTILINE)


def commands(page: Path) -> Iterator[str]:
    """Yield the command lines that have a line of their own: in a page's blocks, or indented in a comment."""
    text, start = page.read_text(), "(?:#   |    )"
    if page.suffix == ".md":
        text, start = "\n".join(FENCED.findall(text)), r"(?:\.venv/bin/)?"
    for line in re.findall(rf"^{start}semivox (\w+.*)$", text, flags=re.MULTILINE):
        yield re.split(r"\s{2,}[#(]", line)[0]


COMMANDS = [(page, line) for page in SHIPPED for line in commands(page)]
VERBS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
PARAMETERS = [option for verb in (typer.main.get_command(app), *VERBS.values()) for option in verb.params]
OPTIONS = {word for option in PARAMETERS for word in (*option.opts, *option.secondary_opts)}


def name_of(value: object) -> str:
    return str(value.relative_to(ROOT)) if isinstance(value, Path) else str(value)


def test_the_page_of_results_is_what_the_committed_scores_make():
    made = subprocess.run([sys.executable, "benchmarks/results.py", "page"], cwd=ROOT, capture_output=True, check=True)
    told = "run: python benchmarks/results.py page > docs/results.md"
    assert (ROOT / "docs/results.md").read_text() == made.stdout.decode(), told


def test_the_page_of_published_figures_is_what_the_tables_make():
    made = subprocess.run([sys.executable, "benchmarks/published.py"], cwd=ROOT, capture_output=True, check=True)
    told = "run: python benchmarks/published.py > docs/published.md"
    assert (ROOT / "docs/published.md").read_text() == made.stdout.decode(), told


def test_the_page_of_methods_is_what_the_cards_make():
    page = (ROOT / "docs/methods.md").read_text()
    assert page == methods_page() + "\n", "run: python -m semivox.cli.cards > docs/methods.md"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_relative_link_leads_somewhere(page):
    text = FENCED.sub("", page.read_text())
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        if link.startswith(("http://", "https://")):
            continue
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text(), flags=re.MULTILINE)
            assert anchor in [re.sub(r"[^\w\- ]", "", heading).lower().replace(" ", "-") for heading in headings], link


def test_the_command_lines_are_found():
    assert len(COMMANDS) > 15
    assert {line.split()[0] for _, line in COMMANDS} >= {"check", "split", "train", "predict", "evaluate", "report"}


@pytest.mark.parametrize(("page", "line"), COMMANDS, ids=name_of)
def test_every_command_line_parses(page, line):
    verb, *words = shlex.split(line)
    assert verb in VERBS
    command = typer.main.get_command(app).commands[verb]
    for parameter in command.params:
        parameter.callback = None  # DATA and the like need not exist
    given = command.make_context(verb, words).params
    validated(Config, parse_settings(given.get("settings") or []), where="--set")
    if given.get("method"):
        assert given["method"] in list_methods() or (ROOT / "examples" / given["method"]).exists()
    if given.get("config"):
        assert given["config"] in list_configs() or given["config"].endswith(".toml")
    if "protocol" in given:
        assert (ROOT / given["protocol"]).is_file() or given["protocol"].name.isupper()


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_verbs_and_options_named_in_the_text_exist(page):
    text = FENCED.sub("", page.read_text())
    for span in re.findall(r"`((?:semivox |--)[^`]*)`", text):
        words = span.split()
        if words[0] == "semivox" and words[1][0] not in "-" and not words[1].isupper():
            assert words[1] in VERBS, span
        assert {word for word in words if word.startswith("--")} <= OPTIONS | {"--help", "--debug"}, span


def fault_words() -> Iterator[str]:
    """Yield the fixed parts of what every fault says is wrong, read from the sources."""
    position = {"Fault": 2, "_fault": 1, "_broken": 1}
    for module in (checking, dataset, description, splitting):
        for node in ast.walk(ast.parse(Path(module.__file__).read_text())):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in position:
                what = node.args[position[node.func.id]]
                yield from (n.value for n in ast.walk(what) if isinstance(n, ast.Constant) and len(n.value.strip()) > 3)


def test_the_table_of_faults_has_every_fault_and_its_tolerance():
    page = (ROOT / "docs/data.md").read_text()
    assert len(set(fault_words())) > 25
    assert [words for words in fault_words() if words.strip(" ':") not in page] == []
    for tolerance in (volume.SPACING_TOLERANCE, volume.ORIGIN_TOLERANCE):
        assert f"more than {tolerance:g} mm along an axis" in page
    assert f"more than {volume.DIRECTION_TOLERANCE:g} in a direction cosine" in page
    assert f"more than {volume.WHOLE_TOLERANCE:g} from a whole number" in page
    assert f"cosine is above {checking.SKEW:g}" in page
