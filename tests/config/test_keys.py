"""Values from plan, file and command line become one config, and every fault is one line with the nearest key."""

import math
import tomllib

import pytest

from semivox.config.keys import (
    Config,
    config_text,
    flatten,
    for_method,
    list_configs,
    nest,
    parse_settings,
    read_config,
    resolve_config,
)
from semivox.errors import ConfigError
from semivox.methods import method_class, method_module
from semivox.runs.building import make_method_config


def methods_of(config: str) -> set[str]:
    """The methods that a shipped config speaks of, or the control where it names none."""
    values = read_config(config)
    return {values.get("method", {}).get("name", "supervised"), *values.get("methods", {})}


SHIPPED = [(name, method) for name in list_configs() for method in sorted(methods_of(name))]


def test_later_sources_win_and_every_value_knows_its_source():
    plan = {"steps": 100, "patch": [8, 8, 8], "net": {"filters": 8, "levels": 3, "norm": "batch"}}
    file = {"patch": [16, 16, 16], "net": {"filters": 4, "levels": 2}}
    config, sources = resolve_config([("plan", plan), ("x.toml", file), ("--set", {"net": {"levels": 4}})])
    assert (config.seed, config.steps, config.patch) == (0, 100, (16, 16, 16))
    assert (config.net.dropout, config.net.norm, config.net.filters, config.net.levels) == (0.5, "batch", 4, 4)
    assert sources == {
        "steps": "plan",
        "patch": "x.toml",
        "net.norm": "plan",
        "net.filters": "x.toml",
        "net.levels": "--set",
    }


def test_an_empty_table_erases_nothing():
    config, sources = resolve_config([("plan", {"method": {"name": "simcvd"}}), ("x.toml", {"method": {}, "net": {}})])
    assert config.method_name == "simcvd"
    assert sources == {"method.name": "plan"}


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("stpes=5", "unknown key 'stpes' (--set): did you mean 'steps'?"),
        ("net.filtres=5", "unknown key 'net.filtres' (--set): did you mean 'net.filters'?"),
        ("stages.train.stesp=5", "unknown key 'stages.train.stesp' (--set): did you mean 'stages.train.steps'?"),
        ("qqqq=5", "unknown key 'qqqq' (--set): known: batch_labelled, "),
        ("steps=soon", "key 'steps' (--set): found 'soon', but input should be a valid integer"),
        ("determinism=fats", "key 'determinism' (--set): found 'fats', but input should be 'fast' or 'strict'"),
        ("patch=[8, 8, 8.5]", "key 'patch.2' (--set): found 8.5, but input should be a valid integer"),
        ("net=vnet", "key 'net' (--set): found 'vnet', but input should be a valid dictionary"),
        ("net.dropout=1", "key 'net.dropout' (--set): found 1, but input should be less than 1"),
        ("dims=2", "key 'patch' has 3 numbers, but dims = 2: give one per axis"),
    ],
)
def test_a_value_that_no_run_can_have_is_refused_in_one_line(setting, words):
    with pytest.raises(ConfigError) as caught:
        resolve_config([("plan", {"patch": [8, 8, 8]}), ("--set", parse_settings([setting]))])
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"ema_deacy": 0.5}, "unknown key 'method.ema_deacy' (method.mean_teacher): did you mean 'method.ema_decay'?"),
        ({"lr": -1}, "key 'method.lr' (method.mean_teacher): found -1, but input should be greater than 0"),
    ],
)
def test_a_field_of_a_method_is_checked_by_the_method(fields, words):
    with pytest.raises(ConfigError) as caught:
        make_method_config(Config(method={"name": "mean_teacher", **fields}))
    assert str(caught.value) == words


@pytest.mark.parametrize(("name", "method"), SHIPPED)
def test_every_shipped_config_is_valid_for_every_method_that_it_speaks_of(name, method):
    values = for_method(read_config(name), method)
    config, _ = resolve_config([(name, values), ("--method", {"method": {"name": method}})])
    fields = {"name": method, **make_method_config(config).model_dump(mode="json")}
    said = values["method"] | {"name": method}
    assert {key: fields[key] for key in said} == said
    known = {stage.name for stage in method_class(method_module(method)).stages(make_method_config(config))}
    assert set(config.stages) <= known


def test_configs_are_shipped_and_an_unknown_one_names_the_nearest():
    assert "la2018-small" in list_configs()
    with pytest.raises(ConfigError, match="shipped config 'la2018-smal': did you mean 'la2018-small'"):
        read_config("la2018-smal")


def test_simcvd_by_dropout_alone_is_the_published_setting_without_noise():
    published, alone = read_config("simcvd-la2018"), read_config("simcvd-la2018-dropout")
    assert alone["methods"]["simcvd"].pop("noise") == 0
    assert alone == published


PUBLISHED = {
    "dims": 3, "foreground": 0, "steps": 6000, "batch_labelled": 2, "batch_unlabelled": 2,
    "net": {"name": "vnet", "norm": "batch", "filters": 16, "levels": 5, "strides": None, "dropout": 0.5},
    "predict": {"blend": "plain", "mirror": False, "largest_component": False},
    "method": {
        "geometry": "turns", "intensity": "none",
        "optimizer": "sgd", "lr": 0.01, "momentum": 0.9, "nesterov": False, "weight_decay": 5e-4,
        "schedule": "drop", "drops": (0.5,), "ema_decay": 0.999, "warm_start": True,
        "weight_sdm": 0.1, "weight_contrast": 0.5, "weight_distillation": 0.1, "weight_consistency": 0.1, "tau": 0.5,
        "ramp": "all", "teacher_view": "paper", "alpha_dropout": 0.1, "pool": 128, "pool_kind": "avg", "noise": 0.1,
        "sdm": True, "sdm_norm": "crop", "extra": "none", "contrast_slices": None, "reduction": "mean",
    },
}  # fmt: skip
LEFT_ATRIUM = {
    "patch": (112, 112, 80), "spacing": None, "predict": {"stride": (18, 18, 4)},
    "prepare": {"normalise": "volume", "clip": None},
}  # fmt: skip
PANCREAS = {
    "patch": (96, 96, 96), "spacing": (1, 1, 1), "predict": {"stride": (16, 16, 16)},
    "prepare": {"normalise": "volume", "clip": (-125, 275)},
}  # fmt: skip


@pytest.mark.parametrize(
    ("name", "numbers"),
    [
        ("simcvd-la2018", LEFT_ATRIUM),
        ("simcvd-la2018-dropout", LEFT_ATRIUM | {"method": {"noise": 0}}),
        ("simcvd-pancreas", PANCREAS),
    ],
)
def test_the_configs_of_the_paper_train_with_its_numbers(name, numbers):
    config, _ = resolve_config([(name, for_method(read_config(name), "simcvd"))])
    found = flatten({**config.model_dump(), "method": make_method_config(config).model_dump()})
    expected = flatten(PUBLISHED) | flatten(numbers)
    assert config.method_name == "simcvd"
    assert {key: found[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("name", "patch", "resize", "batch"),
    [("voc", (320, 320), None, 10), ("cityscapes", (512, 512), (512, 1024), 2), ("sun-rgbd", (320, 320), None, 5)],
)
def test_the_configs_of_pictures_train_deeplab_with_the_numbers_of_their_protocol(name, patch, resize, batch):
    config, _ = resolve_config([(name, for_method(read_config(name), "supervised"))])
    method = make_method_config(config)
    assert (config.dims, config.patch, config.resize, config.steps) == (2, patch, resize, 40_000)
    assert (config.batch_labelled, config.batch_unlabelled) == (batch, batch)
    assert (config.net.name, config.net.options) == ("smp:DeepLabV3Plus", {"encoder_name": "resnet101"})
    assert (method.optimizer, method.nesterov, method.momentum) == ("sgd", True, 0.9)
    assert (method.lr, method.weight_decay, method.schedule) == (2.5e-3, 5e-4, "poly")


def test_a_method_sees_the_shared_fields_and_its_own_table_and_no_other():
    file = {"steps": 5, "method": {"lr": 0.1, "tau": 1}, "methods": {"a": {"tau": 2}, "b": {"tau": 3, "pool": 4}}}
    assert for_method(file, "a") == {"steps": 5, "method": {"lr": 0.1, "tau": 2}}
    assert for_method(file, "c") == {"steps": 5, "method": {"lr": 0.1, "tau": 1}}


def test_a_methods_table_may_hold_its_stages():
    file = {"steps": 5, "methods": {"a": {"lr": 0.1, "stages": {"first": {"steps": 2}}}}}
    assert for_method(file, "a") == {"steps": 5, "method": {"lr": 0.1}, "stages": {"first": {"steps": 2}}}
    assert for_method(file, "b") == {"steps": 5, "method": {}}


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ({"method": "simcvd"}, "key 'method' is a table of fields, found 'simcvd'"),
        ({"methods": 3}, "key 'methods' is a table of fields, found 3"),
        ({"methods": {"simcvd": 3}}, "key 'methods.simcvd' is no table, found 3"),
    ],
)
def test_what_should_be_a_table_and_is_none_is_named(file, words):
    with pytest.raises(ConfigError, match=words):
        for_method(file, "simcvd")


def test_settings_are_read_as_toml_or_as_words():
    words = ["steps=5", "method.tau = 0.5", "patch=[8, 8]", "net.name=unet", "predict.mirror=true", "label="]
    assert parse_settings(words) == {
        "steps": 5,
        "method": {"tau": 0.5},
        "patch": [8, 8],
        "net": {"name": "unet"},
        "predict": {"mirror": True},
        "label": "",
    }
    with pytest.raises(ConfigError, match="--set takes key=value, found 'steps 5'"):
        parse_settings(["steps 5"])
    with pytest.raises(ConfigError, match=r"key 'net.name': 'net' is a value, not a table"):
        parse_settings(["net=vnet", "net.name=unet"])


@pytest.mark.parametrize("word", ["None", "none", "null"])
def test_a_word_for_nothing_unsets_a_key_and_is_no_text(word):
    values = parse_settings([f"spacing={word}", f"predict.stride={word}", f'label="{word}"'])
    before = {"spacing": [1, 1, 1], "predict": {"stride": [9] * 3}}
    config, sources = resolve_config([("config", before), ("set", values)])
    assert (config.spacing, config.predict.stride, config.label) == (None, None, word)
    assert sources["spacing"] == "set"
    with pytest.raises(ConfigError, match=r"'predict.step_size' \(--set\): found None, but input should be"):
        resolve_config([("--set", parse_settings([f"predict.step_size={word}"]))])


def test_the_text_of_a_config_reads_back_as_the_same_config():
    config = Config(
        label='β 😀 "quoted" \\ #',
        patch=(8, 8, 16),
        spacing=(1.0, 1e-5, 2.5),
        net={"strides": ((2, 2, 1),), "levels": 2, "options": {"act": "relu", "deep": {"blocks": [1, 2]}}},
        method={"name": "simcvd", "lr": 1e-7, "head_sizes": [8, 4], "sdm": False},
        stages={"train": {"steps": 3, "batch_unlabelled": 0}},
        prepare={"clip": (-math.inf, 1e20)},
    )
    text = config_text(config, {"patch": "--set"})
    assert resolve_config([("text", tomllib.loads(text))])[0] == config
    assert "patch = [8, 8, 16]  # --set\n" in text
    assert "seed = 0  # default\n" in text


def test_arguments_of_a_monai_net_read_back_whatever_they_nest():
    options = {"act": ["prelu", {"num_parameters": 1, "odd key": {"": [[1, 2], ["a\x7f\t"]]}}], "ü": [float("-inf")]}
    config = resolve_config([("--set", {"net": {"name": "UNet", "options": options}})])[0]
    read = tomllib.loads(config_text(config, {}))
    assert read["net"]["options"] == options
    assert resolve_config([("text", read)])[0] == config


def test_what_toml_cannot_say_is_refused_and_not_dropped():
    config = Config(net={"options": {"act": ["relu", None]}})
    with pytest.raises(ConfigError, match=r"'net\.options\.act': found None"):
        config_text(config, {})


def test_values_that_may_be_unset_are_unset_by_default_so_that_a_text_may_leave_them_out():
    flat = flatten(Config().model_dump())
    assert nest(flat) == {key: value for key, value in Config().model_dump().items() if value != {}} | {
        "net": {key: value for key, value in Config().net.model_dump().items() if value != {}}
    }
    assert {key for key, value in flat.items() if value is None} == {
        "spacing", "resize", "net.strides", "prepare.clip", "prepare.normalise", "prepare.boxes", "predict.stride",
    }  # fmt: skip
