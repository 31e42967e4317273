"""Downloads: tables as CSV inside the page, with all digits."""

import csv
import io
from urllib.parse import unquote

from semivox.reporting.downloads import csv_uri
from semivox.scoring.comparison import compare, summarise
from semivox.scoring.likeness import group_scores
from semivox.scoring.scores import read_scores


def rows(uri):
    head, text = uri.split(",", 1)
    assert head == "data:text/csv;charset=utf-8"
    return list(csv.DictReader(io.StringIO(unquote(text), newline="")))


def test_cells_keep_their_digits_and_what_is_undefined_is_empty():
    found = rows(csv_uri([{"a": 1 / 3, "b": float("nan"), "c": None}, {"a": 2, "b": "x, \"y\" & 100 %\n#", "c": "ä"}]))
    assert found == [{"a": str(1 / 3), "b": "", "c": ""}, {"a": "2", "b": "x, \"y\" & 100 %\n#", "c": "ä"}]


def test_nothing_in_it_ends_an_attribute_or_breaks_off_the_file():
    uri = csv_uri([{"<b>'\"&": "#?\udce9"}])
    assert not set("<>\"'&#? \n") - {" "} & set(uri)
    assert rows(uri) == [{"<b>'\"&": "#?\\udce9"}]


def test_nested_values_and_the_verdict_are_columns(tmp_path):
    for name, dice in (("a", ".5"), ("b", ".75")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "s.csv").write_text("case,label,dice\n" + "".join(f"{n},1,{dice}\n" for n in range(9)))
    groups = group_scores([read_scores(tmp_path / name / "s.csv") for name in "ab"])
    compared = compare(groups[1], groups[0], "dice")
    [found] = rows(csv_uri([compared]))
    assert (found["group"], found["difference"], found["verdict"]) == ("b", "0.25", compared.verdict)
    [found] = rows(csv_uri([summarise(groups[0], "dice")]))
    assert (found["mean"], found["label"]) == ("0.5", "")
    assert rows(csv_uri([{"run": 1, "means": {"dice": 0.5, "asd": 2}}])) == [{"run": "1", "dice": "0.5", "asd": "2"}]
