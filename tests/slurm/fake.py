"""Programs of SLURM's names that write down what they are asked, and say what a test wants."""

import os
import re
from pathlib import Path

import pytest

SBATCH = """#!/bin/sh
[ -e {folder}/refusal ] && cat {folder}/refusal >&2 && exit 1
number=$(ls {folder} | grep -c submitted)
cp "$1" {folder}/submitted$((number + 7)).sh
echo "Submitted batch job $((number + 7))"
"""
SQUEUE = """#!/bin/sh
echo "$@" >> {folder}/asked
[ -e {folder}/down ] && rm {folder}/down && echo "slurm_load_jobs error" >&2 && exit 1
cat {folder}/states
"""
SCONTROL = """#!/bin/sh
echo "JobId=7 JobState=FAILED ExitCode=$(cat {folder}/exit_code) Command=x"
"""
SRUN = """#!/bin/sh
exit 1
"""


class FakeSlurm:
    """The programs in a folder of the PATH. Jobs are numbered from 7."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        folder.mkdir()
        self.folder = folder
        programs = {"sbatch": SBATCH, "squeue": SQUEUE, "scontrol": SCONTROL, "srun": SRUN}
        for name, text in programs.items():
            (folder / name).write_text(text.format(folder=folder))
            (folder / name).chmod(0o755)
        self.set_states({})
        self.set_exit_code("0:0")
        patch.setenv("PATH", f"{folder}:{os.environ['PATH']}")

    def set_states(self, states: dict[str, str]) -> None:
        """What squeue says, by job: ``RUNNING``, or with a reason, ``PENDING Priority``."""
        lines = []
        for job, state in states.items():
            name, _, reason = state.partition(" ")
            lines.append(f"{job}|{name}|{reason or 'None'}\n")
        (self.folder / "states").write_text("".join(lines))

    def set_exit_code(self, code: str) -> None:
        """What scontrol says of every job, like ``2:0``."""
        (self.folder / "exit_code").write_text(code)

    def refuse(self, said: str) -> None:
        """From here sbatch takes nothing."""
        (self.folder / "refusal").write_text(said)

    def fail_once(self) -> None:
        """squeue fails, the next time only."""
        (self.folder / "down").touch()

    def submitted(self) -> list[int]:
        """The jobs that were submitted."""
        return sorted(int(path.stem[9:]) for path in self.folder.glob("submitted*"))

    def options(self, job: int) -> dict[str, str]:
        """The options in a job's script; those without a value have ``""``."""
        script = (self.folder / f"submitted{job}.sh").read_text()
        found = re.findall(r"^#SBATCH --([\w-]+)(?:=(.*))?$", script, re.MULTILINE)
        return {name: value.strip("'") for name, value in found}

    def commands(self, job: int) -> list[str]:
        """The lines of a job's script that are not its options."""
        script = (self.folder / f"submitted{job}.sh").read_text()
        return [line for line in script.splitlines() if line and not line.startswith("#")]
