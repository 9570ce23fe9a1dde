"""Progress of several runs at once, read from the files they write."""

import json
import os
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
)

from mot_lab.runtime.progress import is_loss, losses_text

TAIL_BYTES = 8192


@dataclass
class _Line:
    label: str
    metrics: Path
    steps: int
    task: TaskID | None = None
    step: int = 0
    first_step: int | None = None
    began: float = 0.0
    losses: str = ""


class RunBoard:
    """A bar per run with its time left and its losses; plain lines where there is no terminal.

    Args:
        runs: by label, ``metrics.jsonl`` and number of steps of each.
        console: where to draw.
    """

    def __init__(self, runs: dict[str, tuple[Path, int]], console: Console) -> None:
        self.console = console
        self.lines = {label: _Line(label, *of_run) for label, of_run in runs.items()}
        self.progress: Progress | None = None

    def __enter__(self) -> "RunBoard":
        if self.console.is_terminal:
            self.progress = Progress(
                TextColumn("{task.description}"),
                BarColumn(bar_width=24),
                MofNCompleteColumn(),
                TimeRemainingColumn(compact=True),
                TextColumn("{task.fields[losses]}", style="cyan"),
                console=self.console,
                refresh_per_second=2,
            )
            self.progress.start()
            for line in self.lines.values():
                line.task = self.progress.add_task(line.label, total=line.steps, losses="")
        return self

    def __exit__(self, *exception: object) -> None:
        self.update()
        if self.progress is not None:
            self.progress.stop()

    def update(self) -> None:
        """Read how far every run is."""
        for line in self.lines.values():
            step, losses = last_losses(line.metrics)
            if step > line.step:
                self._advance(line, step, losses)

    def _advance(self, line: _Line, step: int, losses: dict[str, float]) -> None:
        tenth_before, tenth = (10 * each // line.steps for each in (line.step, step))
        line.step, line.losses = step, losses_text(losses)
        if line.first_step is None:
            line.first_step, line.began = step, time.monotonic()
        if self.progress is not None and line.task is not None:
            self.progress.update(line.task, completed=step, losses=line.losses)
        elif tenth > tenth_before:
            print(
                f"{line.label}: step {step}/{line.steps}{self._left(line)}, {line.losses}",
                file=self.console.file,
                flush=True,
            )

    def _left(self, line: _Line) -> str:
        assert line.first_step is not None
        if line.step == line.first_step:
            return ""
        per_step = (time.monotonic() - line.began) / (line.step - line.first_step)
        return f", {per_step * (line.steps - line.step):.0f} s left"


def last_losses(path: Path) -> tuple[int, dict[str, float]]:
    """The last step in a metrics file, and the last value of each loss near its end."""
    if not path.exists():
        return 0, {}
    with open(path, "rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - TAIL_BYTES))
        tail = file.read().decode(errors="replace").splitlines()
    step = 0
    losses: dict[str, float] = {}
    for text in tail:
        try:
            line = json.loads(text)
        except ValueError:  # the first line of the tail is cut, the last may be half written
            continue
        step = line["step"]
        finite = {name: each for name, each in line.items() if isinstance(each, float)}
        losses |= {name: each for name, each in finite.items() if is_loss(name)}
    return step, losses
