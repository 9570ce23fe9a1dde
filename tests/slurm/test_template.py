"""The job script of the 7B rows starts what it says."""

import os
import re
import subprocess
from pathlib import Path

import pytest

from mot_lab.config import load_study
from mot_lab.training import runs_of

PAPER = Path(__file__).parents[2] / "experiments" / "paper"
SCRIPT = PAPER / "7b.sbatch"


def call(folder: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """The script as a job of 48 machines would run it, with an srun that prints what it is told."""
    activate = folder / ".venv" / "bin" / "activate"
    activate.parent.mkdir(parents=True)
    activate.touch()
    srun = folder / "srun"
    srun.write_text('#!/bin/sh\nprintf "%s\\n" "$SRUN_CPUS_PER_TASK" "$@"\n')
    srun.chmod(0o755)
    options = dict(re.findall(r"^#SBATCH --([\w-]+)=(\S+)$", SCRIPT.read_text(), re.MULTILINE))
    job = {
        "PATH": f"{folder}:{os.environ['PATH']}",
        "SLURM_SUBMIT_DIR": str(folder),
        "SLURM_JOB_NUM_NODES": options["nodes"],
        "SLURM_NTASKS_PER_NODE": options["ntasks-per-node"],
        "SLURM_CPUS_PER_TASK": options["cpus-per-task"],
    }
    command = ["bash", str(SCRIPT), *arguments]
    return subprocess.run(command, env={**os.environ, **job}, capture_output=True, text=True)


@pytest.mark.parametrize("name", ["chameleon_7b", "chameleon_speech_7b", "transfusion_7b"])
def test_a_run_of_a_7b_row_is_started_on_all_gpus(name: str, tmp_path: Path) -> None:
    config = load_study(PAPER / f"{name}.yaml")
    run = runs_of(config, tmp_path)[-1].name
    told = call(tmp_path, f"experiments/paper/{name}.yaml", run)
    assert told.returncode == 0, told.stderr
    cpus, *command = told.stdout.splitlines()
    assert cpus == "12"
    study = ["mot-lab", "study", f"experiments/paper/{name}.yaml", "--only", run]
    assert command[:5] == study
    assert {"training.num_nodes=48", "training.devices=8"} < set(command[5:])


def test_without_a_run_it_says_what_is_missing(tmp_path: Path) -> None:
    told = call(tmp_path, "experiments/paper/chameleon_7b.yaml")
    assert told.returncode != 0 and "one of its runs" in told.stderr
