"""The protocol files of benchmarks/: each is read, and every run that it names has a config, stages and a method."""

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from semivox.benchmarking.protocols import Protocol, jobs_of, read_protocol
from semivox.config.keys import Config, for_method, read_config, resolve_config
from semivox.methods import list_methods
from semivox.runs.building import make_method, make_method_config
from semivox.training.assembly import resolve_stages

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
FILES = sorted(BENCHMARKS.glob("*.toml"))
PUBLISHED = ("acdc", "la2018", "pancreas")


def read(name: str) -> Protocol:
    return read_protocol(BENCHMARKS / f"{name}.toml")


def configs(protocol: Protocol) -> Iterator[Config]:
    """Yield the config of every run, as training resolves it."""
    for job in jobs_of(protocol, Path("runs")):
        name = job.spec.name
        given = for_method(read_config(protocol.config), name)
        layers = [(protocol.config, given), ("--set", job.settings), ("--method", {"method": {"name": name}})]
        yield resolve_config(layers)[0]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_every_run_of_a_protocol_has_a_config_stages_and_a_method(file):
    built = set()
    for config in configs(read_protocol(file)):
        stages = resolve_stages(config, make_method_config(config))
        assert all(stage.steps and stage.batch_labelled for stage in stages)
        kind = config.model_copy(update={"seed": 0, "label": ""}).model_dump_json()
        if kind not in built:  # seeds and label budgets change nothing of it
            built.add(kind)
            with torch.device("meta"):  # of its true size, without its memory
                method = make_method(config, {"channels": ["image"], "classes": ["none", "organ"]})
            assert any(True for _ in method.parameters())
    assert built


@pytest.mark.parametrize(
    ("name", "patch", "net", "steps", "batch"),
    [
        ("la2018", (112, 112, 80), "vnet", 6000, 2),
        ("acdc", (256, 256), "unet", 30_000, 12),
        ("pancreas", (96, 96, 96), "vnet", 6000, 2),
    ],
)
def test_published_protocols_train_every_method_with_their_numbers(name, patch, net, steps, batch):
    for config in configs(read(name)):
        stages = resolve_stages(config, make_method_config(config))
        assert (config.patch, config.net.name, config.net.filters) == (patch, net, 16)
        assert sum(stage.steps or 0 for stage in stages) == steps
        assert {stage.batch_labelled for stage in stages} == {batch}
        assert {stage.batch_unlabelled for stage in stages} <= {0, batch}


def test_published_protocols_have_the_published_budgets_and_their_sizes():
    budgets = {}
    for name in PUBLISHED:
        labelled = [spec.labelled for spec in read(name).run]
        budgets[name] = {given if isinstance(given, int) else len(given) for given in labelled}
    assert budgets == {"la2018": {4, 8, 16, 80}, "acdc": {1, 3, 7}, "pancreas": {6, 12, 62}}
    assert {group: len(names) for group, names in read("acdc").held_out.items()} == {"test": 20, "val": 10}
    assert {group: len(names) for group, names in read("la2018").held_out.items()} == {"test": 20}
    assert read("pancreas").held_out == 20
    assert all(spec.seeds == (0, 1, 2) for name in PUBLISHED for spec in read(name).run)


@pytest.mark.parametrize("name", PUBLISHED)
def test_every_published_figure_says_who_printed_it_and_how_its_weights_were_chosen(name):
    with (BENCHMARKS / "published" / f"{name}.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) > 25
    sources = (BENCHMARKS / "published" / "sources.md").read_text()
    for row in rows:
        assert None not in row
        assert 0 < float(row["dice"]) < 100
        assert float(row["jaccard"] or 0) < float(row["dice"])
        assert row["selection"]
        assert row["source"] in sources
        assert row["semivox"] in ("", *list_methods())
    budgets = [int(row["labelled"]) for row in rows]
    assert budgets == sorted(budgets)
