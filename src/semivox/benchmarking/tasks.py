"""One job of a protocol: what it depends on, trained, predicted and scored; the same alone and beside others."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from semivox.benchmarking.protocols import Job, Protocol
from semivox.benchmarking.splits import Deal
from semivox.config.keys import Config, for_method, read_config, resolve_config
from semivox.config.toml import flatten
from semivox.errors import TimeUpError
from semivox.files import remove_unfinished, write_atomic
from semivox.methods import OwnMethod, load_own
from semivox.prediction.files import predict
from semivox.runs.building import make_method_config, resolve_device
from semivox.scoring.evaluation import evaluate_masks
from semivox.training.loop import Row
from semivox.training.start import train

SPENT = "the time is up: the same command goes on where it was"


@dataclass(frozen=True)
class Task:
    """A job with all that it takes to do it, in this process or in another.

    Attributes:
        job: which.
        protocol: whose.
        data: the data folder.
        deal: its cases.
        own: the method's file, where semivox does not ship it.
        cache: folder of prepared arrays.
        device: "auto", "cpu" or "cuda".
    """

    job: Job
    protocol: Protocol
    data: Path
    deal: Deal
    own: OwnMethod | None = None
    cache: Path | None = None
    device: str = "auto"

    @property
    def name(self) -> str:
        """What folder, messages and lock call it."""
        return self.job.folder.name

    def config(self) -> Config:
        """Return the config of its run, the plan's part left at the defaults.

        Raises:
            ConfigError, UnknownMethodError, MethodError: no run can follow it.
        """
        word = self.job.spec.name
        layers = [
            (self.protocol.config, for_method(read_config(self.protocol.config), word)),
            ("set", self.job.settings),
            ("method", {"method": {"name": word} | ({"sha256": self.own.digest} if self.own else {})}),
        ]
        config = resolve_config(layers)[0]
        make_method_config(config)
        resolve_device(config, self.device)
        return config

    def record(self) -> dict[str, Any]:
        """Return what its result depends on, under dotted keys, as JSON gives it back; the config is read anew."""
        job, protocol = self.job, self.protocol
        found = (
            ({"method_file": self.own.digest} if self.own else {})
            | {
                "data": protocol.data,
                "held_out": protocol.held_out,
                "labelled": job.labelled,
                "patients": protocol.patients,
                "method": job.spec.method,
                "config": for_method(read_config(protocol.config), job.spec.name),
                "set": job.settings,
            }
            | ({"draw": job.draw} if job.draw else {})  # not 0: jobs of before know no draws
            | ({"validation": protocol.validation} if protocol.validation else {})
        )
        plain: dict[str, Any] = json.loads(json.dumps(flatten(found), default=str))
        return plain

    def train(
        self,
        run: Path,
        *,
        seconds: float,
        settings: dict[str, Any] | None = None,
        on_row: Callable[[Row, int], None] | None = None,
        on_note: Callable[[str], None] | None = None,
    ) -> None:
        """Train into `run`, or go on there, to the end; `settings` are the job's unless others are given.

        Raises:
            KeyboardInterrupt: a signal stopped it behind a checkpoint.
            TimeUpError: the time is up; it stopped behind a checkpoint.
            SemivoxError: as `semivox.train`.
        """
        if self.own:
            load_own(self.own)
        outcome = train(
            self.data,
            output=run,
            method=self.own or self.job.spec.method,
            split=self.deal.split,
            config=self.protocol.config,
            settings=self.job.settings if settings is None else settings,
            resume=True,
            seconds=seconds,
            cache=self.cache,
            device=self.device,
            on_row=on_row,
            on_note=on_note,
        )
        if outcome.interrupted:
            raise KeyboardInterrupt
        if not outcome.finished:
            raise TimeUpError(SPENT)

    def do(
        self,
        *,
        seconds: float,
        on_row: Callable[[Row, int], None] | None = None,
        on_note: Callable[[str], None] | None = None,
    ) -> None:
        """Train, predict and score; what is there already is gone on from. Raises as `train`."""
        job = self.job
        masks = job.folder / "masks"
        job.folder.mkdir(parents=True, exist_ok=True)
        for folder in (job.folder, masks):
            remove_unfinished(folder, age=-1)  # one bench works here: they are of killed processes
        record = json.dumps(self.record(), indent=1)
        write_atomic(job.folder / "job.json", lambda file: file.write(record.encode()))
        self.train(job.folder / "run", seconds=seconds, on_row=on_row, on_note=on_note)
        predict([job.folder / "run"], [self.data], output=masks, held_out=True, device=self.device)
        for group, cases in self.deal.groups.items():
            unit = self.protocol.unit
            evaluate_masks(masks, self.data / "labelsTr", job.scores[group], cases=cases, unit=unit)
