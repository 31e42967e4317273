"""A request: the words of a training as one value."""

from pathlib import Path

from semivox.training.request import Request


def test_words_and_nested_values_mean_the_same():
    nested = {"steps": 2, "method": {"lr": 0.5}}
    assert Request(Path(), settings=["steps=2", "method.lr=0.5"]).values == Request(Path(), settings=nested).values


def test_without_a_config_nothing_is_given_and_with_one_its_table_for_the_method_counts(tmp_path):
    (tmp_path / "mine.toml").write_text("steps = 9\n[method]\nlr = 0.5\n[methods.simcvd]\nlr = 0.25\n")
    assert Request(Path()).given_for("simcvd") == {"method": {}}
    request = Request(Path(), config=str(tmp_path / "mine.toml"))
    assert request.given_for("simcvd") == {"steps": 9, "method": {"lr": 0.25}}
    assert request.given["methods"] == {"simcvd": {"lr": 0.25}}


def test_the_cache_is_the_users_where_none_is_named(tmp_path, monkeypatch):
    monkeypatch.setenv("SEMIVOX_CACHE", str(tmp_path))
    assert Request(Path()).cache_folder == tmp_path
    assert Request(Path(), cache=tmp_path / "other").cache_folder == tmp_path / "other"
