"""Puts functions into the queue as jobs, through submitit.

Two things of submitit are set aside. Its signal handlers requeue, on SIGUSR2, what has a
``checkpoint`` method; ours save at the end of a step, on SIGTERM, and requeue the job themselves.
And it asks sacct how jobs are, which a cluster need not have; `mot_lab.slurm.queue` asks squeue.
"""

import io
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stderr
from pathlib import Path
from typing import Any

from submitit import SlurmExecutor
from submitit.core.utils import FailedJobError, FailedSubmissionError

from mot_lab.parsing import one_line
from mot_lab.slurm.config import SlurmConfig


def submit_jobs(
    folder: Path,
    config: SlurmConfig,
    name: str,
    tasks: Sequence[Callable[[], None]],
    after: str = "",
) -> list[str]:
    """Put tasks into the queue, several as an array.

    Args:
        folder: of their scripts and logs, which all machines see.
        config: what each asks for.
        name: of the jobs.
        tasks: what each does; it is pickled.
        after: sbatch's ``--dependency``, none by default.

    Returns:
        the id of each, ``array_task`` of several.

    Raises:
        ValueError: SLURM does not take them.
    """
    executor = SlurmExecutor(folder)
    executor.update_parameters(**_parameters(config, name, after))
    with _outside_jobs(), _refusals():
        return [str(job.job_id) for job in executor.submit_array(tasks)]


def _parameters(config: SlurmConfig, name: str, after: str) -> dict[str, Any]:
    """What submitit makes an sbatch script of; of a job that can never start, SLURM clears the
    queue.
    """
    more: dict[str, Any] = {
        "signal": f"TERM@{config.grace_seconds}",
        "requeue": True,
    }
    if after:
        more["kill-on-invalid-dep"] = "yes"
    return {
        "job_name": name,
        "partition": config.partition,
        "account": config.account,
        "qos": config.qos,
        "constraint": config.constraint,
        "time": config.minutes,
        "nodes": 1,
        "ntasks_per_node": 1,
        "cpus_per_task": config.cpus_per_task,
        "gpus_per_task": config.gpus_per_task or None,
        "mem": None if config.mem_gb is None else f"{round(config.mem_gb * 1024)}M",
        "dependency": after or None,
        # Where no plugin binds a job to its cores, it sees those of the whole machine
        "setup": [f"export OMP_NUM_THREADS={config.cpus_per_task}", *config.setup],
        # Since SLURM 22.05 srun does not take it from the job
        "srun_args": [f"--cpus-per-task={config.cpus_per_task}", "--open-mode=append"],
        "stderr_to_stdout": True,
        "wckey": None,  # submitit's own is refused where such keys are kept account of
        "additional_parameters": more,
    }


@contextmanager
def _outside_jobs() -> Iterator[None]:
    """Where the command runs in a job itself, that job's variables would settle options of the new
    ones. (submitit's `clean_env` takes SLURM_CONF and a user's SBATCH_ defaults away too.)
    """
    of_job = {
        name: os.environ.pop(name)
        for name in list(os.environ)
        if name.startswith(("SLURM_", "SRUN_")) and name != "SLURM_CONF"
    }
    try:
        yield
    finally:
        os.environ |= of_job


@contextmanager
def _refusals() -> Iterator[None]:
    """What sbatch refuses is an error in one line; submitit prints it too."""
    try:
        with redirect_stderr(io.StringIO()):
            yield
    except (FailedJobError, FailedSubmissionError) as error:
        raise ValueError(f"SLURM does not take the jobs: {one_line(error)}") from None
