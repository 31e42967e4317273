"""The one training loop: batch, forward, backward, step, after_step, log, save; stage by stage, resumable exactly."""

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from lightning_fabric import Fabric
from torch.optim import Optimizer

from semivox.data.stream import Stream
from semivox.errors import ConfigError, RunError
from semivox.methods.base import Method
from semivox.ops.freeze import learn_only
from semivox.runs.checkpoint import load_method, load_optimizers, load_scale
from semivox.runs.folder import RunFolder, read_checkpoint
from semivox.training.mishaps import checked_terms, device_errors_told, first_infinite, signals_caught
from semivox.training.relabelling import Relabelling
from semivox.training.resuming import refuse_no_place
from semivox.types import Batch, Progress, Stage, Terms, seed_from

Row = dict[str, Any]
State = dict[str, Any]


class Loop:
    """One training, from a fresh start or a checkpoint to its last stage's end.

    Args:
        fabric: launched.
        method: on the CPU, not wrapped.
        fresh: makes the method anew, with the initial weights of a stage.
        stages: resolved: every number set.
        make_stream: the crops of a stage.
        relabelling: the pseudo labels, made anew where a stage's end asks for it.
        run: where log and checkpoints go.
        deadline: time of `time.monotonic` from which on the run stops behind its next step.
        on_row: called with every row that is logged and the steps of all stages.
    """

    def __init__(
        self,
        fabric: Fabric,
        method: Method,
        *,
        fresh: Callable[[str], Method],
        stages: tuple[Stage, ...],
        make_stream: Callable[[Stage], Stream],
        relabelling: Relabelling,
        run: RunFolder,
        deadline: float = math.inf,
        on_row: Callable[[Row, int], None] | None = None,
    ) -> None:
        self.fabric, self.method, self.fresh, self.stages = fabric, method, fresh, stages
        self.make_stream, self.relabelling, self.run, self.on_row = make_stream, relabelling, run, on_row
        self.deadline = deadline
        self.interrupted = threading.Event()
        self.steps = sum(_known(stage.steps) for stage in stages)
        self.unchecked: list[tuple[int, dict[str, torch.Tensor]]] = []
        self.carried: dict[str, dict[str, Any]] = {}  # moments at the end of the stage before, by the weight's name

    def rewind(self) -> State | None:
        """Return the newest checkpoint, None where there is none; log and pseudo labels are cut back to it.

        Raises:
            RunError: the checkpoint cannot be gone on from, or the disk cannot be written.
        """
        latest = self.run.latest()
        state = read_checkpoint(latest) if latest else None
        if state and latest:
            refuse_no_place(state, latest, self.stages)
        if self.fabric.is_global_zero:
            self.run.cut_log(state["total_step"] if state else 0)
            self.relabelling.rewind(state)
        return state

    def train(self, state: State | None) -> bool:
        """Run all stages that are not done.

        Args:
            state: what `rewind` returned.

        Returns:
            True when the last stage is done; False when the budget or a signal stopped the run behind a checkpoint.

        Raises:
            RunError: a loss that is not a number, a disk that cannot be written, or a device without memory left.
            ConfigError: several optimisers in half precision (fp16), or "strict" with what is not deterministic.
        """
        with signals_caught(self.interrupted):
            for index, stage in enumerate(self.stages):
                if state and index < state["stage"]:
                    continue
                inside = state if state and index == state["stage"] else None
                if not self._run_stage(index, stage, inside):
                    return False
        return True

    def _run_stage(self, index: int, stage: Stage, state: dict[str, Any] | None) -> bool:
        if state:
            load_method(self.method, state, self.run.latest() or self.run.checkpoints)
        else:
            self._set_start(index, stage)
        learn_only(self.method, stage.trains)
        if not state:
            self.method.begin_stage(stage)
        wrapped, optimizers, rates = self._set_up(stage, state)
        self.method.train()
        first = state["step"] if state else 0
        steps = _known(stage.steps)
        before = sum(_known(earlier.steps) for earlier in self.stages[:index])
        started = time.monotonic()
        for step, batch in enumerate(self.make_stream(stage).iterate(first, steps), start=first):
            progress = self._progress(stage.name, step, steps, before + step)
            torch.manual_seed(seed_from(progress.seed, stage.name, step, progress.rank))
            _set_rates(optimizers, rates, self.method.schedule(stage, self._schedule_fraction(progress)))
            with device_errors_told(progress.total_step, self.fabric.device, last_good=self._last_good):
                terms = self._take_step(wrapped, optimizers, batch, progress)
            self._log(progress, terms, optimizers, (time.monotonic() - started) / (step - first + 1))
            stop = self._must_stop(progress)
            done = step + 1
            if stop or done == steps or (before + done) % self.run.config.checkpoint_every == 0:
                self._save(index, done, before + done, terms, optimizers)
            if stop and before + done < self.steps:
                return False
        self.carried = self._moments(optimizers)
        self._keep_end(index, stage)
        ended = self._progress(stage.name, steps, steps, before + steps)
        return self.relabelling.relabel(index, self.method, self.fabric, lambda: self._must_stop(ended))

    def _take_step(self, wrapped: Any, optimizers: list[Optimizer], batch: Batch, progress: Progress) -> Terms:
        """Forward, backward, step and what the method does behind it."""
        terms = checked_terms(wrapped(batch.to(self.fabric.device), progress), self.method)
        self.unchecked.append((progress.total_step, {name: loss.detach() for name, loss in terms.losses.items()}))
        self.fabric.backward(terms.total())
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
        self.method.after_step(progress)
        return terms

    def _last_good(self) -> str:
        """Return the name of the newest checkpoint."""
        latest = self.run.latest()
        return latest.name if latest else "none yet"

    def _set_up(self, stage: Stage, state: dict[str, Any] | None) -> tuple[Any, list[Optimizer], list[list[float]]]:
        """Return the wrapped method, its optimisers as a checkpoint left them, and their rates at the stage's start."""
        optimizers = self.method.optimizers(stage)
        if len(optimizers) > 1 and self.fabric.strategy.precision.precision == "16-mixed":
            raise ConfigError(
                f"stage '{stage.name}' has {len(optimizers)} optimisers, but in half precision (fp16) one loss scale "
                "serves one: set precision = '32', or 'bf16' where the GPU has it"
            )
        rates = [[group["lr"] for group in optimizer.param_groups] for optimizer in optimizers]
        if stage.optimizer == "previous" and not state:
            for weight, optimizer, name in self._learning(optimizers):
                optimizer.state[weight] = self.carried.get(name, {})
        wrapped, *optimizers = _as_tuple(self.fabric.setup(self.method, *optimizers))
        if state:
            path = self.run.latest() or self.run.checkpoints
            load_optimizers(optimizers, state.get("optimizers"), path)
            load_scale(self.fabric.strategy.precision, state.get("precision"), path)
        return wrapped, optimizers, rates

    def _progress(self, stage: str, step: int, steps: int, total_step: int) -> Progress:
        fabric, config = self.fabric, self.run.config
        logged = step % config.log_every == 0 or step + 1 == steps
        return Progress(stage, step, steps, total_step, config.seed, fabric.global_rank, fabric.device, logged)

    def _learning(self, optimizers: Sequence[Optimizer]) -> Iterator[tuple[torch.Tensor, Optimizer, str]]:
        """Yield every weight that an optimiser moves, the optimiser, and the weight's name."""
        names = {weight: name for name, weight in self.method.named_parameters()}
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                yield from ((weight, optimizer, names[weight]) for weight in group["params"])

    def _moments(self, optimizers: Sequence[Optimizer]) -> dict[str, dict[str, Any]]:
        """Return what the optimisers know of each weight, by its name."""
        return {name: optimizer.state[weight] for weight, optimizer, name in self._learning(optimizers)}

    def _schedule_fraction(self, progress: Progress) -> float:
        """Return how much of what the learning rate falls along is done."""
        over_run = self.method.config.schedule_over == "run"
        return progress.total_step / self.steps if over_run else progress.fraction

    def _set_start(self, index: int, stage: Stage) -> None:
        """Give the method the weights that a stage starts from."""
        if stage.start == "fresh":
            self.method.load_state_dict(self.fresh(stage.name).state_dict())
        elif stage.start != "previous":
            end = self.run.checkpoints / f"end_{stage.start}.pt"
            load_method(self.method, read_checkpoint(end), end)

    def _keep_end(self, index: int, stage: Stage) -> None:
        """Keep a stage's last weights where a later stage starts from them."""
        needed = any(later.start == stage.name for later in self.stages[index + 1 :])
        if needed and self.fabric.is_global_zero:
            self.run.save_checkpoint({"method": self.method.state_dict()}, name=f"end_{stage.name}")
        self.fabric.barrier()

    def _log(self, progress: Progress, terms: Terms, optimizers: list[Optimizer], seconds: float) -> None:
        if not progress.logged:
            return
        self._refuse_nan()
        losses = _numbers(terms.losses)
        row: Row = {
            "stage": progress.stage,
            "step": progress.step,
            "total_step": progress.total_step,
            "total": sum(losses.values()),
            "losses": losses,
            "shown": _numbers(terms.shown),
            "lr": optimizers[0].param_groups[0]["lr"],
            "seconds": round(seconds, 4),
        }
        if self.fabric.is_global_zero:
            self.run.append_log(row)
            if self.on_row:
                self.on_row(row, self.steps)

    def _refuse_nan(self) -> None:
        """Refuse the first loss since the last check that is no number; not every step, since a GPU waits for it."""
        for total_step, losses in self.unchecked:
            for name, value in _numbers(losses).items():
                if not math.isfinite(value):
                    raise RunError(
                        f"step {total_step}: the loss term '{name}' is {value}; expected a finite number. The last "
                        f"good checkpoint is {self._last_good()}; lower method.lr, or look at the scans with "
                        "`semivox check`"
                    )
        self.unchecked.clear()

    def _save(self, index: int, step: int, total_step: int, terms: Terms, optimizers: list[Optimizer]) -> None:
        self._refuse_nan()
        state = self.method.state_dict()
        if name := first_infinite(state):
            raise RunError(
                f"step {total_step - 1}: the weights '{name}' are no longer finite after the losses "
                f"{', '.join(terms.losses)}; the checkpoint was not written, the one before stays. Lower method.lr"
            )
        if self.fabric.is_global_zero:
            self.run.save_checkpoint(
                {
                    "stage": index,
                    "step": step,
                    "total_step": total_step,
                    "steps": self.steps,  # of all stages: who predicts knows whether the run is at its end
                    **self.relabelling.place(index),
                    "method": state,
                    "optimizers": [optimizer.state_dict() for optimizer in optimizers],
                    "precision": self.fabric.strategy.precision.state_dict(),  # fp16: the scale of the losses
                }
            )
        self.fabric.barrier()

    def _must_stop(self, progress: Progress) -> bool:
        """Say whether the budget is spent or a signal came, the same on every rank."""
        stop = self.interrupted.is_set() or time.monotonic() >= self.deadline
        if self.fabric.world_size > 1:
            flag = torch.tensor(float(stop), device=self.fabric.device)
            stop = bool(torch.as_tensor(self.fabric.all_reduce(flag, reduce_op="sum")) > 0)
        return stop


def _set_rates(optimizers: list[Optimizer], rates: list[list[float]], factor: float) -> None:
    for optimizer, start in zip(optimizers, rates, strict=True):
        for group, rate in zip(optimizer.param_groups, start, strict=True):
            group["lr"] = rate * factor


def _numbers(scalars: dict[str, torch.Tensor]) -> dict[str, float]:
    return {name: float(value.detach()) for name, value in scalars.items()}


def _as_tuple(made: Any) -> tuple[Any, ...]:
    return made if isinstance(made, tuple) else (made,)


def _known(steps: int | None) -> int:
    if steps is None:
        raise RunError("a stage reached the loop without a number of steps")
    return steps
