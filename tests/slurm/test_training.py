"""A run inside a SLURM job is trained as anywhere else."""

import os
from pathlib import Path

import pytest
from reliability.processes import curve, last_step, tiny_runs

from mot_lab.training import train

TRAINING = {"steps": 4, "val_every": 2, "log_every": 1, "checkpoint_every": 4}


def test_slurms_variables_change_nothing_in_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [tmp_path / "here", tmp_path / "job"]
    for folder in folders:
        (run, *_) = tiny_runs(folder, **TRAINING)
        train(run, None)
        assert last_step(run.folder.path) == 4
        # What Lightning finds SLURM by; of two tasks, which it takes for two ranks
        for name, value in {"NTASKS": "2", "PROCID": "0", "JOB_ID": "7", "JOB_NAME": "s"}.items():
            monkeypatch.setenv(f"SLURM_{name}", value)
    one, other = (curve(folder / "dense-seed0") for folder in folders)
    assert one == other and os.environ["SLURM_NTASKS"] == "2"
