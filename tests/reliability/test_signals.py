"""SIGTERM and SIGINT: a checkpoint at the end of the step, then 143 or 130."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
from reliability.amounts import only_whole
from reliability.processes import (
    as_command,
    child,
    curve,
    hang_in_a_step,
    last_step,
    record,
    start,
    study_command,
    tiny_runs,
    train_one,
    wait_for,
)

from mot_lab.runtime.checkpoint import load_checkpoint
from mot_lab.runtime.signals import requeue

A_STEP = 5.0  # seconds, with all that a process does to end; one of 4000 steps takes milliseconds


def a_step() -> float:
    """`A_STEP`, longer where more processes want the cores than there are."""
    return A_STEP * max(1.0, os.getloadavg()[0] / (os.cpu_count() or 1))


SCONTROL = """#!/bin/sh
echo "$@" >> {log}
[ "$1" = show ] && echo "JobId=7 JobState={state} Reason=None"  # as 22.05 writes it
exit 0
"""


def scontrol(folder: Path, state: str) -> None:
    """A program of SLURM's name in a folder, which writes down what it is asked."""
    program = folder / "scontrol"
    program.write_text(SCONTROL.format(log=folder / "log", state=state))
    program.chmod(0o755)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("undisturbed")
    for place in (0, 1):
        process = child(train_one, folder, place)
        process.join()
        assert process.exitcode == 0
    return folder


@pytest.mark.parametrize("number, code", [(signal.SIGTERM, 143), (signal.SIGINT, 130)])
def test_a_run_ends_after_its_step_with_a_checkpoint(
    tmp_path: Path, number: int, code: int
) -> None:
    process = child(as_command, tmp_path)
    run = tiny_runs(tmp_path)[0]
    wait_for(lambda: last_step(run.folder.path) >= 100)
    began = time.monotonic()
    os.kill(process.pid, number)
    process.join(60)
    assert time.monotonic() - began < a_step()
    assert process.exitcode == code
    saved = load_checkpoint(run.checkpoint)["global_step"]
    assert 100 <= saved < 3000  # no step at which a checkpoint was due
    assert saved - last_step(run.folder.path) < 5  # every fifth step is logged
    assert record(run.folder.path)["status"] == "interrupted"


def test_the_second_signal_ends_at_once(tmp_path: Path) -> None:
    process = child(hang_in_a_step, tmp_path)
    wait_for((tmp_path / "hanging").exists)
    os.kill(process.pid, signal.SIGTERM)
    process.join(1)
    assert process.is_alive()  # the step goes on
    began = time.monotonic()
    os.kill(process.pid, signal.SIGINT)
    process.join(60)
    assert time.monotonic() - began < 1 and process.exitcode == 130


@only_whole
def test_a_study_told_to_end_goes_on_with_the_same_curves(
    tmp_path: Path, undisturbed: Path
) -> None:
    # As in a SLURM job: the whole command asks to be put back, once its runs are saved
    scontrol(tmp_path, "RUNNING")
    path = f"{tmp_path}:{os.environ['PATH']}"
    study = start(study_command(tmp_path), PATH=path, SLURM_JOB_ID="9", SLURM_ARRAY_TASK_ID="")
    runs = [tmp_path / "small" / f"{arm}-seed0" for arm in ("dense", "mot")]
    wait_for(lambda: min(map(last_step, runs)) >= 5)
    workers = psutil.Process(study.pid).children(recursive=True)
    began = time.monotonic()
    study.send_signal(signal.SIGTERM)  # to the command alone: it tells its workers
    said = study.communicate(timeout=60)[0]
    assert time.monotonic() - began < a_step()
    assert study.returncode == 143
    assert said.strip().splitlines()[-1] == (
        "mot-lab: interrupted; the same command goes on from here; SLURM job 9 is back in the queue"
    )
    assert (tmp_path / "log").read_text().splitlines() == ["show job 9", "requeue 9"]
    assert "Traceback" not in said
    _, left = psutil.wait_procs(workers, timeout=10)  # they end with the command, or just after
    assert not left
    for run in runs:
        assert record(run)["status"] == "interrupted"
        assert load_checkpoint(run / "checkpoint.ckpt")["global_step"] - last_step(run) < 5

    again = subprocess.run(study_command(tmp_path), capture_output=True, text=True, check=True)
    assert "report.html" in again.stdout
    for run in runs:
        (resumed,) = record(run)["resumed_at"]
        assert 0 < resumed < 150
        assert curve(run) == curve(undisturbed / run.name)
    report = json.loads((tmp_path / "small" / "report.json").read_text())
    assert report["arms"].keys() == {"dense", "mot"}


@only_whole
@pytest.mark.parametrize("phase", ["Preparing", "Fitting", "Timing", "Evaluating"])
def test_ctrl_c_in_every_phase(tmp_path: Path, phase: str) -> None:
    """The whole group gets it, as from a terminal."""
    overrides = ["arms=[dense, moe_4x]", "training.steps=20", "training.val_every=10"]
    study = start(study_command(tmp_path, *overrides), MOT_LAB_CACHE=str(tmp_path / "cache"))
    assert study.stdout is not None
    for line in study.stdout:
        if line.startswith(phase):
            break
    os.killpg(study.pid, signal.SIGINT)
    said = study.communicate(timeout=60)[0]
    assert study.returncode == 130 and "Traceback" not in said, said
    again = subprocess.run(
        study_command(tmp_path, *overrides),
        env={**os.environ, "MOT_LAB_CACHE": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
    )
    assert again.returncode == 0, again.stderr


@pytest.mark.parametrize(
    "state, asked",
    [
        ("RUNNING", ["show job 7_3", "requeue 7_3"]),
        ("CANCELLED", ["show job 7_3"]),
        # While a job is ended: by scancel, by its limit, without a limit
        ("COMPLETING RunTime=00:00:17 TimeLimit=00:01:00", ["show job 7_3"]),
        ("COMPLETING RunTime=1-00:00:02 TimeLimit=1-00:00:00", ["show job 7_3", "requeue 7_3"]),
        ("COMPLETING RunTime=00:00:17 TimeLimit=UNLIMITED", ["show job 7_3"]),
    ],
)
def test_slurm_requeues_what_nobody_cancelled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, asked: list[str]
) -> None:
    scontrol(tmp_path, state)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "9")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    said = requeue()
    assert (tmp_path / "log").read_text().splitlines() == asked
    assert said is not None and re.search("is back" if len(asked) == 2 else "was cancelled", said)


def test_without_slurm_nothing_is_requeued(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_JOB_ID", raising=False)
    assert requeue() is None


def test_the_first_task_of_a_job_requeues_it_for_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scontrol(tmp_path, "RUNNING")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_JOB_ID", "9")
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID", raising=False)
    for task, asked in (("1", 0), ("0", 2)):
        monkeypatch.setenv("SLURM_PROCID", task)
        assert (requeue() is None) == (task == "1")
        log = tmp_path / "log"
        assert len(log.read_text().splitlines() if log.exists() else []) == asked


def test_a_requeue_that_fails_is_said(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))  # no scontrol there
    monkeypatch.setenv("SLURM_JOB_ID", "9")
    monkeypatch.delenv("SLURM_ARRAY_TASK_ID", raising=False)
    assert "could not be put back" in str(requeue())


@only_whole
def test_fit_ends_after_its_step(tmp_path: Path) -> None:
    mot_lab = Path(sys.executable).with_name("mot-lab")
    checkpoint = tmp_path / "fit.ckpt"
    command = [str(mot_lab), "fit", "--trainer.max_steps", "500", "--checkpoint", str(checkpoint)]
    command += ["--trainer.default_root_dir", str(tmp_path)]
    process = start(command)
    assert process.stdout is not None
    wait_for(lambda: "step" in process.stdout.readline())
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=120)[0]
    assert process.returncode == 143, said
    assert 0 < load_checkpoint(checkpoint)["global_step"] < 500
