"""A whole study on a real SLURM of one node: submitted, interrupted, requeued, gathered."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from reliability.processes import (
    curve,
    kill_group,
    last_step,
    record,
    start,
    study_command,
    train_one,
    wait_for,
)
from slurm.cluster import Cluster, NoSlurm

from mot_lab.runtime.checkpoint import load_checkpoint
from mot_lab.slurm.jobs import log_path, read_jobs

STEPS = {"steps": 600, "val_every": 100, "log_every": 5, "checkpoint_every": 500}
OVERRIDES = [
    *(f"training.{name}={value}" for name, value in STEPS.items()),
    *("slurm.gpus_per_task=0", "slurm.cpus_per_task=1", "slurm.hours=0.5"),
]
COMMAND = """
import time
from mot_lab.runtime.ending import ends_as_command
with ends_as_command():
    print("begun")
    time.sleep(600)
"""
PATIENCE = 1200  # seconds; the machine may be busy
pytestmark = pytest.mark.timeout(2 * PATIENCE)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Skips where there is no SLURM to start."""
    cluster = None
    try:
        cluster = Cluster()
        cluster.start()
        yield cluster
    except NoSlurm as reason:
        pytest.skip(f"no SLURM can be started here: {reason}")
    finally:
        if cluster is not None:
            cluster.stop()


def state(cluster: Cluster, job: str) -> str:
    """Of a job, as squeue has it."""
    asked = ["squeue", "--noheader", "--states=all", f"--jobs={job}", "--format=%T"]
    return cluster.ask(*asked).strip()


def on_slurm(cluster: Cluster, folder: Path, *overrides: str) -> "subprocess.Popen[str]":
    """The command at work."""
    command = study_command(folder, *OVERRIDES, *overrides, "--launcher", "slurm")
    return start(command, **cluster.environment)


def test_a_study_is_submitted_interrupted_requeued_and_gathered(
    cluster: Cluster, tmp_path: Path
) -> None:
    study = tmp_path / "small"
    dense, mot = (study / f"{arm}-seed0" for arm in ("dense", "mot"))
    command = on_slurm(cluster, tmp_path)
    try:
        wait_for(lambda: last_step(dense) >= 5 or command.poll() is not None, PATIENCE)
        jobs = read_jobs(study)
        assert jobs.runs.keys() == {"dense-seed0", "mot-seed0"}
        told = ["scancel", "--signal=TERM", jobs.runs["dense-seed0"]]
        cluster.ask(*told)  # as SLURM does some time before a job's limit
        wait_for(lambda: record(dense)["status"] == "interrupted", PATIENCE)
        saved = load_checkpoint(dense / "checkpoint.ckpt")["global_step"]
        assert 0 < saved < 500  # not one that was due

        command.send_signal(signal.SIGINT)  # the jobs go on
        said = " ".join(command.communicate(timeout=PATIENCE)[0].split())
        assert command.returncode == 130 and "Traceback" not in said, said
        assert f"scancel {' '.join(jobs.ids())} ends them" in said
    finally:
        kill_group(command)

    again = on_slurm(cluster, tmp_path)
    said = again.communicate(timeout=PATIENCE)[0]
    assert again.returncode == 0, said
    assert "0 of them submitted now" in " ".join(said.split())
    found = read_jobs(study)  # the task that was requeued is the same; others may be done by now
    assert found.gathering == jobs.gathering and found.runs.items() <= jobs.runs.items()
    assert f"The report is in {study}" in said
    log = log_path(study, jobs.runs["dense-seed0"]).read_text()
    assert f"SLURM job {jobs.runs['dense-seed0']} is back in the queue" in log
    assert log.count("Training dense-seed0") == 2
    assert (record(dense)["resumed_at"], record(mot)["resumed_at"]) == ([saved], [])

    report = json.loads((study / "report.json").read_text())
    assert report["arms"].keys() == {"dense", "mot"}
    train_one(tmp_path / "here", 0, STEPS)
    assert curve(dense) == curve(tmp_path / "here" / "dense-seed0")


def test_a_job_that_is_cancelled_is_not_put_back(cluster: Cluster, tmp_path: Path) -> None:
    """Though it is told to end in the same way as one that comes to its limit."""
    script, log = tmp_path / "job.sh", tmp_path / "log"
    script.write_text(f"#!/bin/bash\nsrun --open-mode=append {sys.executable} -u -c '{COMMAND}'\n")
    said = cluster.ask("sbatch", "--parsable", "--requeue", f"--output={log}", str(script))
    job = said.strip()
    wait_for(lambda: log.exists() and "begun" in log.read_text(), PATIENCE)
    cluster.ask("scancel", job)
    wait_for(lambda: state(cluster, job) == "CANCELLED", PATIENCE)
    wait_for(lambda: "mot-lab: interrupted" in log.read_text(), PATIENCE)
    assert f"SLURM job {job} was cancelled or preempted and is not put back" in log.read_text()
    assert state(cluster, job) == "CANCELLED"


def test_a_task_that_fails_is_named_and_takes_the_report_with_it(
    cluster: Cluster, tmp_path: Path
) -> None:
    command = on_slurm(cluster, tmp_path, "slurm.setup=[echo the licence server is down, exit 3]")
    said = command.communicate(timeout=PATIENCE)[0]
    jobs = read_jobs(tmp_path / "small")
    last = said.strip().splitlines()[-1]
    assert command.returncode == 1, said
    assert last == (
        f"mot-lab: run dense-seed0 failed in SLURM job {jobs.runs['dense-seed0']} (FAILED): "
        f"the licence server is down; its log is "
        f"{log_path(tmp_path / 'small', jobs.runs['dense-seed0'])}; 1 more failed"
    )
    assert jobs.gathering is not None
    gathering = jobs.gathering
    wait_for(lambda: state(cluster, gathering) == "CANCELLED", PATIENCE)
