"""Self-training: which labels each generation learns from, by hand, and that every one starts anew."""

import csv
from itertools import pairwise

import pytest
import torch
from pydantic import ValidationError

from semivox.config.keys import Config as RunConfig
from semivox.data.pseudo import PseudoLabels
from semivox.methods.self_training import Config, SelfTraining
from semivox.runs.building import make_method_config
from semivox.runs.folder import open_run
from semivox.training.assembly import resolve_stages
from semivox.training.relabelling import check_stages
from toy_training import train_toy as train_on_toys
from toys import write_toy_dataset

UNLABELLED = [f"case_{index:02d}" for index in range(2, 7)]
PLAN = {
    ("all", 1): [("supervised", None, 1, True), ("generation_1", 1, 1, False)],
    ("all", 2): [
        *(("supervised", None, 1, True), ("generation_1", 1, 1, True), ("generation_2", 2, 1, False)),
    ],
    ("stable", 2): [
        *(("supervised", None, 1, True), ("generation_1", 1, 1, True), ("generation_2", 2, 0.6, False)),
    ],
    ("agree", 2): [
        *(("supervised", None, 1, True), ("supervised_again", None, 1, True)),
        *(("generation_1", 2, 0.6, True), ("generation_1_again", 2, 0.6, True)),
        ("generation_2", 4, 0.6, False),
    ],
}
"""By hand, of each stage: its name, the relabelling it reads, the share of scans it keeps, and whether it relabels."""


@pytest.mark.parametrize(("keep", "generations"), PLAN)
def test_every_generation_reads_the_newest_labels_and_keeps_its_share(keep, generations):
    stages = SelfTraining.stages(Config(keep=keep, kept=0.6, generations=generations))
    check_stages(stages)
    assert [(s.name, s.reads, s.keep, s.relabel == "all") for s in stages] == PLAN[keep, generations]
    assert [stage.start for stage in stages] == ["previous"] + ["fresh"] * (len(stages) - 1)
    assert {stage.pool for stage in stages} == {"all"}
    assert {stage.batch_unlabelled for stage in stages if stage.reads is None} == {0}


@pytest.mark.parametrize(("keep", "expected"), [("all", [30, 30, 30]), ("agree", [18] * 5)])
def test_the_stages_share_the_runs_steps(keep, expected):
    config = RunConfig(steps=90, method={"name": "self_training", "keep": keep})
    assert [stage.steps for stage in resolve_stages(config, make_method_config(config))] == expected


@pytest.mark.parametrize("given", [{"keep": "some"}, {"kept": 1.0}, {"kept": 0.0}, {"generations": 0}, {"weight": -1}])
def test_other_fields_are_refused(given):
    with pytest.raises(ValidationError, match=next(iter(given))):
        Config(**given)


@pytest.mark.parametrize("keep", ["all", "stable", "agree"])
def test_nets_start_anew_and_learn_from_the_kept_scans_alone(keep, tmp_path, monkeypatch):
    """On real trainings: the weights at every start, and the labels that were looked at."""
    starts, looked = {}, {}
    look = PseudoLabels.__getitem__

    def begin_stage(method, stage):
        starts[stage.name] = torch.cat([weight.detach().flatten() for weight in method.student.parameters()])
        looked[stage.name] = set()

    def looked_at(labels, case):
        [*looked.values()][-1].add(labels.places[case])
        return look(labels, case)

    monkeypatch.setattr(SelfTraining, "begin_stage", begin_stage)
    monkeypatch.setattr(PseudoLabels, "__getitem__", looked_at)
    data = write_toy_dataset(tmp_path / "data", cases=7, unlabelled=5)
    fields, settings = {"keep": keep, "kept": 0.4}, {"steps": 40, "patch": [8, 8, 8]}
    train_on_toys(data, tmp_path / "run", cache=tmp_path, method="self_training", fields=fields, settings=settings)

    stages = SelfTraining.stages(Config(**fields))
    assert [*starts] == [stage.name for stage in stages]
    assert not any(torch.equal(*pair) for pair in pairwise(starts.values()))
    for stage in stages:
        assert {key.generation for key in looked[stage.name]} == ({stage.reads} if stage.reads else set())
        kept = set(UNLABELLED) if stage.reads else set()
        if stage.keep < 1:
            with (tmp_path / "run" / "pseudo" / f"kept_{stage.name}.csv").open() as file:
                kept = {row["case"] for row in csv.DictReader(file) if row["kept"] == "1"}
            assert len(kept) == 2
        assert {key.case for key in looked[stage.name]} == kept
    assert open_run(tmp_path / "run").latest() is not None
