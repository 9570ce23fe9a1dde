"""What SLURM says of jobs: through squeue and scontrol alone, because a cluster need not keep the
accounts that sacct reads.
"""

import re
import shutil
import subprocess
from dataclasses import dataclass

PROGRAMS = ("sbatch", "srun", "squeue", "scontrol")
ANSWERS_WITHIN = 60  # seconds
ENDED = {
    *("BOOT_FAIL", "CANCELLED", "COMPLETED", "DEADLINE", "FAILED", "NODE_FAIL"),
    *("OUT_OF_MEMORY", "PREEMPTED", "REVOKED", "TIMEOUT"),
}


@dataclass(frozen=True)
class JobState:
    """One job in the queue, or one that left it some minutes ago.

    Attributes:
        name: SLURM's, like RUNNING or OUT_OF_MEMORY (squeue(1), "job state codes").
        reason: why it waits or failed, like Resources or Priority.
    """

    name: str
    reason: str

    @property
    def active(self) -> bool:
        """Whether it waits, runs or is about to end."""
        return self.name not in ENDED


class QueueDown(OSError):
    """SLURM did not answer."""


def require_slurm() -> None:
    """Raises ValueError where this machine cannot submit jobs."""
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        raise ValueError(
            f"there is no {missing[0]} on the PATH: --launcher slurm is called on a machine that "
            "submits to a SLURM cluster; here, --launcher local trains"
        )


def job_states() -> dict[str, JobState]:
    """The user's jobs by id, tasks of arrays as ``array_task``; those that ended are known for
    ``MinJobAge`` (5 minutes by default).

    Raises:
        QueueDown: SLURM did not answer.
    """
    command = ["squeue", "--me", "--noheader", "--array", "--states=all", "--format=%i|%T|%r"]
    states = {}
    for line in _ask(command).splitlines():
        job, name, reason = line.strip().split("|", 2)
        states[job] = JobState(name, reason)
    return states


def exit_code(job: str) -> int | None:
    """The exit code of a job that has ended; None where SLURM does not know it (any more), or a
    signal ended it.
    """
    try:
        told = _ask(["scontrol", "show", "job", "--oneliner", job])
    except QueueDown:
        return None
    found = re.search(r"\bExitCode=(\d+):(\d+)", told)
    return int(found[1]) if found and found[2] == "0" else None


def _ask(command: list[str]) -> str:
    try:
        told = subprocess.run(command, capture_output=True, text=True, timeout=ANSWERS_WITHIN)
    except subprocess.TimeoutExpired:
        raise QueueDown(f"{command[0]} did not answer within {ANSWERS_WITHIN} s") from None
    if told.returncode:
        raise QueueDown(f"{command[0]} failed: {told.stderr.strip()}")
    return told.stdout
