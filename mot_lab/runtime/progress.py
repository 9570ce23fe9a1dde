"""One line per run: how far it is, how fast, how long it still takes, and its losses."""

import sys
import time
from datetime import timedelta
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ProgressBar
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text


class StudyProgress(ProgressBar):
    """Progress of one run, in steps: a bar on a terminal, elsewhere a plain line at every tenth.

    Unlike Lightning's bars, which count batches of an epoch, this one knows the step that a run
    resumes from, keeps its line when the run ends, and never opens a second line for validation.
    Losses are read only when metrics are logged: the device is not waited for at every step.

    Args:
        label: the run's name on the line, for example ``mot seed 1``.
        console: where to draw; by default standard output.
    """

    def __init__(self, label: str, console: Console | None = None) -> None:
        super().__init__()
        self.label = label
        self._console = console
        self._enabled = True
        self._progress: Progress | None = None
        self._losses = ""
        self._start = (0, 0.0)  # step and time at which this process began

    def enable(self) -> None:
        self._enabled = True

    def disable(self) -> None:
        self._enabled = False

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._enabled:
            return
        self._start = (trainer.global_step, time.monotonic())
        console = self._console or Console()
        if console.is_terminal:
            self._progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                _SpeedColumn(),
                TimeRemainingColumn(compact=True),
                TextColumn("{task.fields[losses]}", style="cyan"),
                console=console,
                refresh_per_second=2,
            )
            self._progress.start()
            self._progress.add_task(
                self.label, total=trainer.max_steps, completed=trainer.global_step, losses=""
            )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        step, total = trainer.global_step, trainer.max_steps
        if not self._enabled or step == self._start[0]:
            return
        if self._progress is None:
            if step == total or (step * 10) // total > ((step - 1) * 10) // total:
                self._read_losses(trainer)
                self._print_line(step, total)
        else:
            if step % trainer.log_every_n_steps == 0:  # type: ignore[attr-defined]
                self._read_losses(trainer)
            self._progress.update(self._progress.task_ids[0], completed=step, losses=self._losses)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._progress is not None:
            self._read_losses(trainer)
            self._progress.update(self._progress.task_ids[0], losses=self._losses)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        self._stop()

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._stop()

    def _read_losses(self, trainer: Trainer) -> None:
        self._losses = losses_text(
            {k: float(v) for k, v in trainer.callback_metrics.items() if is_loss(k)}
        )

    def _print_line(self, step: int, total: int) -> None:
        first, began = self._start
        per_step = (time.monotonic() - began) / (step - first)
        left = timedelta(seconds=round(per_step * (total - step)))
        line = f"{self.label}: step {step}/{total}, {1 / per_step:.3g} steps/s, {left} left"
        text = f"{line}, {self._losses}" if self._losses else line
        print(text, file=self._console.file if self._console else sys.stdout, flush=True)

    def _stop(self) -> None:
        if self._progress is not None:
            self._progress.stop()
            self._progress = None


def losses_text(metrics: dict[str, float]) -> str:
    """``{"train/text/loss": 2.3, "val/text/loss": 2.5}`` -> ``train text 2.3 | val text 2.5``."""
    parts = []
    for stage in ("train", "val"):
        terms = [
            f"{name.split('/')[1]} {value:.4g}"
            for name, value in sorted(metrics.items())
            if name.startswith(f"{stage}/") and is_loss(name)
        ]
        if terms:
            parts.append(" ".join([stage, *terms]))
    return " | ".join(parts)


def is_loss(name: str) -> bool:
    """Whether a metric is a loss, like ``train/text/loss``."""
    return name.count("/") == 2 and name.endswith("/loss")


class _SpeedColumn(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(f"{task.speed:.3g} steps/s" if task.speed else "", style="dim")
