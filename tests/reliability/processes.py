"""Processes that can be killed: a tiny study by the command line, one run of it in a forked child.

Children come from a fork server that has imported everything, so that a trial costs its own time
only. Each has one thread.
"""

import contextlib
import hashlib
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from multiprocessing import forkserver
from pathlib import Path
from typing import Any

import pytest
import yaml
from tiny_studies import CODES, TINY_SCENES

from mot_lab.config import StudyConfig
from mot_lab.data.prepare import DataConfig, prepare
from mot_lab.data.scenes import SPLITS
from mot_lab.parsing import from_dict
from mot_lab.runtime.metrics_file import read_lines
from mot_lab.runtime.signals import ends_on_signals, steps
from mot_lab.runtime.step_timer import LOGGED
from mot_lab.training import Run, runs_of, train

SETTINGS: dict[str, Any] = {
    "name": "small",
    "arms": ["dense", "mot"],
    "parallel_runs": 2,
    "data": TINY_SCENES,
    "model": {
        "backbone": {"width": 16, "layers": 2, "heads": 2, "feed_forward_multiple": 16},
        "optimizer": {"lr": 1e-3, "final_lr": 1e-4, "warmup_steps": 2},
    },
    "training": {"steps": 150, "val_every": 15, "log_every": 5, "checkpoint_every": 20},
    "evaluation": {"images": 4, "sample_steps": 2, "shown": 1, "extractors": []},
}
TIMINGS = ("time", "system/", *LOGGED)

_children = multiprocessing.get_context("forkserver")
_children.set_forkserver_preload(["reliability.processes"])


def child(task: Callable[..., None], *arguments: Any) -> multiprocessing.Process:
    """A process at work on a task, its own group, ready to be killed."""
    with pytest.MonkeyPatch.context() as patch:  # the fork server knows no other way to tests/
        patch.setenv("PYTHONPATH", str(Path(__file__).parents[1]))
        forkserver.ensure_running()
    process = _children.Process(target=_begin, args=(task, *arguments))
    process.start()
    return process


def _begin(task: Callable[..., None], *arguments: Any) -> None:
    import torch

    os.setpgrp()
    torch.set_num_threads(1)
    task(*arguments)


def study_config(**training: Any) -> StudyConfig:
    """The tiny study, with changes to its training."""
    return from_dict(StudyConfig, {**SETTINGS, "training": {**SETTINGS["training"], **training}})


def tiny_runs(folder: Path, **training: Any) -> list[Run]:
    """The runs of the tiny study."""
    return runs_of(study_config(**training), folder)


def train_one(folder: Path, place: int = 0, training: dict[str, Any] | None = None) -> None:
    """Train a run of the tiny study, or go on with it."""
    train(tiny_runs(folder, **(training or {}))[place], None)


def as_command(folder: Path) -> None:
    """A long run in the process that the user started, as `mot-lab fit` trains it."""
    with ends_on_signals():
        train_one(folder, training={"steps": 4000, "val_every": 1000, "checkpoint_every": 3000})


def hang_in_a_step(folder: Path) -> None:
    """A command whose step takes a minute; it says that it has begun by a file ``hanging``."""
    with ends_on_signals(), steps():
        (folder / "hanging").touch()
        until = time.monotonic() + 60
        while time.monotonic() < until:
            time.sleep(0.1)


def study_command(folder: Path, *overrides: str) -> list[str]:
    """``mot-lab study`` of the tiny study, with its runs in a folder."""
    config = folder / "small.yaml"
    if not config.exists():
        config.write_text(yaml.safe_dump(SETTINGS))
    mot_lab = Path(sys.executable).with_name("mot-lab")
    return [str(mot_lab), "study", str(config), "--runs", str(folder), *overrides]


def start(command: list[str], **environment: str) -> subprocess.Popen[str]:
    """A command at work, its own process group; what it says is in ``.stdout``."""
    return subprocess.Popen(
        command,
        env={**os.environ, "OMP_NUM_THREADS": "1", **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def kill_group(process: subprocess.Popen[str] | multiprocessing.Process) -> None:
    """kill -9 of a process and all that it started."""
    assert process.pid is not None
    with contextlib.suppress(ProcessLookupError):
        os.kill(process.pid, signal.SIGKILL)
        os.killpg(process.pid, signal.SIGKILL)


def kill_at_random(
    start: Callable[[], multiprocessing.Process],
    clear: Callable[[], object],
    seconds: float,
    draw: random.Random,
) -> None:
    """kill -9 after a random share of the time that a process takes undisturbed.

    Where it was done before (the machine was busier while it was timed), it is started again and
    killed sooner.

    Args:
        start: the process.
        clear: away with what a process that was done has made.
        seconds: that it takes undisturbed.
        draw: the random share.
    """
    while True:
        process = start()
        time.sleep(draw.uniform(0.05, 0.8) * seconds)
        kill_group(process)
        process.join()
        if process.exitcode == -signal.SIGKILL:
            return
        assert process.exitcode == 0
        clear()
        seconds /= 2


def emptied(folder: Path) -> Path:
    """The folder, new or without what stood in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    return folder


def wait_for(what: Callable[[], bool], seconds: float = 120) -> None:
    """Until something is so; fails when it takes too long."""
    until = time.monotonic() + seconds
    while not what():
        if time.monotonic() > until:
            raise TimeoutError(f"not so after {seconds} s")
        time.sleep(0.005)


def last_step(run: Path) -> int:
    """The last step in a run's metrics, 0 before there is one."""
    path = run / "metrics.jsonl"
    lines = read_lines(path)[0] if path.exists() else []
    return lines[-1]["step"] if lines else 0


def curve(folder: Path) -> list[dict[str, Any]]:
    """What a run logged, times aside."""
    lines, _ = read_lines(folder / "metrics.jsonl")
    lines = [{k: v for k, v in line.items() if not k.startswith(TIMINGS)} for line in lines]
    return [line for line in lines if len(line) > 1]


def record(run: Path) -> dict[str, Any]:
    """A run's ``run.json``."""
    return json.loads((run / "run.json").read_text())


def prepare_data(cache: Path) -> None:
    """Fit the tokenizers of the tiny study, with pictures as codes, and encode its data."""
    os.environ["MOT_LAB_CACHE"] = str(cache)
    config = from_dict(DataConfig, {**TINY_SCENES, "image": CODES})
    prepared = prepare(config)
    for split in SPLITS:
        prepared.pool(split)


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder, by its relative path, hidden ones included."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }
