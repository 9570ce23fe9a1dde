"""Worker processes that train and evaluate runs beside each other, sharing out the cores."""

import multiprocessing
import os
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing.queues import Queue

import torch

from mot_lab.runtime.gpus import VISIBLE
from mot_lab.runtime.quiet import quiet_libraries
from mot_lab.runtime.signals import follow_parent

PARENT_CHECK_SECONDS = 0.5


def cores() -> int:
    """Processor cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def threads_each(processes: int) -> int:
    """Threads for each of some processes at work at the same time: their share of the cores, and
    no more than ``OMP_NUM_THREADS``, where somebody who shares the machine has set it.
    """
    share = max(1, cores() // processes)
    most = os.environ.get("OMP_NUM_THREADS", "")
    return min(share, int(most)) if most.isdecimal() and int(most) else share


def worker_pool(processes: int, gpus: Sequence[str] = ()) -> ProcessPoolExecutor:
    """Fresh processes (nothing of this one's state leaks into a run), each with its share of
    the cores. Two runs of one thread each were measured to get through more steps than one run
    with two threads, and are not slowed out of proportion when something else wants a core.

    Args:
        processes: how many.
        gpus: one for each process, as CUDA_VISIBLE_DEVICES names it, which that process alone of
            them sees; without any, all see what this one sees.
    """
    context = multiprocessing.get_context("spawn")
    free: Queue[str] | None = None
    if gpus:
        assert len(gpus) == processes
        free = context.Queue()
        for gpu in gpus:
            free.put(gpu)
    return ProcessPoolExecutor(
        processes,
        mp_context=context,
        initializer=_begin,
        initargs=(threads_each(processes), free),
    )


def _begin(threads: int, free: "Queue[str] | None") -> None:
    if free is not None:  # before anything asks CUDA, which reads it once
        os.environ[VISIBLE] = free.get()
    begin_worker(threads)


def begin_worker(threads: int) -> None:
    """For a new process: its share of the cores, and its end with that of its parent."""
    quiet_libraries()
    follow_parent()
    torch.set_num_threads(threads)
    watch = threading.Thread(target=_end_with, args=(os.getppid(),), daemon=True)
    watch.start()


def _end_with(parent: int) -> None:
    """End this process soon after its parent, however that ended. A worker left alone would train
    on, beside the one that the same command, called again, starts on the same run.
    """
    while os.getppid() == parent:
        time.sleep(PARENT_CHECK_SECONDS)
    os._exit(1)
