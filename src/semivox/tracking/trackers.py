"""Who a run's rows are told to beside its log: TensorBoard or MLflow, each by its own writer, inside the run folder."""

import importlib.util
import json
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from semivox.config.keys import config_text, flatten
from semivox.errors import ConfigError, MissingExtraError, nearest
from semivox.runs.folder import RunFolder

Row = Mapping[str, Any]


class Tracker(Protocol):
    """The files of one tracker for one run.

    Attributes:
        newest: the last step that they hold, counted over all stages; -1 where they hold none.
    """

    newest: int

    def add(self, row: Row) -> None:
        """Write one row of the log."""

    def close(self, *, finished: bool) -> None:
        """Write what is still in memory, and whether the run is at its end."""


class TensorBoardFiles:
    """Event files in RUN/tensorboard, with the config and run.json as texts."""

    def __init__(self, run: RunFolder) -> None:
        from torch.utils.tensorboard.writer import SummaryWriter

        folder = run.path / "tensorboard"
        self.newest = _newest_event(folder)
        self.writer = SummaryWriter(str(folder))
        if self.newest < 0:
            self.writer.add_text("config", _as_code(_config_of(run)), 0)
            self.writer.add_text("facts", _as_code(_facts_of(run)), 0)

    def add(self, row: Row) -> None:
        """Write one row of the log."""
        for name, value in numbers_of(row).items():
            self.writer.add_scalar(name, value, row["total_step"])
        self.newest = row["total_step"]

    def close(self, *, finished: bool) -> None:
        """Write what is still in memory; event files do not say whether a run is at its end."""
        self.writer.close()


class MLflowDatabase:
    """One run in RUN/mlflow/mlflow.db, with the config as its parameters, and config.toml and run.json beside it."""

    def __init__(self, run: RunFolder) -> None:
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = "true"  # read when it is imported; by default it tells its makers
        from mlflow.tracking import MlflowClient

        folder = (run.path / "mlflow").resolve()
        folder.mkdir(exist_ok=True)
        address = f"sqlite:///{folder / 'mlflow.db'}"
        self.client = MlflowClient(tracking_uri=address, registry_uri=address)
        found = self.client.get_experiment_by_name("semivox")
        experiment = found.experiment_id if found else self.client.create_experiment(
            "semivox", artifact_location=(folder / "artifacts").as_uri()
        )  # fmt: skip
        before = self.client.search_runs([experiment])
        self.run_id = before[0].info.run_id if before else self._begun(experiment, run)
        self.client.update_run(self.run_id, status="RUNNING")
        steps = [metric.step for metric in self.client.get_metric_history(self.run_id, "total")]
        self.newest = max(steps, default=-1)

    def _begun(self, experiment: str, run: RunFolder) -> str:
        from mlflow.entities import Param

        run_id: str = self.client.create_run(experiment, run_name=run.path.resolve().name).info.run_id
        values = flatten(run.config.model_dump(mode="json"))
        params = [Param(key, str(value)) for key, value in values.items() if value is not None]
        self.client.log_batch(run_id, params=params)
        self.client.log_text(run_id, _config_of(run), "config.toml")
        self.client.log_text(run_id, _facts_of(run), "run.json")
        return run_id

    def add(self, row: Row) -> None:
        """Write one row of the log."""
        from mlflow.entities import Metric

        now, step = int(time.time() * 1000), row["total_step"]
        self.client.log_batch(self.run_id, [Metric(name, value, now, step) for name, value in numbers_of(row).items()])
        self.newest = step

    def close(self, *, finished: bool) -> None:
        """Say whether the run is at its end."""
        self.client.set_terminated(self.run_id, "FINISHED" if finished else "KILLED")


TRACKERS: dict[str, type[TensorBoardFiles] | type[MLflowDatabase]] = {
    "tensorboard": TensorBoardFiles,
    "mlflow": MLflowDatabase,
}
"""By the name of the package, which is also that of the extra."""


def refuse_tracker(name: str | None) -> None:
    """Refuse a tracker that semivox does not know, or whose package is missing; None is no tracker.

    Raises:
        ConfigError: there is no such tracker.
        MissingExtraError: its package is not installed.
    """
    if name is None:
        return
    if name not in TRACKERS:
        raise ConfigError(f"there is no tracker '{name}': {nearest(name, TRACKERS)}")
    if importlib.util.find_spec(name) is None:
        raise MissingExtraError(f"--track {name} needs a package more: pip install 'semivox[{name}]'")


def numbers_of(row: Row) -> dict[str, float]:
    """Return the numbers of a row by the names that trackers show: total, lr, seconds, losses/NAME, shown/NAME."""
    single = {name: row[name] for name in ("total", "lr", "seconds")}
    return single | {f"{group}/{name}": value for group in ("losses", "shown") for name, value in row[group].items()}


def _newest_event(folder: Path) -> int:
    """Return the last step of the event files in a folder; -1 where there is none."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    if not folder.is_dir():
        return -1
    events = EventAccumulator(str(folder), size_guidance={"scalars": 0})
    events.Reload()
    steps = [event.step for event in events.Scalars("total")] if "total" in events.Tags()["scalars"] else []
    return max(steps, default=-1)


def _config_of(run: RunFolder) -> str:
    return config_text(run.config, run.facts.get("sources", {}))


def _facts_of(run: RunFolder) -> str:
    return json.dumps(dict(run.facts), indent=1)


def _as_code(text: str) -> str:
    """Return a text as Markdown that shows it as it is."""
    return "".join(f"    {line}\n" for line in text.splitlines())
