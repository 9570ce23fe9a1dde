"""How long a training step takes, without waiting for the device and without counting pauses."""

import statistics
import time
from collections import deque
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

KEPT_STEPS = 10_000


class StepTimer(Callback):
    """Measures seconds per optimiser step and logs ``train/tokens_per_second`` with the losses.

    A step is timed from the end of the one before it to its own end, data included; a step during
    which validation ran or a checkpoint was written is left out, as are the first ``warmup_steps``
    of a process (compilation, allocation). On CUDA the marks are events on the stream. The median
    of all steps, kept over resumes, is :meth:`seconds_per_step`, logged as
    ``train/seconds_per_step`` when training ends.

    Batches must have ``counts``: tokens per modality as host ints.
    """

    def __init__(self, warmup_steps: int = 10) -> None:
        self.warmup_steps = warmup_steps
        self._seconds: deque[float] = deque(maxlen=KEPT_STEPS)
        self._timed: list[
            tuple[Any, Any, int]
        ] = []  # start mark, end mark, tokens; since the last log
        self._restart()

    def _restart(self) -> None:
        self._mark: Any = None
        self._tokens = 0
        self._steps_seen = 0
        self._steps_done = 0

    def seconds_per_step(self) -> float | None:
        """Median seconds of a training step; None before one was timed."""
        return statistics.median(self._seconds) if self._seconds else None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._restart()
        self._steps_done = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._tokens += sum(batch.counts.values())
        if trainer.global_step == self._steps_done:  # still accumulating gradients
            return
        self._steps_done = trainer.global_step
        self._steps_seen += 1
        mark = _mark(pl_module.device)
        if self._mark is not None and self._steps_seen > self.warmup_steps:
            self._timed.append((self._mark, mark, self._tokens))
        self._mark, self._tokens = mark, 0
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
        seconds = self.seconds_per_step()
        if seconds is not None and trainer.logger is not None:
            # Lightning's loggers count batches from 0
            trainer.logger.log_metrics(
                {"train/seconds_per_step": seconds}, step=trainer.global_step - 1
            )

    def state_dict(self) -> dict[str, Any]:
        return {"seconds": list(self._seconds)}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._seconds.extend(state_dict["seconds"])

    def _log(self, pl_module: LightningModule) -> None:
        tokens, seconds = self._collect()
        if tokens:
            pl_module.log("train/tokens_per_second", tokens / seconds, on_step=True, on_epoch=False)

    def _collect(self) -> tuple[int, float]:
        """Tokens and seconds of the steps timed since the last log; their marks are dropped."""
        timed, self._timed = self._timed, []
        seconds = [_seconds_between(start, end) for start, end, _ in timed]
        self._seconds.extend(seconds)
        return sum(tokens for _, _, tokens in timed), sum(seconds)


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
