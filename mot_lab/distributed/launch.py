"""The processes of one run on this machine, started as Lightning's strategies find them.

Where something else has started the processes (torchrun, SLURM's srun), nothing is started here.
"""

import multiprocessing
import os
import pickle
from collections.abc import Callable
from multiprocessing.queues import SimpleQueue
from pathlib import Path
from typing import Any

import torch
from lightning.fabric.plugins.environments import (
    LightningEnvironment,
    SLURMEnvironment,
    TorchElasticEnvironment,
)
from lightning.fabric.plugins.environments.lightning import find_free_network_port
from lightning.pytorch.utilities.rank_zero import rank_zero_only
from torch.multiprocessing import ProcessExitedException, ProcessRaisedException, start_processes

from mot_lab.runtime.signals import steps, stop_if_asked
from mot_lab.runtime.workers import begin_worker

POLL_SECONDS = 0.2
GRACE_SECONDS = 10.0  # for the others to end by themselves when one has failed
LAUNCHED = "MOT_LAB_LAUNCHED"
START = "spawn"  # a process that was forked after CUDA began could not use it


def started_elsewhere() -> bool:
    """Whether this is one of several processes that torchrun, srun or the like have started."""
    if os.environ.get(LAUNCHED):
        return True
    # of the step that srun has begun; SLURM_NTASKS says what the job could have
    several_tasks = int(os.environ.get("SLURM_STEP_NUM_TASKS", "1")) > 1
    in_job = SLURMEnvironment.detect() and several_tasks
    return TorchElasticEnvironment.detect() or in_job or "LOCAL_RANK" in os.environ


def launched_plugins() -> list[Any]:
    """For the Trainer. A process that is alone or that :func:`launch` has started has its place in
    the environment, even inside a SLURM job: named, else Lightning takes ranks and signals from the
    job or, beside one, prints advice on srun. Those started elsewhere are recognised by it.
    """
    by_environment = os.environ.get(LAUNCHED) or not started_elsewhere()
    return [LightningEnvironment()] if by_environment else []


def launch(work: Callable[..., None], processes: int, *arguments: Any) -> None:
    """Call ``work(*arguments)`` in new processes that share this one's threads, and wait.

    A signal to this process is passed on; all end after the same step.

    Args:
        work: a function of a module, what each process does.
        processes: how many.
        arguments: of the function, the same for all.

    Raises:
        Stopped: the process was asked to end.
        Exception: what the first process that failed raised; the others are ended.
        ChildProcessError: one was killed.
    """
    threads = max(1, torch.get_num_threads() // processes)
    errors = multiprocessing.get_context(START).SimpleQueue()
    place = (find_free_network_port(), threads, errors)
    with steps():
        context = start_processes(
            _rank, (*place, work, arguments), processes, join=False, start_method=START
        )
        assert context is not None  # only with join=True
        try:
            while not context.join(POLL_SECONDS, GRACE_SECONDS):
                pass  # signals are passed on by their handler (`mot_lab.runtime.signals`)
        except (ProcessRaisedException, ProcessExitedException) as failure:
            stop_if_asked()
            raise _cause(failure, errors, processes) from failure
        finally:
            for file in context.error_files:  # torch leaves them in the temporary folder
                Path(file).unlink(missing_ok=True)
    stop_if_asked()


def _cause(
    failure: ProcessRaisedException | ProcessExitedException,
    errors: "SimpleQueue[bytes]",
    processes: int,
) -> Exception:
    killed = isinstance(failure, ProcessExitedException) and failure.exit_code < 0
    if killed or errors.empty():
        return ChildProcessError(
            f"process {failure.error_index} of the {processes} of a run ended: {failure}; "
            "its checkpoint is whole"
        )
    return pickle.loads(errors.get())


def _rank(
    rank: int,
    port: int,
    threads: int,
    errors: "SimpleQueue[bytes]",
    work: Callable[..., None],
    arguments: tuple[Any, ...],
) -> None:
    os.environ |= {
        LAUNCHED: "1",
        "LOCAL_RANK": str(rank),
        "NODE_RANK": "0",
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
    }
    # Lightning, imported before these were set, took itself for rank 0.
    rank_zero_only.rank = rank  # type: ignore[attr-defined]
    begin_worker(threads)
    try:
        work(*arguments)
    except Exception as error:
        errors.put(_pickled(error))
        raise


def _pickled(error: Exception) -> bytes:
    try:
        data = pickle.dumps(error)
        pickle.loads(data)
        return data
    except Exception:  # an exception whose arguments are not those of its class
        return pickle.dumps(RuntimeError(f"{type(error).__name__}: {error}"))
