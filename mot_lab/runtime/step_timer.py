"""What a run's training costs as it trains: time, waiting, memory, utilisation.

These are figures of the run, beside whatever else the machine was doing, other runs included. The
figures of a step alone, of all arms in turn, are `mot_lab.step_time`'s, logged as ``cost/*``.
"""

import statistics
import time
from collections import deque
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from mot_lab.data.loader import TimedLoader
from mot_lab.distributed.ranks import summed
from mot_lab.runtime.peak_memory import peak_bytes, reset_peak
from mot_lab.utilisation import StepWork

KEPT_STEPS = 10_000
LOGGED = ("train/tokens_per_second", "train/waiting_share", "run_cost/")
"""How the names of everything begin that the timer logs."""


@dataclass(frozen=True)
class _Step:
    """Marks of a step's begin and end, its tokens, and seconds waited for its data."""

    start: Any
    end: Any
    tokens: int
    waited: float


class StepTimer(Callback):
    """Measures every optimiser step, and logs with the losses ``train/tokens_per_second`` and
    ``train/waiting_share`` (seconds waited for batches over seconds of the steps), and when
    training ends, of the whole run, over resumes:

    * ``run_cost/seconds_per_step``: the median;
    * ``run_cost/tokens_per_second`` and ``run_cost/waiting_share``: of all timed steps together;
    * ``run_cost/model_flop_utilisation``: at the median step, where ``work`` is given;
    * ``run_cost/peak_memory_gb``: `mot_lab.runtime.peak_memory`, in 1e9 bytes;
    * ``run_cost/compile_seconds``: what the first ``warmup_steps`` of each process took more than
      as many median steps: compilation, and what else only first steps do.

    A step is timed from the end of the one before it to its own end, data included; a step during
    which validation ran or a checkpoint was written is left out. On CUDA the marks are events on
    the stream, so nothing waits for the device.

    Of several processes that train together the first one's times count, and the tokens of all.

    Batches must have ``counts``, tokens per modality as host ints, and come from a `TimedLoader`.

    Args:
        warmup_steps: of a process that are not counted as steps.
        work: of a step, for its utilisation.
    """

    def __init__(self, warmup_steps: int = 10, work: StepWork | None = None) -> None:
        self.warmup_steps, self.work = warmup_steps, work
        # seconds, tokens, seconds waited
        self._measured: deque[tuple[float, int, float]] = deque(maxlen=KEPT_STEPS)
        self._first_seconds, self._first_steps, self._peak_bytes = 0.0, 0, 0
        self._restart()

    def _restart(self) -> None:
        self._timed: list[_Step] = []  # since the last log
        self._firsts: list[_Step] = []
        self._mark: Any = None
        self._tokens = 0
        self._waited = 0.0
        self._steps_seen = 0
        self._steps_done = 0

    def seconds_per_step(self) -> float | None:
        """Median seconds of a training step; None before one was timed."""
        return statistics.median(each[0] for each in self._measured) if self._measured else None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._restart()
        self._steps_done = trainer.global_step
        reset_peak(pl_module.device)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if self._steps_seen == 0 and self._mark is None:  # compilation is in the first step
            self._mark, self._waited = _mark(pl_module.device), _seconds_waited(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._tokens += sum(batch.counts.values())
        if trainer.global_step == self._steps_done:  # still accumulating gradients
            return
        self._steps_done = trainer.global_step
        self._steps_seen += 1
        mark, waited = _mark(pl_module.device), _seconds_waited(trainer)
        if self._mark is not None:
            step = _Step(self._mark, mark, self._tokens, waited - self._waited)
            warm = self._steps_seen > self.warmup_steps
            (self._timed if warm else self._firsts).append(step)
        self._mark, self._tokens, self._waited = mark, 0, waited
        if trainer.global_step % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
            self._log(pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._mark = None

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._mark = None

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._collect()
        self._peak_bytes = max(self._peak_bytes, peak_bytes(pl_module.device))
        costs = {f"run_cost/{name}": value for name, value in self._costs().items()}
        if trainer.logger is not None:
            # Lightning's loggers count batches from 0
            trainer.logger.log_metrics(costs, step=trainer.global_step - 1)

    def state_dict(self) -> dict[str, Any]:
        self._collect_firsts()
        return {
            "measured": [list(each) for each in self._measured],
            "first_seconds": self._first_seconds,
            "first_steps": self._first_steps,
            "peak_bytes": self._peak_bytes,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        if "measured" not in state_dict:  # of an earlier version: timing begins anew
            return
        self._measured.extend(tuple(each) for each in state_dict["measured"])
        self._first_seconds = state_dict["first_seconds"]
        self._first_steps = state_dict["first_steps"]
        self._peak_bytes = state_dict["peak_bytes"]

    def _costs(self) -> dict[str, float]:
        """What the run cost, as far as its steps were timed."""
        costs = {"peak_memory_gb": self._peak_bytes / 1e9}
        median = self.seconds_per_step()
        if median is None:
            return costs
        seconds, tokens, waited = map(sum, zip(*self._measured, strict=True))
        costs |= {
            "seconds_per_step": median,
            "tokens_per_second": tokens / seconds,
            "waiting_share": waited / seconds,
            "compile_seconds": max(0.0, self._first_seconds - median * self._first_steps),
        }
        if self.work is not None:
            costs["model_flop_utilisation"] = self.work.utilisation(median)
        return costs

    def _log(self, pl_module: LightningModule) -> None:
        self._peak_bytes = max(self._peak_bytes, peak_bytes(pl_module.device))
        if steps := self._collect():
            seconds, tokens, waited = map(sum, zip(*steps, strict=True))
            rates = {"tokens_per_second": tokens / seconds, "waiting_share": waited / seconds}
            for name, value in rates.items():
                pl_module.log(f"train/{name}", value, on_step=True, on_epoch=False)

    def _collect(self) -> list[tuple[float, int, float]]:
        """Seconds, tokens and waiting of the steps timed since the last log; their marks go."""
        self._collect_firsts()
        timed, self._timed = self._timed, []
        tokens = summed([s.tokens for s in timed]) if timed else []
        steps = [
            (_seconds_between(s.start, s.end), of_all, s.waited)
            for s, of_all in zip(timed, tokens, strict=True)
        ]
        self._measured.extend(steps)
        return steps

    def _collect_firsts(self) -> None:
        firsts, self._firsts = self._firsts, []
        self._first_seconds += sum(_seconds_between(each.start, each.end) for each in firsts)
        self._first_steps += len(firsts)


def _seconds_waited(trainer: Trainer) -> float:
    loader = trainer.train_dataloader
    assert isinstance(loader, TimedLoader), "batches come from a loader that is timed"
    return loader.seconds_waited


def _mark(device: torch.device) -> Any:
    """A point in time: seconds on the CPU, an event in the stream's order on CUDA."""
    if device.type != "cuda":
        return time.perf_counter()
    event = torch.cuda.Event(enable_timing=True)
    event.record()
    return event


def _seconds_between(start: Any, end: Any) -> float:
    if isinstance(start, float):
        return end - start
    end.synchronize()  # only when metrics are logged, which reads the device anyway
    return start.elapsed_time(end) / 1000
