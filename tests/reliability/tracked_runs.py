"""Runs that are tracked, timed on the thread that trains; and what a tracker has of them."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from statistics import median
from typing import Any
from unittest import mock

from mlflow import MlflowClient
from reliability.processes import tiny_runs

from mot_lab.config import load_study
from mot_lab.runtime import sending, tracking
from mot_lab.runtime.metrics_file import RESERVED, read_curve, read_lines
from mot_lab.runtime.mlflow_store import StudyTracker, default_tracking_uri
from mot_lab.runtime.quiet import quiet_libraries
from mot_lab.runtime.sent import tracked_run_id
from mot_lab.runtime.system_metrics import SystemMetrics
from mot_lab.runtime.tracking import RunLogger
from mot_lab.training import runs_of, train

DEMO = Path(__file__).parents[2] / "experiments" / "openmoji" / "transfusion.yaml"
DEMO_SIZED = [
    "data.image={kind: pixels}",
    "data.patch=4",
    "data.train_scenes=64",
    "data.eval_scenes=16",
    "data.prose_share=0",
    "evaluation.images=16",
    "data.val_rows=8",
    "model.optimizer.warmup_steps=2",
    "training.steps=18",
    "training.log_every=1",
    "training.val_every=18",
    "training.checkpoint_every=18",
]


def train_tracked(folder: Path, tracking_uri: str, training: dict[str, Any]) -> None:
    """Train the first run of the tiny study as a study's worker does.

    Leaves in the folder what the process says on stderr, ``said``, and the seconds of the training
    thread, ``seconds.json``: of the whole ``training`` without what follows its last step, of each
    call of the logger in it (``logging``), and of the logger's last one (``finalize``).
    """
    quiet_libraries()
    with open(folder / "said", "wb") as said:
        os.dup2(said.fileno(), 2)
    with (
        timed(RunLogger, "__init__") as made,
        timed(RunLogger, "log_metrics") as logging,
        timed(RunLogger, "finalize") as finalize,
        sends_every(0.2),
    ):
        train(tiny_runs(folder, **training)[0], tracking_uri)
    ((_, began),), ((ended, left),) = made, finalize
    seconds = {
        "training": ended - began,
        "logging": [end - begin for begin, end in logging],
        "finalize": left - ended,
    }
    (folder / "seconds.json").write_text(json.dumps(seconds))


def train_demo_sized(folder: Path) -> None:
    """Train the demo's MoT for some steps, each logged, tracked in a store of its own as the demo
    is; its pictures are pixels, as many tokens as its latents, so that nothing need be fitted.

    Leaves the median seconds of a ``step``, and of what the training thread gives to tracking at a
    logged one, ``logging``: reading the machine's load, and the logger's calls.
    """
    quiet_libraries()
    config = load_study(DEMO, DEMO_SIZED)
    (run,) = (each for each in runs_of(config, folder) if each.arm == "mot" and each.seed == 0)
    tracking_uri = default_tracking_uri(folder)
    _ = StudyTracker(config.name, tracking_uri).run_id
    with (
        timed(SystemMetrics, "on_train_batch_end") as load,
        timed(RunLogger, "log_metrics") as logging,
    ):
        train(run, tracking_uri)
    outside = [
        (begin, end)
        for begin, end in logging
        if not any(first <= begin and end <= last for first, last in load)
    ]
    ((_, step),) = read_curve(run.folder.metrics_path, "run_cost/seconds_per_step")
    per_step = [median(end - begin for begin, end in part) for part in (load, outside)]
    seconds = {"step": step, "logging": sum(per_step)}
    (folder / "seconds.json").write_text(json.dumps(seconds))


@contextmanager
def timed(owner: type, name: str) -> Iterator[list[tuple[float, float]]]:
    """Inside, every call of a method leaves when it began and ended."""
    function, marks = getattr(owner, name), []

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        began = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            marks.append((began, time.perf_counter()))

    with mock.patch.object(owner, name, call):
        yield marks


def sends_every(seconds: float) -> Any:
    """Inside, the tracker is brought up to date this often: the run is short."""
    return mock.patch.object(tracking, "SEND_EVERY_SECONDS", seconds)


def sync_in_small_calls(study: Path, tracking_uri: str) -> None:
    """``mot-lab sync``, with fewer metrics to a call: it has several to be killed between."""
    from mot_lab.cli import main

    with mock.patch.object(sending, "METRICS_PER_CALL", 50):
        main(["sync", str(study), "--tracking-uri", tracking_uri])


def logged(run: Path) -> dict[str, list[tuple[int, float]]]:
    """Every curve of a run's ``metrics.jsonl``."""
    curves: dict[str, list[tuple[int, float]]] = {}
    for line in read_lines(run / "metrics.jsonl")[0]:
        for name in line.keys() - set(RESERVED):
            curves.setdefault(name, []).append((line["step"], line[name]))
    return curves


def tracked(run: Path, tracking_uri: str, server: str) -> dict[str, list[tuple[int, float]]]:
    """Every curve that a tracker has of a run, asked at the ``server``'s own address."""
    client = MlflowClient(server)
    run_id = tracked_run_id(run, tracking_uri)
    assert run_id is not None
    return {
        name: [(each.step, each.value) for each in client.get_metric_history(run_id, name)]
        for name in client.get_run(run_id).data.metrics
    }
