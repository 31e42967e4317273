"""Offline self-training: each stage sees its part and its labels, and a relabelling may be cut anywhere."""

import csv
import os
import signal
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

import semivox.training.relabelling
from semivox.config.keys import Config
from semivox.data.preparation import PreparedCase
from semivox.data.pseudo import Key
from semivox.errors import ConfigError, DatasetError, RunError
from semivox.methods import method_module
from semivox.ops.windows import slide
from semivox.runs.building import make_method
from semivox.runs.folder import open_run, read_checkpoint
from semivox.training.relabelling import Relabelling, agreement, check_stages
from semivox.types import Stage, seed_from
from toy_training import start_process, train_toy
from toys import write_toy_dataset

WORDS = {"method": "toy_self_training", "settings": {"checkpoint_every": 2, "patch": [8, 8, 8]}}
# Relabels five scans, then the half of two, that of three, that of two.
ATSO = {"method": "atso", "settings": {"steps": 12, "checkpoint_every": 5, "patch": [8, 8, 8]}}
LABELS, PSEUDO = frozenset({"labels"}), frozenset({"labels", "pseudo"})
STAGES = (
    Stage("all", steps=3, uses=LABELS, relabel="all"),
    Stage("odd", steps=2, uses=PSEUDO, pool=0, relabel=1, reads=1),
    Stage("even", steps=3, uses=PSEUDO, pool=1, reads=2),
)


class CrashError(Exception):
    """What ends a run without warning."""


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two labelled and five unlabelled scans, and a cache."""
    data = write_toy_dataset(tmp_path_factory.mktemp("toys") / "data", cases=7, unlabelled=5)
    return {"data": data, "cache": tmp_path_factory.mktemp("cache")}


@pytest.fixture(scope="module")
def whole(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Any]]:
    """The run that was not cut, and the batches that its stages saw."""
    run = tmp_path_factory.mktemp("whole")
    seen = method_module("toy_self_training").SEEN
    seen.clear()
    assert train_toy(output=run, **folders, **WORDS).finished
    return run, list(seen)


@pytest.fixture(scope="module")
def atso(folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """``atso(variant)``: a run that was not cut, made once."""
    made: dict[str, Path] = {}

    def run(variant: str) -> Path:
        if variant not in made:
            made[variant] = tmp_path_factory.mktemp(variant)
            assert train_toy(output=made[variant], fields={"variant": variant}, **folders, **ATSO).finished
        return made[variant]

    return run


def contents(run: Path) -> dict[str, bytes]:
    """The store's files."""
    store = run / "pseudo"
    return {str(path.relative_to(store)): path.read_bytes() for path in store.rglob("*") if path.is_file()}


def stored(run: Path) -> list[tuple[str, str, str]]:
    """Generation, part and case of every label in the store."""
    return sorted(path.relative_to(run / "pseudo").parts[:3] for path in run.rglob("label.npy"))


def rows(run: Path) -> list[dict[str, Any]]:
    return [{key: value for key, value in row.items() if key != "seconds"} for row in open_run(run).log_rows()]


def assert_same_run(found: Path, expected: Path) -> None:
    assert rows(found) == rows(expected)
    assert contents(found) == contents(expected)
    ends = [read_checkpoint(open_run(run).latest()) for run in (found, expected)]
    torch.testing.assert_close(*ends, rtol=0, atol=0)


def break_in(call: int, how: str) -> Any:
    """Return a `slide` that crashes, or is told to stop, while it labels the n-th case."""
    calls = 0

    def broken(*args: Any, **words: Any) -> torch.Tensor:
        nonlocal calls
        calls += 1
        if calls == call and how == "crash":
            raise CrashError
        if calls == call:
            os.kill(os.getpid(), signal.SIGTERM)
        return slide(*args, **words)

    return broken


def test_the_first_relabelling_labels_all_and_the_second_its_part(whole):
    found = stored(whole[0])
    first = [place for place in found if place[0] == "generation_001"]
    assert [case for _, _, case in sorted(first, key=lambda place: place[2])] == [f"case_{n:02d}" for n in range(2, 7)]
    assert sorted(len([p for p in first if p[1] == part]) for part in ("part_0", "part_1")) == [2, 3]
    assert [place[1:] for place in found if place[0] == "generation_002"] == [p[1:] for p in first if p[1] == "part_1"]


def test_every_stage_sees_its_own_part_with_the_labels_of_the_generation_it_reads(whole):
    run, seen = whole
    assert [stage for stage, batch in seen if batch.image_u is None] == ["all"] * 3
    for part, stage in enumerate(("odd", "even")):
        generation = part + 1
        folder = run / "pseudo" / f"generation_{generation:03d}" / f"part_{part}"
        cases = sorted(path.name for path in folder.iterdir())
        batches = [batch for name, batch in seen if name == stage]
        assert len(batches) == part + 2
        for batch in batches:
            for item, (case, corner) in enumerate(zip(batch.case_u, batch.corner_u, strict=True)):
                box = tuple(slice(int(start), int(start) + 8) for start in corner)
                label = np.load(folder / cases[int(case)] / "label.npy")[box]
                weight = np.load(folder / cases[int(case)] / "weight.npy")[box]
                np.testing.assert_array_equal(batch.label_u[item], label)
                np.testing.assert_array_equal(batch.weight_u[item], weight)
    assert {int(value) for _, batch in seen if batch.image_u is not None for value in batch.label_u.unique()} == {0, 1}


def test_a_pseudo_label_is_what_the_stages_last_weights_predict_in_evaluation_mode(whole, folders):
    run = open_run(whole[0])
    method = make_method(run.config, run.facts)
    method.load_state_dict(read_checkpoint(run.checkpoints / "end_all.pt")["method"])
    (image,) = [np.load(path) for path in folders["cache"].rglob("image.npy") if is_case(run, path, "case_04")]
    torch.manual_seed(seed_from(run.config.seed, "all", "relabel", "case_04"))
    p = slide(torch.from_numpy(image), method.eval().predict, patch=(8, 8, 8))
    (folder,) = run.path.glob("pseudo/generation_001/*/case_04")
    np.testing.assert_array_equal(np.load(folder / "label.npy"), p.argmax(0))
    np.testing.assert_array_equal(np.load(folder / "weight.npy"), p.amax(0).half())


def is_case(run: Any, image: Path, case: str) -> bool:
    return run.facts["scans"][case] in (image.parent / "entry.json").read_text()


def test_training_goes_on_in_training_mode(whole):
    assert {row["shown"]["training"] for row in rows(whole[0])} == {1.0}


def test_checkpoints_hold_generation_and_part(whole):
    checkpoints = sorted(open_run(whole[0]).checkpoints.glob("step_*"))
    found = [[read_checkpoint(path)[key] for key in ("stage", "generation", "part", "parts")] for path in checkpoints]
    assert found == [[2, 2, 1, 2], [2, 2, 1, 2]]


@pytest.mark.parametrize("how", ["crash", "signal"])
@pytest.mark.parametrize("call", [1, 3, 5, 7])
def test_a_cut_within_a_relabelling_changes_nothing(call, how, whole, folders, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(semivox.training.relabelling, "slide", break_in(call, how))
        if how == "crash":
            with pytest.raises(CrashError):
                train_toy(output=tmp_path, **folders, **WORDS)
            assert len(stored(tmp_path)) == call - 1
        else:
            # A stop lets the case be finished; behind a relabelling's last case, the next step is taken.
            assert not train_toy(output=tmp_path, **folders, **WORDS).finished
            assert len(stored(tmp_path)) == call
    (tmp_path / "pseudo" / "generation_001" / "part_0").mkdir(parents=True, exist_ok=True)
    (tmp_path / "pseudo" / "generation_001" / "part_0" / ".unfinished-1").mkdir()  # what a killed process leaves
    assert train_toy(output=tmp_path, resume=True, **folders, **WORDS).finished
    assert_same_run(tmp_path, whole[0])


@pytest.mark.parametrize("call", [4, 7, 9, 12])
def test_atso_cut_within_any_of_its_relabellings_is_the_same_run(call, atso, folders, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(semivox.training.relabelling, "slide", break_in(call, "crash"))
        with pytest.raises(CrashError):
            train_toy(output=tmp_path, **folders, **ATSO)
    assert len(stored(tmp_path)) == call - 1
    assert train_toy(output=tmp_path, resume=True, **folders, **ATSO).finished
    assert_same_run(tmp_path, atso("first"))


def test_atso_killed_within_a_relabelling_is_resumed_by_another_process(atso, folders, tmp_path):
    """Behind the first of two scans, and behind the first of three: with labels that are older and others that lack."""
    calls = {"first": 7, "previous": 9}
    given = {name: str(folder) for name, folder in folders.items()}
    words = {
        variant: {**given, **ATSO, "output": str(tmp_path / variant), "fields": {"variant": variant}}
        for variant in calls
    }
    killed = [start_process({**words[variant], "kill_in_label": call}) for variant, call in calls.items()]
    for process, (variant, call) in zip(killed, calls.items(), strict=True):
        errors = process.communicate()[1]
        assert process.returncode == -signal.SIGKILL, errors
        assert len(stored(tmp_path / variant)) == call - 1
    resumed = start_process(*({**words[variant], "resume": True} for variant in calls))
    errors = resumed.communicate()[1]
    assert resumed.returncode == 0, errors
    for variant in calls:
        assert_same_run(tmp_path / variant, atso(variant))


def test_steps_taken_again_make_their_labels_again(whole, folders, tmp_path):
    assert train_toy(output=tmp_path, **folders, **WORDS).finished
    for path in (tmp_path / "checkpoints").glob("step_*"):
        path.unlink()
    for path in tmp_path.rglob("label.npy"):
        np.save(path, np.ones_like(np.load(path)))
    assert train_toy(output=tmp_path, resume=True, **folders, **WORDS).finished
    assert_same_run(tmp_path, whole[0])


def test_a_run_whose_pseudo_labels_are_gone_says_which(folders, tmp_path, monkeypatch):
    with monkeypatch.context() as patched:
        patched.setattr(semivox.training.relabelling, "slide", break_in(7, "crash"))
        with pytest.raises(CrashError):
            train_toy(output=tmp_path, **folders, **WORDS)
    (spoilt,) = tmp_path.glob("pseudo/generation_002/part_1/*/label.npy")
    spoilt.unlink()
    train_toy(output=tmp_path, resume=True, **folders, **WORDS)  # it is the relabelling's own, and made again
    next(tmp_path.glob("pseudo/generation_002/part_1/*/label.npy")).unlink()
    (tmp_path / "checkpoints" / "step_00000008.pt").unlink()
    with pytest.raises(RunError, match=r"pseudo label of 'case_0.' is missing or damaged, .*: put the folder back"):
        train_toy(output=tmp_path, resume=True, **folders, **WORDS)


def test_more_parts_than_unlabelled_scans_are_refused_before_any_is_prepared(tmp_path):
    data = write_toy_dataset(tmp_path / "data", cases=3, unlabelled=1)
    with pytest.raises(DatasetError, match="into 2 parts, but the split has only 1: add some with --unlabelled"):
        train_toy(data, tmp_path / "run", cache=tmp_path / "cache", **WORDS)
    assert not (tmp_path / "cache").exists()


# The class by itself, on arrays.


def a_case(name: str, shape: tuple[int, ...] = (3, 4, 5)) -> PreparedCase:
    generator = np.random.default_rng(seed_from(name))
    return PreparedCase(name, generator.normal(size=(1, *shape)).astype(np.float32), (1.0, 1.0, 1.0), name)


def a_relabelling(folder: Path, stages: tuple[Stage, ...] = STAGES, **config: Any) -> Relabelling:
    config = {"method": {"name": "toy"}, "patch": (2, 2, 2), **config}
    return Relabelling(Config(**config), stages, [a_case(f"case_{n}") for n in range(5)], folder)


def a_fabric(rank: int = 0, world: int = 1) -> Any:
    return SimpleNamespace(
        world_size=world, global_rank=rank, device=torch.device("cpu"), autocast=nullcontext, barrier=lambda: None
    )


class Thresholds(torch.nn.Module):
    """Probability of class 1 = sigmoid of the image."""

    def __init__(self) -> None:
        super().__init__()
        self.teacher = torch.nn.Dropout().eval()

    def predict(self, image: torch.Tensor) -> torch.Tensor:
        assert not any(module.training for module in self.modules())
        p = image.sigmoid()
        return torch.cat([1 - p, p], 1)


def never() -> bool:
    return False


@pytest.mark.parametrize(("dims", "patch"), [(3, (2, 2, 2)), (2, (4, 4))])
def test_label_and_weight_lie_in_the_prepared_grid_in_3d_and_on_slices(dims, patch, tmp_path):
    found = a_relabelling(tmp_path, dims=dims, patch=patch)
    assert found.relabel(0, Thresholds(), a_fabric(), never)
    for case in found.unlabelled:
        label, weight = found.store.read(Key(case.name, found.part_of[case.name], 1))
        np.testing.assert_array_equal(label, case.image[0] > 0)
        np.testing.assert_allclose(weight, 1 / (1 + np.exp(-np.abs(case.image[0]))), rtol=1e-3)


def test_every_module_gets_its_own_mode_back_even_from_a_crash(tmp_path, monkeypatch):
    method = Thresholds()
    a_relabelling(tmp_path).relabel(0, method, a_fabric(), never)
    assert (method.training, method.teacher.training) == (True, False)
    monkeypatch.setattr(semivox.training.relabelling, "slide", break_in(1, "crash"))
    with pytest.raises(CrashError):
        a_relabelling(tmp_path / "other").relabel(0, method, a_fabric(), never)
    assert (method.training, method.teacher.training) == (True, False)


def test_two_processes_share_the_cases_and_are_asked_to_stop_equally_often(tmp_path):
    asked = []
    for rank in (0, 1):
        found, questions = a_relabelling(tmp_path), []
        assert found.relabel(0, Thresholds(), a_fabric(rank, 2), lambda questions=questions: questions.append(0))
        asked.append(len(questions))
        assert len(list(tmp_path.rglob("label.npy"))) == (3, 5)[rank]
    assert asked == [2, 2]


def test_a_generation_is_each_cases_newest_label_up_to_it(tmp_path):
    both = (*STAGES, Stage("both", uses=PSEUDO, reads=2), Stage("early", uses=PSEUDO, reads=1))
    found = a_relabelling(tmp_path, both)
    for index in (0, 1):
        found.relabel(index, Thresholds(), a_fabric(), never)
    assert found.given(both[0]) == (found.unlabelled, None)
    for stage, generations in ((both[3], (1, 2)), (both[4], (1, 1))):
        places = found.given(stage)[1].places.values()
        assert {place.case for place in places} == {case.name for case in found.unlabelled}
        assert all(place.generation == generations[place.part] for place in places)


def test_agreement_is_the_mean_dice_of_the_classes_that_either_label_has():
    """By hand: class 1 in 2 + 1 voxels, 1 of them shared, 2 / 3; class 2 in 1 + 1, none shared, 0; background out."""
    label, other = np.array([[0, 1], [1, 2]], np.uint8), np.array([[0, 1], [2, 0]], np.uint8)
    assert agreement(label, other) == agreement(other, label) == pytest.approx((2 / 3 + 0) / 2)
    assert agreement(label, label) == agreement(0 * label, 0 * label) == 1
    assert agreement(label, 0 * label) == 0


KEEPING = (
    Stage("first", uses=LABELS, relabel="all"),
    Stage("second", uses=PSEUDO, reads=1, relabel="all"),
    Stage("third", uses=PSEUDO, reads=2, keep=0.5),
)


def a_store_of_two_generations(folder: Path, agreeing: dict[str, int]) -> Relabelling:
    """Return a relabelling with stages `KEEPING`; `agreeing` of each case's ten voxels of class 1 stay."""
    found = a_relabelling(folder, KEEPING)
    for case in found.unlabelled:
        for generation in (1, 2):
            label = np.zeros(case.image.shape[1:], np.uint8)
            start = 10 - agreeing[case.name] if generation == 2 else 0
            label.flat[start : start + 10] = 1
            weight = np.ones(label.shape, np.float16)
            found.store.keep(Key(case.name, 0, generation), lambda made=(label, weight): made)
    return found


def test_a_stage_keeps_its_share_of_the_cases_those_whose_labels_agree_best(tmp_path):
    agreeing = {"case_0": 9, "case_1": 2, "case_2": 10, "case_3": 0, "case_4": 9}
    found = a_store_of_two_generations(tmp_path, agreeing)
    cases, labels = found.given(KEEPING[2])
    assert [case.name for case in cases] == [*labels] == ["case_0", "case_2", "case_4"]  # 3 of 5, in the pool's order
    assert {place.generation for place in labels.places.values()} == {2}
    assert found.agreements(KEEPING[2]) == pytest.approx({name: count / 10 for name, count in agreeing.items()})
    with (tmp_path / "kept_third.csv").open() as file:
        written = [(row["case"], float(row["agreement"]), row["kept"]) for row in csv.DictReader(file)]
    assert written == [
        *(("case_2", 1.0, "1"), ("case_0", 0.9, "1"), ("case_4", 0.9, "1"), ("case_1", 0.2, "0"), ("case_3", 0.0, "0")),
    ]


@pytest.mark.parametrize(("keep", "count"), [(1.0, 5), (0.99, 5), (0.5, 3), (0.2, 1), (0.01, 1)])
def test_a_share_is_rounded_up_so_that_no_stage_is_left_without_a_case(keep, count, tmp_path):
    found = a_store_of_two_generations(tmp_path, dict.fromkeys((f"case_{n}" for n in range(5)), 5))
    cases, labels = found.given(replace(KEEPING[2], keep=keep))
    assert [case.name for case in cases] == [*labels] == [f"case_{n}" for n in range(count)]


@pytest.mark.parametrize(
    ("index", "change", "message"),
    [
        (2, {"keep": 0.0}, "keep = 0.0, expected a share above 0, up to 1"),
        (2, {"keep": 1.5}, "keep = 1.5, expected a share above 0, up to 1"),
        (0, {"keep": 0.5}, "stage 'first' keeps the cases whose pseudo labels agree, but part 0 of its pool is not"),
        (1, {"keep": 0.5}, "stage 'second' keeps .* relabelled twice before it"),
        (2, {"reads": 1}, "stage 'third' keeps .* relabelled twice before it"),
    ],
)
def test_a_share_of_cases_that_cannot_be_compared_is_refused(index, change, message):
    check_stages(KEEPING)
    stages = list(KEEPING)
    stages[index] = replace(stages[index], **change)
    with pytest.raises(ConfigError, match=message):
        check_stages(stages)


@pytest.mark.parametrize(
    ("stage", "step", "kept"), [(0, 1, []), (0, 3, [1]), (1, 0, [1]), (1, 1, [1]), (1, 2, [1, 2]), (2, 1, [1, 2])]
)
def test_the_store_is_cut_back_to_what_a_checkpoint_vouches_for(stage, step, kept, tmp_path):
    found = a_relabelling(tmp_path)
    for index in (0, 1):
        found.relabel(index, Thresholds(), a_fabric(), never)
    found.rewind({"stage": stage, "step": step, **found.place(stage)})
    assert sorted(path.name for path in tmp_path.iterdir()) == [f"generation_{number:03d}" for number in kept]
    found.rewind(None)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("change", [{"stage": 5}, {"part": 1}, {"parts": 3}, {"generation": 2}])
def test_a_checkpoint_of_other_stages_is_refused(change, tmp_path):
    found = a_relabelling(tmp_path)
    state = {"stage": 1, "step": 1, **found.place(1), **change}
    with pytest.raises(RunError, match="the method has changed since"):
        found.rewind(state)


@pytest.mark.parametrize(
    ("index", "change", "message"),
    [
        (1, {"name": "all"}, "two stages are named 'all'"),
        (1, {"start": "evn"}, "stage 'odd' starts from 'evn', expected an earlier stage: known: all, fresh, previous"),
        (1, {"start": "even"}, "expected an earlier stage"),
        (1, {"pool": "half"}, "stage 'odd': pool = 'half', expected 'all' or an index"),
        (1, {"pool": None}, "stage 'odd': pool = None, expected"),
        (1, {"relabel": -1}, "stage 'odd': relabel = -1, expected"),
        (1, {"reads": None}, "expected 'pseudo' in uses where a generation is read"),
        (1, {"uses": LABELS}, "expected 'pseudo' in uses where a generation is read"),
        (1, {"reads": 2}, "reads generation 2 of pseudo labels, but the stages before it make 1: expected 1 to 1"),
        (1, {"reads": 0}, "expected 1 to 1"),
        (0, {"relabel": None}, "stage 'odd' reads pseudo labels, but no stage before it relabels"),
        (0, {"relabel": 1}, "part 0 is not relabelled up to then: let an earlier stage relabel it"),
    ],
)
def test_stages_that_cannot_follow_each_other_are_refused_with_the_reason(index, change, message):
    stages = list(STAGES)
    check_stages(stages)
    stages[index] = replace(stages[index], **change)
    with pytest.raises(ConfigError, match=message):
        check_stages(stages)
