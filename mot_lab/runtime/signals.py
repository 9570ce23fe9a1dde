"""Being asked to end: training ends after the step, with a checkpoint, everything else at once.

The process that the user started decides. SIGTERM and SIGINT ask it to end; it tells its workers,
waits for their checkpoints and exits with 128 + the signal's number, as a shell would say it (143,
130). A second signal ends everything where it stands; files are whole all the same. Under SLURM the
job is put back into the queue, unless somebody cancelled it.

Lightning's own handlers are set aside: they end a run with exit code 0 and no checkpoint.
"""

import multiprocessing
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Stopped(SystemExit):
    """The process was asked to end; its code is 128 + the signal's number."""


class _State:
    """Of this process. A forked child (a loader's worker) has a copy, and is none of it."""

    asked: int | None = None
    steps_under_way = False  # whoever takes them looks at `asked` after each
    process = 0  # whose handlers these are; 0 where none are set
    worker = False


_state = _State()


def stop_code() -> int | None:
    """The exit code that was asked for; None while nobody asks."""
    return None if _state.asked is None else 128 + _state.asked


def stop_if_asked() -> None:
    """Raises Stopped where the process was asked to end."""
    if (code := stop_code()) is not None:
        raise Stopped(code)


@contextmanager
def ends_on_signals() -> Iterator[None]:
    """Inside, a signal ends the command as this module says. For the main thread of a command."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    earlier = {number: signal.getsignal(number) for number in SIGNALS}
    _state.asked, _state.process = None, os.getpid()
    _set_handlers()
    try:
        yield
    finally:
        _state.asked, _state.process = None, 0
        for number, handler in earlier.items():
            signal.signal(number, handler)


def follow_parent() -> None:
    """In a worker: only the parent's SIGTERM counts. A Ctrl-C reaches the whole group, and the
    parent passes it on.
    """
    _state.process, _state.worker = os.getpid(), True
    _set_handlers()


@contextmanager
def steps() -> Iterator[None]:
    """Inside, a signal is kept until someone asks for it at the end of a step."""
    begin_steps()
    try:
        yield
    finally:
        end_steps()


def begin_steps() -> None:
    """From here a signal is kept (``stop_if_asked``) until :func:`end_steps`."""
    stop_if_asked()
    _state.steps_under_way = True
    if _state.process == os.getpid():
        _set_handlers()  # Lightning has put its own in their place


def end_steps() -> None:
    """From here a signal ends the process at once."""
    _state.steps_under_way = False


def stop_workers() -> None:
    """Ask the workers of this process to end: those in training after their step."""
    for each in multiprocessing.active_children():
        each.terminate()


def kill_workers() -> None:
    """End the workers of this process where they stand; what they saved is whole."""
    for each in multiprocessing.active_children():
        each.kill()


def requeue() -> str | None:
    """Put the SLURM job that this process belongs to back into the queue; returns what is to be
    said of it, None outside SLURM, and in all tasks of a job but its first, which does it for all.
    """
    job = os.environ.get("SLURM_JOB_ID")
    if job is None or os.environ.get("SLURM_PROCID", "0") != "0":
        return None
    if task := os.environ.get("SLURM_ARRAY_TASK_ID"):
        job = f"{os.environ['SLURM_ARRAY_JOB_ID']}_{task}"
    try:
        shown = subprocess.run(
            ["scontrol", "show", "job", job], capture_output=True, text=True, timeout=20
        )
        if _is_ended_early(shown.stdout):
            return f"SLURM job {job} was cancelled or preempted and is not put back from here"
        done = subprocess.run(
            ["scontrol", "requeue", job], capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"SLURM job {job} could not be put back into the queue: {error}"
    if done.returncode:
        return f"SLURM job {job} could not be put back into the queue: {done.stderr.strip()}"
    return f"SLURM job {job} is back in the queue"


def _is_ended_early(shown: str) -> bool:
    """Whether SLURM is ending a job of which ``scontrol show job`` says this, and not because of
    its time limit: somebody cancelled it, or it is preempted, after which SLURM itself requeues
    what it should. While a job ends its state is COMPLETING, whatever it will be then (22.05).
    """
    fields = dict(part.split("=", 1) for part in shown.split() if "=" in part)
    if fields.get("JobState") == "CANCELLED":
        return True
    if fields.get("JobState") != "COMPLETING":
        return False
    ran, limit = _seconds(fields.get("RunTime", "")), _seconds(fields.get("TimeLimit", ""))
    return ran is None or limit is None or ran < limit


def _seconds(duration: str) -> int | None:
    """Of SLURM's ``[days-]hours:minutes:seconds``; None of what is none, like UNLIMITED.

    Example:
        >>> _seconds("1-02:03:04"), _seconds("UNLIMITED")
        (93784, None)
    """
    match = re.fullmatch(r"(?:(\d+)-)?(\d+):(\d+):(\d+)", duration)
    if match is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
    return ((days * 24 + hours) * 60 + minutes) * 60 + seconds


def _set_handlers() -> None:
    if _state.worker:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, _on_parents_signal)
    else:
        for number in SIGNALS:
            signal.signal(number, _on_signal)


def _on_signal(number: int, frame: FrameType | None) -> None:
    if os.getpid() != _state.process:
        return
    if _state.asked is not None:
        kill_workers()
        os._exit(128 + number)
    _state.asked = number
    stop_workers()
    if not _state.steps_under_way:
        raise Stopped(128 + number)
    print(
        "mot-lab: ending after this step, with a checkpoint; once more ends at once",
        file=sys.stderr,
        flush=True,
    )


def _on_parents_signal(number: int, frame: FrameType | None) -> None:
    if os.getpid() != _state.process:
        return
    _state.asked = number
    stop_workers()  # the processes of a run, where this one has started them
    if not _state.steps_under_way:
        os._exit(128 + number)
