"""Trackers hold what log.jsonl holds, each step once, whatever cut the run; what fails there fails nothing here."""

import importlib.util
import socket
from pathlib import Path

import pytest

from semivox.errors import ConfigError, MissingExtraError, RunError
from semivox.runs.folder import open_run
from semivox.tracking import listening, trackers
from semivox.tracking.trackers import numbers_of

pytestmark = pytest.mark.filterwarnings("default")  # of the trackers' own packages


def events_of(run: Path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0, "tensors": 0})
    events.Reload()
    return events


def tensorboard_scalars(run: Path) -> dict[str, list[tuple[int, float]]]:
    events = events_of(run)
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in events.Tags()["scalars"]}


def mlflow_run(run: Path):
    from mlflow.tracking import MlflowClient

    client = MlflowClient(tracking_uri=f"sqlite:///{run / 'mlflow' / 'mlflow.db'}")
    (experiment,) = [found for found in client.search_experiments() if found.name == "semivox"]
    (found,) = client.search_runs([experiment.experiment_id])
    return client, found


def mlflow_scalars(run: Path) -> dict[str, list[tuple[int, float]]]:
    client, found = mlflow_run(run)
    return {
        name: sorted((metric.step, metric.value) for metric in client.get_metric_history(found.info.run_id, name))
        for name in found.data.metrics
    }


needs_mlflow = pytest.mark.skipif(importlib.util.find_spec("mlflow") is None, reason="mlflow is not installed")
SCALARS = {"tensorboard": tensorboard_scalars, "mlflow": mlflow_scalars}


def logged(run: Path) -> dict[str, list[tuple[int, float]]]:
    """Return what log.jsonl holds, by name; seconds are left out, which no resumed run takes again."""
    found: dict[str, list[tuple[int, float]]] = {}
    for row in open_run(run).log_rows():
        for name, value in numbers_of(row).items():
            found.setdefault(name, []).append((row["total_step"], pytest.approx(value, rel=1e-6)))
    return {name: values for name, values in found.items() if name != "seconds"}


def tracked_without_seconds(name: str, run: Path) -> dict[str, list[tuple[int, float]]]:
    return {tag: values for tag, values in SCALARS[name](run).items() if tag != "seconds"}


class PowerCutError(Exception):
    """Stands for what no checkpoint foresees."""


@pytest.mark.parametrize("name", ["tensorboard", pytest.param("mlflow", marks=needs_mlflow)])
def test_a_run_that_is_cut_behind_a_checkpoint_and_resumed_is_tracked_like_its_log(name, train_toy, tmp_path):
    def cut(row, steps):
        if row["total_step"] == 4:  # the last checkpoint is at 3: steps 3 and 4 are taken again
            raise PowerCutError

    run = tmp_path / "run"
    with pytest.raises(PowerCutError):
        train_toy(run, track=name, on_row=cut)
    assert [step for step, _ in SCALARS[name](run)["total"]] == [0, 1, 2, 3, 4]
    assert train_toy(run, track=name, resume=True).finished
    assert [step for step, _ in SCALARS[name](run)["total"]] == [0, 1, 2, 3, 4, 5, 6]
    assert tracked_without_seconds(name, run) == logged(run)
    assert {"lr", "losses/supervised", "losses/consistency"} <= logged(run).keys()
    assert train_toy(run, track=name, resume=True).finished
    assert tracked_without_seconds(name, run) == logged(run), "a run at its end is not written again"


def test_tensorboard_shows_the_config_and_the_facts_once_and_tracking_may_begin_late(train_toy, tmp_path):
    run = tmp_path / "run"
    assert train_toy(run).finished
    assert not (run / "tensorboard").exists()
    for _ in range(2):
        assert train_toy(run, track="tensorboard", resume=True).finished
    assert tracked_without_seconds("tensorboard", run) == logged(run)
    events = events_of(run)
    texts = {tag: events.Tensors(tag) for tag in events.Tags()["tensors"]}
    assert {tag: len(found) for tag, found in texts.items()} == {"config/text_summary": 1, "facts/text_summary": 1}
    assert b"checkpoint_every = 3" in texts["config/text_summary"][0].tensor_proto.string_val[0]
    assert b'"method": "mean_teacher"' in texts["facts/text_summary"][0].tensor_proto.string_val[0]


@needs_mlflow
def test_mlflow_holds_config_facts_and_state_in_the_run_folder_alone(train_toy, tmp_path, monkeypatch):
    def refuse(*words):
        raise AssertionError(f"a connection to {words[1:]}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.chdir(tmp_path)
    run = tmp_path / "a run of 'ours'"
    assert not train_toy(run, track="mlflow", seconds=1e-9).finished
    assert mlflow_run(run)[1].info.status == "KILLED"
    assert train_toy(run, track="mlflow", resume=True).finished
    _, found = mlflow_run(run)
    assert found.info.status == "FINISHED"
    assert found.info.run_name == run.name
    assert found.data.params["checkpoint_every"] == "3"
    assert found.data.params["method.geometry"] == "elastic"
    for name in ("config.toml", "run.json"):
        copy = run / "mlflow" / "artifacts" / found.info.run_id / "artifacts" / name
        assert copy.read_text() == (run / name).read_text()
    assert [path.name for path in tmp_path.iterdir()] == [run.name], "nothing is written beside the run"


def test_a_tracker_without_its_package_is_refused_with_what_to_install(train_toy, tmp_path, monkeypatch):
    really = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "mlflow" else really(name))
    with pytest.raises(MissingExtraError, match=r"pip install 'semivox\[mlflow\]'"):
        train_toy(tmp_path / "run", track="mlflow")
    with pytest.raises(ConfigError, match="did you mean 'tensorboard'"):
        train_toy(tmp_path / "run", track="tensorbord")
    assert not (tmp_path / "run").exists()


def test_a_tracker_that_fails_is_told_of_and_the_run_goes_on(train_toy, tmp_path, monkeypatch):
    add = trackers.TensorBoardFiles.add

    def full(self, row):
        if row["total_step"] == 2:
            raise OSError("No space left on device")
        add(self, row)

    notes: list[str] = []
    monkeypatch.setattr(trackers.TensorBoardFiles, "add", full)
    assert train_toy(tmp_path / "run", track="tensorboard", on_note=notes.append).finished
    (note,) = [note for note in notes if "tensorboard" in note]
    assert "No space left on device" in note
    monkeypatch.setattr(trackers.TensorBoardFiles, "add", add)
    assert train_toy(tmp_path / "run", track="tensorboard", resume=True).finished
    assert tracked_without_seconds("tensorboard", tmp_path / "run") == logged(tmp_path / "run")


def test_files_that_a_tracker_cannot_open_are_refused_on_one_line(train_toy, tmp_path):
    assert train_toy(tmp_path / "run").finished
    (tmp_path / "run" / "tensorboard").write_text("no folder")
    with pytest.raises(RunError, match=r"tensorboard cannot be opened .*; remove that folder") as refused:
        train_toy(tmp_path / "run", track="tensorboard", resume=True)
    assert "\n" not in str(refused.value)


def test_without_a_tracker_the_listener_is_handed_on_as_it_is(train_toy, tmp_path):
    assert train_toy(tmp_path / "run").finished

    def on_row(row, steps):
        """Hear nothing."""

    with listening.tracked(None, open_run(tmp_path / "run"), on_row, None) as heard:
        assert heard is on_row
