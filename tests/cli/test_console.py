"""What a person sees: plain lines where there is no terminal, a bar where there is one."""

import pytest

from semivox.cli.console import Console, duration, size

ROW = {"total_step": 4, "losses": {"supervised": 0.5, "consistency": 0.0123}, "seconds": 2.0}


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (89, "89 s"), (90, "2 min"), (5399, "90 min"), (5400, "1.5 h"), (9e4, "25.0 h")]
)
def test_a_time_is_told_in_its_own_unit(seconds, text):
    assert duration(seconds) == text


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (3.2e9, "3.2 GB"), (5e15, "5000.0 TB")]
)
def test_a_size_is_told_in_its_own_unit(count, text):
    assert size(count) == text


def test_without_a_terminal_lines_come_now_and_then_and_at_the_end(capsys):
    with Console(every=3600) as console:
        for done in range(1, 4):
            console.show("prepared", done, 3, f"case_{done}")
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == ["prepared 1/3  case_1", "prepared 3/3  case_3"]


def test_a_note_is_written_once(capsys):
    with Console() as console:
        for note in ("memory is short", "few labels", "memory is short"):
            console.note(note)
    assert capsys.readouterr().err.splitlines() == ["note: memory is short", "note: few labels"]


def test_a_row_of_the_log_shows_step_losses_speed_and_time_left(capsys):
    with Console(every=0) as console:
        console.row(ROW, total=10, name="simcvd")
    line = capsys.readouterr().err
    assert line == "simcvd 5/10  supervised 0.5000  consistency 0.0123  2.00 s/step  10 s left\n"


def test_brackets_in_names_are_no_markup(capsys):
    with Console(every=0) as console:
        console.say("[1/2] [bold]case[/bold]")
    assert capsys.readouterr().err == "[1/2] [bold]case[/bold]\n"


def test_on_a_terminal_a_bar_goes_on_from_row_to_row(capsys, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "120")
    with Console() as console:
        console.row(ROW, total=10)
        console.row(ROW | {"total_step": 9}, total=10)
        console.show("predicted", 0, 2, "[a]")
        assert [task.completed for task in console.bar.tasks] == [10, 0]
    shown = capsys.readouterr().err
    assert "10/10" in shown
    assert "[a]" in shown
