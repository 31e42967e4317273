"""ATSO: who is labelled by whom, read off the store of real trainings; and what a pseudo label does to the loss."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch
from crops import (
    all_stages,
    freeze,
    gradients,
    make_toy_method,
    run_forward,
    run_steps,
    spied,
    stage_batch,
    toy_progress,
)
from pydantic import ValidationError

from semivox.config.keys import Config as RunConfig
from semivox.data.pseudo import Key, PseudoLabels, PseudoStore
from semivox.methods.atso import ATSO, Config
from semivox.ops.dice import dice_ce
from semivox.runs.building import make_method_config
from semivox.runs.folder import open_run, read_checkpoint
from semivox.training.assembly import resolve_stages
from toy_training import train_toy as train_on_toys
from toys import write_toy_dataset

ASYNCHRONOUS, SYNCHRONOUS = ("first", "previous"), ("continue", "restart")
VARIANTS = ASYNCHRONOUS + SYNCHRONOUS
UNLABELLED = {f"case_{index:02d}" for index in range(2, 7)}
GENERATION = all_stages("atso")[1]
PLAIN = {"geometry": "none", "intensity": "none"}
in_2d_and_3d = pytest.mark.parametrize("dims", [2, 3])


class Lived(NamedTuple):
    """A stage of a training, as it went: what it started as, what its crops were cut from, what it labelled."""

    start: str
    weights: torch.Tensor
    trained: set[Key]
    made: set[Key]


class Life(NamedTuple):
    run: Path
    stages: dict[str, Lived]


@pytest.fixture(scope="module")
def lived(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Life]:
    """``lived(variant)``: a training on two labelled and five unlabelled scans, each seen in every generation."""
    data = write_toy_dataset(tmp_path_factory.mktemp("toys") / "data", cases=7, unlabelled=5)
    cache, lives = tmp_path_factory.mktemp("cache"), {}

    def live(variant: str) -> Life:
        if variant not in lives:
            run, stages = tmp_path_factory.mktemp(variant), {}
            with pytest.MonkeyPatch.context() as patched:
                _spy(patched, stages)
                settings = {"steps": 18, "patch": [8, 8, 8]}
                train_on_toys(data, run, cache=cache, method="atso", fields={"variant": variant}, settings=settings)
            lives[variant] = Life(run, stages)
        return lives[variant]

    return live


def _spy(patched: pytest.MonkeyPatch, stages: dict[str, Lived]) -> None:
    """Let the store and the method tell what happens, stage by stage."""
    keep, look = PseudoStore.keep, PseudoLabels.__getitem__

    def begin_stage(method: ATSO, stage: Any) -> None:
        weights = torch.cat([weight.detach().flatten() for weight in method.student.parameters()])
        stages[stage.name] = Lived(stage.start, weights, set(), set())

    def kept(store: PseudoStore, key: Key, make: Any) -> None:
        [*stages.values()][-1].made.add(key)
        keep(store, key, make)

    def looked_at(labels: PseudoLabels, case: str) -> Any:
        [*stages.values()][-1].trained.add(labels.places[case])
        return look(labels, case)

    patched.setattr(ATSO, "begin_stage", begin_stage)
    patched.setattr(PseudoStore, "keep", kept)
    patched.setattr(PseudoLabels, "__getitem__", looked_at)


def replaced(life: Life) -> list[tuple[str, Key]]:
    """Return, for every label that takes another's place, the stage that made it and the label that it replaced."""
    present: dict[str, Key] = {}
    found = []
    for name, stage in life.stages.items():
        found += [(name, present[key.case]) for key in stage.made if key.case in present]
        present |= {key.case: key for key in stage.made}
    return found


def forebears(life: Life, name: str) -> list[str]:
    """Return the stages that a stage's weights have gone through before it."""
    names = [*life.stages]
    if name == names[0]:
        return []
    start = life.stages[name].start
    before = names[names.index(name) - 1] if start == "previous" else start
    return [*forebears(life, before), before]


def short(keys: set[Key]) -> list[str]:
    return sorted({f"{'AB'[key.part]}{key.generation}" for key in keys})


HALVES = {
    "supervised": ([], ["A1", "B1"]),
    "generation_1": (["A1"], ["B2"]),
    "generation_2": (["B2"], ["A3"]),
    "generation_3": (["A3"], ["B4"]),
    "generation_4": (["B4"], []),
}
"""By hand: the labels that a stage trains on, and those that it makes; A and B are the halves, A3 is A's label of the
third relabelling."""
WHOLE = {
    "supervised": ([], ["A1"]),
    "generation_1": (["A1"], ["A2"]),
    "generation_2": (["A2"], ["A3"]),
    "generation_3": (["A3"], ["A4"]),
    "generation_4": (["A4"], []),
}
"""The same where A is all."""


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_generation_trains_on_and_makes_the_labels_of_the_algorithm(variant, lived):
    life = lived(variant)
    expected = HALVES if variant in ASYNCHRONOUS else WHOLE
    assert {name: (short(stage.trained), short(stage.made)) for name, stage in life.stages.items()} == expected
    everything = set().union(*(stage.made for stage in life.stages.values()))
    for stage in life.stages.values():
        for keys in (stage.trained, stage.made):
            assert keys == {key for key in everything if key[1:] in {other[1:] for other in keys}}, "all of a part"
    found = {path.parent.relative_to(life.run / "pseudo").parts for path in life.run.rglob("label.npy")}
    assert found == {(f"generation_{key.generation:03d}", f"part_{key.part}", key.case) for key in everything}
    assert {key.case for key in everything} == UNLABELLED


@pytest.mark.parametrize("variant", ASYNCHRONOUS)
def test_no_scan_is_relabelled_by_a_net_that_trained_on_its_present_label(variant, lived):
    life = lived(variant)
    assert len(replaced(life)) == 2 + 3 + 2  # B, A, B
    assert not [(name, old) for name, old in replaced(life) if old in life.stages[name].trained]


@pytest.mark.parametrize("variant", SYNCHRONOUS)
def test_the_synchronous_controls_relabel_every_scan_by_a_net_that_trained_on_its_present_label(variant, lived):
    life = lived(variant)
    assert len(replaced(life)) == 3 * len(UNLABELLED)
    assert all(old in life.stages[name].trained for name, old in replaced(life))


def test_weights_that_went_on_have_met_the_present_label_before_and_those_of_first_never(lived):
    """The price of going on, as the card says: from generation 2 on, "previous" met it one generation earlier."""
    met = {
        variant: {
            name
            for name, old in replaced(lived(variant))
            for earlier in forebears(lived(variant), name)
            if old in lived(variant).stages[earlier].trained
        }
        for variant in ASYNCHRONOUS
    }
    assert met == {"first": set(), "previous": {"generation_2", "generation_3"}}


@pytest.mark.parametrize("variant", VARIANTS)
def test_generations_start_from_the_supervised_net_or_from_the_one_before(variant, lived):
    weights = [stage.weights for stage in lived(variant).stages.values()]
    again = [torch.equal(*pair) for pair in pairwise(weights)]
    assert again == [False, *[variant in ("first", "restart")] * 3]


def test_all_variants_have_one_start(lived):
    ends = [lived(variant).stages["generation_1"].weights for variant in VARIANTS]
    assert all(torch.equal(end, ends[0]) for end in ends)


def test_the_last_generations_net_predicts(lived):
    state = read_checkpoint(open_run(lived("first").run).latest())
    assert (state["stage"], state["step"], state["total_step"]) == (4, 3, 18)
    method, image = make().eval(), torch.randn(1, 1, 16, 16)
    assert torch.equal(method.predict(image), method.student(image).softmax(1))


@pytest.mark.parametrize(("over", "expected"), [("stage", [1, 1, 1, 1, 1]), ("run", [1, 4 / 6, 3 / 6, 2 / 6, 1 / 6])])
def test_the_learning_rate_starts_anew_with_each_generation_unless_it_falls_over_the_run(
    over, expected, train_toy, tmp_path
):
    train_toy(tmp_path, method="atso", settings={"steps": 12}, fields={"schedule_over": over, "lr": 0.01})
    rates = [row["lr"] for row in open_run(tmp_path).log_rows() if row["step"] == 0]
    assert rates == pytest.approx([0.01 * left**0.9 for left in expected])


@pytest.mark.parametrize(
    ("steps", "generations", "expected"),
    [(3000, 4, [1000, 500, 500, 500, 500]), (3000, 2, [1500, 750, 750]), (100, 4, [33, 17, 17, 16, 17])],
)
def test_all_stages_together_take_the_runs_steps_and_a_generation_half_of_the_start(steps, generations, expected):
    config = RunConfig(steps=steps, method={"name": "atso", "generations": generations})
    stages = resolve_stages(config, make_method_config(config))
    assert [stage.steps for stage in stages] == expected
    assert sum(expected) == steps
    assert [stage.batch_unlabelled for stage in stages] == [0] + [config.batch_unlabelled] * generations


@pytest.mark.parametrize("given", [{"generations": 3}, {"generations": 0}, {"variant": "second"}])
def test_other_variants_and_generations_that_leave_a_half_behind_are_refused(given):
    with pytest.raises(ValidationError, match=next(iter(given))):
        Config(**given)


# One step.


def make(*, dims=2, **fields):
    method = make_toy_method("atso", dims=dims, net={"dropout": 0.0}, **PLAIN, **fields)
    freeze(method, GENERATION)
    return method.train()


def losses(method, batch):
    return run_forward(method, batch, toy_progress(stage=GENERATION.name)).losses


@in_2d_and_3d
def test_labels_and_pseudo_labels_weigh_alike(dims):
    method, batch = make(dims=dims), stage_batch(GENERATION, dims=dims, unlabelled=2)
    batch.image_u, batch.label_u, batch.valid_u = batch.image_l, batch.label_l, batch.valid_l
    found = losses(method, batch)
    assert found["supervised"] == found["pseudo"]
    sum(found.values()).backward()
    both = gradients(method)
    method.zero_grad()
    batch.image_u = None
    losses(method, batch)["supervised"].backward()
    torch.testing.assert_close(both, {name: 2 * gradient for name, gradient in gradients(method).items()})


@in_2d_and_3d
def test_every_voxel_counts_however_unsure_and_its_label_is_hard(dims):
    """The loss by hand from the student's own logits, with the store's probabilities poisoned."""
    method, batch = make(dims=dims), stage_batch(GENERATION, dims=dims)
    batch.weight_u.fill_(float("nan"))
    with spied(method.student) as seen:
        found = losses(method, batch)["pseudo"]
    assert [len(image) for image, _ in seen] == [2, 4], "labelled crops first, in a forward of their own"
    assert torch.equal(found, dice_ce(seen[1][1], batch.label_u, batch.valid_u))


def test_the_labels_of_other_scans_raise_the_loss_of_a_net_that_has_learned():
    """What the term asks for is the scan's own label: nothing that all scans share solves it."""
    method = make(optimizer="adamw", lr=0.01)
    run_steps(method, [stage_batch(GENERATION, dims=2, seed=seed) for seed in range(60)], stage=GENERATION)
    batch = stage_batch(GENERATION, dims=2, seed=99)
    own = losses(method, batch)["pseudo"].item()
    batch.label_u = batch.label_u.roll(1, 0)
    others = losses(method, batch)["pseudo"].item()
    assert others > 2 * own


def test_pseudo_labels_pull_as_hard_as_labels():
    method, batch = make(), stage_batch(GENERATION, dims=2)
    norms = {}
    for name, loss in losses(method, batch).items():
        moved = torch.autograd.grad(loss, list(method.student.parameters()), retain_graph=True)
        norms[name] = torch.cat([gradient.flatten() for gradient in moved]).norm().item()
    assert 0.2 < norms["pseudo"] / norms["supervised"] < 5
