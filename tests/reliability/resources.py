"""What a process holds while it trains: memory, open files, threads; and a leak of each."""

import contextlib
import gc
import json
import threading
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import wraps
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

import psutil
import torch
from reliability.processes import tiny_runs
from reliability.tracked_runs import sends_every

from mot_lab.batch import MultimodalBatch
from mot_lab.losses import Losses
from mot_lab.module import MultimodalModule
from mot_lab.runtime.mlflow_store import StudyTracker, default_tracking_uri
from mot_lab.runtime.quiet import quiet_libraries
from mot_lab.runtime.tracking import RunLogger
from mot_lab.training import train

LEAKED_BYTES = 2**17  # a step
STEPS_A_FILE, STEPS_A_THREAD = 20, 50


@dataclass(frozen=True)
class Held:
    """What a process holds after a step; ``memory`` is what would be free without it, in bytes."""

    step: int
    memory: int
    files: int
    threads: int


@dataclass(frozen=True)
class Growth:
    """From the first quarter of the samples to the last: memory as a share, the rest as counts.

    Memory is compared by medians. Files and threads are compared by their lowest counts: a file
    that is open while something is written comes and goes, one that leaks stays.
    """

    memory: float
    files: int
    threads: int


def growth(samples: list[Held]) -> Growth:
    """What has grown over samples taken at equal distances."""
    quarter = len(samples) // 4
    first, last = samples[:quarter], samples[-quarter:]
    before, after = (median(each.memory for each in part) for part in (first, last))
    return Growth(
        memory=after / before - 1,
        files=min(each.files for each in last) - min(each.files for each in first),
        threads=min(each.threads for each in last) - min(each.threads for each in first),
    )


def held(step: int) -> Held:
    """Of this process, now."""
    gc.collect()
    process = psutil.Process()
    return Held(step, process.memory_full_info().uss, process.num_fds(), process.num_threads())


def train_sampled(folder: Path, every: int, leaking: bool, training: dict[str, Any]) -> None:
    """Train the first run of the tiny study, tracked in its own store, as a study's worker does.

    Leaves a sample for every so many steps in ``held.json``.
    """
    quiet_libraries()
    samples: list[Held] = []
    log_metrics = RunLogger.log_metrics

    @wraps(log_metrics)
    def sampling(self: RunLogger, metrics: dict[str, float], step: int) -> None:
        log_metrics(self, metrics, step)
        if (step + 1) % every == 0 and any(name.startswith("system/") for name in metrics):
            samples.append(held(step + 1))

    (run, *_) = tiny_runs(folder, **training)
    tracking_uri = default_tracking_uri(folder)
    _ = StudyTracker(run.config.name, tracking_uri).run_id
    gc.freeze()  # what is imported need not be looked through for every sample
    with (
        mock.patch.object(RunLogger, "log_metrics", sampling),
        sends_every(0.5),
        leaks() if leaking else contextlib.nullcontext(),
    ):
        train(run, tracking_uri)
    (folder / "held.json").write_text(json.dumps([asdict(each) for each in samples]))


def read_samples(folder: Path) -> list[Held]:
    """What :func:`train_sampled` left."""
    return [Held(**each) for each in json.loads((folder / "held.json").read_text())]


@contextlib.contextmanager
def leaks() -> Iterator[None]:
    """Inside, every training step keeps 128 KiB, some keep a file open or a thread waiting."""
    losses, kept, done = MultimodalModule.losses, [], threading.Event()

    def leaking(self: MultimodalModule, batch: MultimodalBatch) -> Losses:
        if self.training:
            kept.append(torch.ones(LEAKED_BYTES // 4))
            if batch.step % STEPS_A_FILE == 0:
                kept.append(open("/dev/null"))  # noqa: SIM115
            if batch.step % STEPS_A_THREAD == 0:
                threading.Thread(target=done.wait, daemon=True).start()
        return losses(self, batch)

    with mock.patch.object(MultimodalModule, "losses", leaking):
        yield
    done.set()
