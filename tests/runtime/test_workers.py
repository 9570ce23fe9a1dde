"""Workers share out the cores, and do not outlive the study that started them."""

import os
import signal
import subprocess
import sys
import time

import pytest
import torch

from mot_lab.runtime.workers import cores, threads_each, worker_pool

STUDY = """
import os, time
from mot_lab.runtime.workers import worker_pool

if __name__ == "__main__":
    pool = worker_pool(1)
    print(pool.submit(os.getpid).result(), flush=True)
    pool.submit(time.sleep, 600)
    time.sleep(600)
"""


def test_workers_share_out_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert threads_each(1) == cores()
    assert threads_each(cores()) == 1
    assert threads_each(10 * cores()) == 1
    with worker_pool(10 * cores()) as pool:
        assert pool.submit(torch.get_num_threads).result() == 1


def test_workers_leave_cores_that_were_not_given_them(monkeypatch: pytest.MonkeyPatch) -> None:
    assert torch.get_num_threads() == 1  # of the tests too
    monkeypatch.setattr("mot_lab.runtime.workers.cores", lambda: 8)
    for most, threads in (("1", 1), ("3", 3), ("6", 4), ("", 4), ("many", 4)):
        monkeypatch.setenv("OMP_NUM_THREADS", most)
        assert threads_each(2) == threads


def test_a_worker_ends_with_its_study_though_that_is_killed() -> None:
    study = subprocess.Popen([sys.executable, "-c", STUDY], stdout=subprocess.PIPE, text=True)
    assert study.stdout is not None
    worker = int(study.stdout.readline())
    study.send_signal(signal.SIGKILL)
    study.wait()
    until = time.monotonic() + 30
    while _alive(worker) and time.monotonic() < until:
        time.sleep(0.1)
    assert not _alive(worker)


def _alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{process}/stat") as stat:
        return stat.read().rpartition(")")[2].split()[0] != "Z"
