"""Method files of one's own: found by path or dotted name, known by their content, refused in one line."""

import sys

import pytest

from semivox.errors import MethodError, SemivoxError, UnknownMethodError
from semivox.methods import list_methods, load_own, method_class, method_module, own_method

CARD = '"""Mine: a method of one\'s own."""\n'
IMPORTS = "from semivox.methods.base import Method, MethodConfig\n"
CONFIG = "class Config(MethodConfig):\n    level: int = LEVEL\n"
METHOD = "class Mine(Method):\n    def forward(self, batch, progress): ...\n    def predict(self, image): ...\n"
WHOLE = CARD + IMPORTS + CONFIG + METHOD


def write(file, text, level=3):
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text.replace("LEVEL", str(level)))
    return file


@pytest.mark.parametrize("word", ["mine.py", "./mine.py", "mine"])
def test_a_file_is_found_by_path_or_by_module_name_in_the_working_folder(word, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "mine.py", WHOLE)
    own = own_method(word)
    assert own.name == "mine"
    assert method_class(load_own(own)).__name__ == "Mine"
    assert "" not in sys.path
    assert "mine" not in sys.modules


def test_a_module_of_a_package_is_found_without_running_the_package(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    write(tmp_path / "lab/__init__.py", "raise AssertionError('the package has run')\n")
    write(tmp_path / "lab/mine.py", WHOLE, level=4)
    assert own_method("lab.mine").name == "lab.mine"
    assert method_module("lab.mine").Config().level == 4
    with pytest.raises(MethodError, match=r"'lab' is a package .*name the module in it, or give the path"):
        own_method("lab")


def test_two_files_of_one_name_are_not_mixed_up_and_one_content_runs_once(tmp_path):
    one, two = (write(tmp_path / str(level) / "mine.py", WHOLE, level=level) for level in (5, 6))
    modules = [method_module(str(file)) for file in (one, two, one)]
    assert [module.Config().level for module in modules] == [5, 6, 5]
    assert modules[0] is modules[2]
    assert method_class(modules[0]) is not method_class(modules[1])


def test_what_ran_is_what_was_read_though_the_file_has_changed_since(tmp_path):
    own = own_method(str(write(tmp_path / "mine.py", WHOLE, level=7)))
    write(tmp_path / "mine.py", WHOLE, level=8)
    assert load_own(own).Config().level == 7


def test_a_file_called_as_a_shipped_method_is_refused_since_reports_would_mix_them_up(tmp_path):
    with pytest.raises(UnknownMethodError, match="give the file another name"):
        own_method(str(write(tmp_path / "supervised.py", WHOLE)))
    assert not {"base_file", "base"} & set(list_methods())


@pytest.mark.parametrize(("text", "told"), [
    (CARD + IMPORTS + "class Config(MethodConfig\n", r"mine\.py, line 3: SyntaxError: .*expected one file with"),
    (CARD + "import no_such_module_of_anyone\n", r"mine\.py, line 2: ModuleNotFoundError: .*installed packages alone"),
    (CARD + "from . import losses\n", r"mine\.py, line 2: ImportError: .*installed packages alone"),
    (CARD + "\n\n1 / 0\n", r"mine\.py, line 4: ZeroDivisionError: division by zero; expected"),
    (CARD + "raise SystemExit(3)\n", r"mine\.py, line 2: SystemExit: 3; expected"),
    (CARD + IMPORTS + CONFIG, r"mine\.py defines 0 subclasses of Method, expected one"),
    (WHOLE + METHOD.replace("Mine", "Other"), r"defines 2 subclasses of Method \(Mine, Other\), expected one"),
    (CARD + IMPORTS + METHOD, r"mine\.py defines no Config, expected a subclass of MethodConfig"),
    (CARD + IMPORTS + "Config = 3\n" + METHOD, r"mine\.py defines no Config"),
    (IMPORTS + CONFIG + METHOD, r"mine\.py has no card, expected a docstring"),
    (WHOLE.replace("predict", "foresee"), r"mine\.py: Mine defines no predict, expected forward and predict"),
    ("\0", r"mine\.py.*: (SyntaxError|ValueError): .*null bytes"),
])  # fmt: skip
def test_a_file_that_is_none_of_a_method_is_told_in_one_line_with_its_place(text, told, tmp_path):
    file = write(tmp_path / "mine.py", text)
    before = set(sys.modules)
    with pytest.raises(MethodError, match=told) as stopped:
        method_module(str(file))
    assert "\n" not in str(stopped.value)
    assert not {name for name in set(sys.modules) - before if name.startswith("semivox_own")}


@pytest.mark.parametrize(("word", "told"), [
    ("nowhere/mine.py", "no method file 'nowhere/mine.py'"),
    ("mean_techer", "did you mean 'mean_teacher'"),
    ("", "no method ''"),
    ("..", "no method '..'"),
])  # fmt: skip
def test_a_word_that_names_nothing_is_refused(word, told, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SemivoxError, match=told):
        own_method(word)
