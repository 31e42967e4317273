"""Plans that fit data and device, and say what they cost and where they fall short."""

import json
import math

import pytest

from semivox.config.keys import resolve_config
from semivox.data.phantom import SHAPE, SPACING
from semivox.errors import ConfigError
from semivox.nets.build import MakeNet
from semivox.planning.costs import Setup, step_memory
from semivox.planning.fingerprint import Fingerprint
from semivox.planning.measured import step_cost
from semivox.planning.plan import make_plan, parse_memory, plan_dataset
from toys import write_toy_dataset

ATRIUM = ((576, 576, 88), (0.625, 0.625, 1.25))
SHORT_AXIS = ((256, 216, 10), (1.4, 1.4, 10.0))
PHANTOM = (SHAPE, SPACING)
TINY = ((20, 18, 12), (1.0, 1.0, 2.0))
PICTURE = ((600, 400, 1), (1.0, 1.0, 1.0))
SCANS = [ATRIUM, SHORT_AXIS, PHANTOM, TINY, PICTURE]


def plan(scan, **changes):
    shape, spacing = scan
    found = Fingerprint((shape,) * 24, (spacing,) * 24, ("MR",), ("background", "organ"), (None,))
    arguments = {"method": "mean_teacher", "memory": 10**10, "device": "cpu", "labelled": 4, "unlabelled": 20}
    return make_plan(found, **arguments | changes)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("scan", SCANS)
def test_every_plan_is_a_config_whose_net_takes_its_patch(scan, device):
    made = plan(scan, device=device)
    config, sources = resolve_config([("plan", made.values)])
    assert sources["net.strides"] == "plan"
    net = config.net
    MakeNet(net.name, dims=config.dims, channels=1, classes=2, levels=net.levels, strides=net.strides)
    for axis, length in enumerate(config.patch):
        assert length % math.prod(stride[axis] for stride in net.strides) == 0
    json.dumps(made.to_json())


@pytest.mark.parametrize("scan", SCANS)
@pytest.mark.parametrize("memory", [2 * 10**9, 8 * 10**9, 4 * 10**10])
def test_a_plan_keeps_to_the_memory_it_is_given(scan, memory):
    made = plan(scan, memory=memory, device="cuda")
    assert made.memory <= memory
    values = made.values
    streams = {"labelled": values["batch_labelled"], "unlabelled": values["batch_unlabelled"]}
    cost = step_cost("mean_teacher", values["dims"])
    setup = Setup(values["patch"], values["net"]["strides"], values["net"]["filters"], **streams, method=cost)
    assert made.memory == step_memory(setup, "cuda")


def test_more_memory_gives_a_larger_patch():
    small, large = (math.prod(plan(ATRIUM, memory=m, device="cuda").values["patch"]) for m in (4 * 10**9, 10**10))
    assert small < large


def test_memory_that_nothing_fits_in_is_said():
    made = plan(ATRIUM, memory=10**8, device="cuda")
    assert any(line.startswith("memory: about") for line in made.warnings)
    assert made.values["batch_labelled"] == 1
    assert made.values["net"]["filters"] == 8


@pytest.mark.parametrize("scan", SCANS)
def test_a_cpu_plan_trains_in_an_hour_or_two_and_sees_half_of_a_scan(scan):
    made = plan(scan)
    values, (shape, spacing) = made.values, scan
    assert values["steps"] * made.seconds <= 2 * 3600
    axes = range(3) if values["dims"] == 3 else (0, 1)
    for axis, length in zip(axes, values["patch"], strict=True):
        assert length * values["spacing"][axis] >= 0.48 * shape[axis] * spacing[axis]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_budget_chooses_the_steps_and_nothing_else(device):
    """To the hundred below; four times the time is four times the steps, beyond what the papers take too."""
    plain, short, long = (plan(ATRIUM, device=device, seconds=s) for s in (None, 1800, 4 * 1800))
    assert 1800 - 100 * short.seconds < short.values["steps"] * short.seconds <= 1801
    assert abs(long.values["steps"] - 4 * short.values["steps"]) < 400
    assert {**long.values, "steps": 0} == {**plain.values, "steps": 0}
    assert plan(ATRIUM, seconds=0.1).values["steps"] == 200
    assert plan(ATRIUM, seconds=1800, fixed={"steps": 7}).values["steps"] == 7


def test_a_gpu_keeps_the_scans_own_spacing_and_a_cpu_says_that_it_does_not():
    assert plan(ATRIUM, device="cuda").values["spacing"] == (0.625, 0.625, 1.25)
    assert any("train on a GPU" in line for line in plan(ATRIUM).warnings)
    assert plan(PHANTOM).warnings == ()


def test_supervised_draws_nothing_unlabelled_and_costs_less():
    alone, both = plan(PHANTOM, method="supervised"), plan(PHANTOM)
    assert (alone.values["batch_unlabelled"], both.values["batch_unlabelled"]) == (0, 2)
    assert alone.memory < both.memory
    assert alone.seconds < both.seconds


def test_the_rest_is_planned_around_what_is_set():
    fixed = {"dims": 2, "batch_labelled": 6, "steps": 10, "net": {"filters": 4, "levels": 3}}
    values = plan(PHANTOM, fixed=fixed).values
    assert (values["dims"], len(values["patch"]), values["batch_labelled"], values["steps"]) == (2, 2, 6, 10)
    assert (values["net"]["filters"], values["net"]["levels"]) == (4, 3)
    assert plan(PHANTOM, fixed={"patch": (32, 32, 16)}).values["patch"] == (32, 32, 16)
    resized = plan(SHORT_AXIS, fixed={"resize": (96, 128)}).values
    assert (resized["patch"], resized["spacing"]) == ((96, 128), None)
    with pytest.raises(ConfigError, match="give one per axis"):
        plan(PHANTOM, fixed={"dims": 2, "patch": (32, 32, 16)})


def test_what_falls_short_is_warned_of():
    assert any("few labels: 1" in line for line in plan(PHANTOM, labelled=1).warnings)
    assert any("no unlabelled case" in line for line in plan(PHANTOM, unlabelled=0).warnings)
    assert not plan(PHANTOM, unlabelled=0, method="supervised").warnings
    assert any(line.startswith("disk: about") for line in plan(ATRIUM, disk=10**6).warnings)
    assert any("covers only" in line for line in plan(ATRIUM, memory=3 * 10**9, device="cuda").warnings)


def test_the_cache_is_counted_at_the_planned_spacing_with_a_byte_for_each_labelled_voxel():
    voxels = math.prod(SHAPE)
    assert plan(PHANTOM).cache == 24 * voxels * 4 + 4 * voxels
    with_maps = plan(PHANTOM, needs=frozenset({"distances"})).cache
    assert with_maps == plan(PHANTOM).cache + 4 * voxels * 4, "inside and outside, two bytes each"


def test_a_folder_is_planned_in_one_call_and_read_as_text(tmp_path):
    folder = write_toy_dataset(tmp_path / "toy", cases=4, unlabelled=1)
    text = plan_dataset(folder, memory=10**9, device="cpu").text()
    assert "dims = 3" in text
    assert 'net.name = "vnet"' in text
    assert "# 4 scans" in text
    assert "warning: disk" not in text
    assert "within a factor of four" in text


def test_a_cache_that_does_not_fit_on_its_disk_is_told_before_its_folder_is_there(tmp_path, monkeypatch):
    folder = write_toy_dataset(tmp_path / "toy", cases=4, unlabelled=1)
    asked = []
    monkeypatch.setattr("shutil.disk_usage", lambda there: asked.append(there) or type("Usage", (), {"free": 10**4}))
    made = plan_dataset(folder, memory=10**9, device="cpu", cache=tmp_path / "disk" / "cache")
    assert any(line.startswith("disk: about") and "--cache" in line for line in made.warnings)
    assert asked == [tmp_path], "the nearest folder that exists"


@pytest.mark.parametrize(
    ("text", "count"), [("10GB", 10**10), ("512 MB", 512 * 10**6), ("1.5GiB", 3 * 2**29), ("8g", 8 * 10**9)]
)
def test_amounts_of_memory_are_read(text, count):
    assert parse_memory(text) == count


def test_no_amount_is_no_limit_and_nonsense_is_refused():
    assert parse_memory(None) is None
    with pytest.raises(ConfigError, match="such as 10GB"):
        parse_memory("plenty")
