"""Assembly: names that are none, and stages that share few steps."""

import pytest

from semivox.config.keys import Config
from semivox.errors import ConfigError
from semivox.runs.building import make_method_config
from semivox.training.assembly import resolve_stages
from semivox.training.start import train


@pytest.mark.parametrize("where", ["--set", "config"])
def test_a_methods_name_that_is_no_name_is_refused(where, tmp_path, toy_data, toy_cache):
    words = {"settings": {"method": {"name": 3}}} if where == "--set" else {"config": str(tmp_path / "mine.toml")}
    (tmp_path / "mine.toml").write_text("method.name = 3\n")
    with pytest.raises(ConfigError, match=r"'?method.name'?.*3"):
        train(toy_data, output=tmp_path / "run", cache=toy_cache, device="cpu", **words)


def test_tables_of_methods_that_are_no_tables_are_refused(tmp_path, toy_data, toy_cache):
    (tmp_path / "mine.toml").write_text("methods = 3\n")
    with pytest.raises(ConfigError, match="'methods'"):
        train(toy_data, output=tmp_path / "run", cache=toy_cache, device="cpu", config=str(tmp_path / "mine.toml"))


@pytest.mark.parametrize("steps", [1, 2, 4])
def test_every_stage_takes_at_least_one_step(steps):
    config = Config(steps=steps, method={"name": "averaged_match", "warm": 0.9})
    assert all(stage.steps >= 1 for stage in resolve_stages(config, make_method_config(config)))
