"""Waits for the jobs of a study and shows how they go on, from the files that they write."""

import os
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from time import sleep

from rich.console import Console

from mot_lab.parsing import printable
from mot_lab.runtime.board import RunBoard
from mot_lab.runtime.ending import SPEAKER, WRONG_CALL
from mot_lab.runtime.signals import Stopped
from mot_lab.slurm.jobs import log_path
from mot_lab.slurm.queue import JobState, QueueDown, exit_code, job_states
from mot_lab.slurm.submit import Submitted, is_done

POLL_SECONDS = 5.0
TAIL_BYTES = 8192
LAST_LINES = 5
OF_SUBMITIT = "submitit "  # how its lines in a log begin


def follow_study(submitted: Submitted, console: Console) -> None:
    """Show the runs until they end, then what the gathering job says.

    A run that fails is said at once. The others go on, and the next call keeps them.

    Raises:
        ValueError: a job failed with the exit code of a wrong call.
        OSError: a job failed in any other way: cancelled, out of memory, killed.
        Stopped: asked to end; the jobs go on.
    """
    try:
        failures = _follow_runs(submitted, console)
        if failures:
            more = f"; {len(failures) - 1} more failed" if len(failures) > 1 else ""
            raise type(failures[0])(f"{failures[0]}{more}")
        _follow_gathering(submitted, console)
    except Stopped:
        _say(console, f"The jobs go on: {how_to_go_on(submitted)}")
        raise


def how_to_go_on(submitted: Submitted) -> str:
    """What the user can do about jobs that are at work."""
    jobs = " ".join(submitted.jobs.ids())
    return f"the same command waits for them and shows the report; scancel {jobs} ends them"


def _follow_runs(submitted: Submitted, console: Console) -> list[Exception]:
    """Until every run has ended; why those failed that did."""
    runs = {run.name: run for run in submitted.runs}
    waiting, failures, said = dict(submitted.jobs.runs), [], ""
    lengths = {
        f"{run.arm} seed {run.seed}": (run.folder.metrics_path, run.study_arm.training.steps)
        for run in runs.values()
    }
    with RunBoard(lengths, console) as board:
        for states in _polls(console):
            board.update()
            for name, job in [*waiting.items()]:
                if (state := states.get(job)) is not None and state.active:
                    continue
                del waiting[name]
                if state is None and is_done(runs[name]):  # some time ago
                    continue
                if failure := _failure(f"run {name}", job, state, submitted.folder):
                    failures.append(failure)
                    _say(console, str(failure))
            if not waiting:
                break
            if (now := _counts(states, waiting)) != said:
                said = now
                _say(console, said)
    return failures


def _follow_gathering(submitted: Submitted, console: Console) -> None:
    """Print the log of the gathering job as it grows, until the job ends."""
    job = submitted.jobs.gathering
    assert job is not None
    log = log_path(submitted.folder, job)
    shown = 0
    for states in _polls(console):
        state = states.get(job)
        text = log.read_text(errors="replace") if log.exists() else ""
        whole = text[: text.rfind("\n") + 1]
        for line in whole[shown:].splitlines():
            if not line.startswith(OF_SUBMITIT):
                print(line, file=console.file, flush=True)
        shown = len(whole)
        if state is None or not state.active:
            if failure := _failure("the report", job, state, submitted.folder):
                raise failure
            return


def _polls(console: Console) -> Iterator[dict[str, JobState]]:
    """What SLURM says, every few seconds. Where it does not answer, that is said once, and it is
    asked again: a controller may be down for minutes while jobs go on.
    """
    down = False
    while True:
        try:
            states = job_states()
        except QueueDown as error:
            if not down:
                _say(console, f"{printable(str(error))}; asking again")
            down = True
        else:
            down = False
            yield states
        sleep(POLL_SECONDS)


def _counts(states: Mapping[str, JobState], waiting: Mapping[str, str]) -> str:
    """``SLURM: 2 running, 3 pending (Resources)``."""
    found = [states[job] for job in waiting.values()]
    counts = Counter(
        f"{each.name.lower()} ({each.reason})" if each.name == "PENDING" else each.name.lower()
        for each in found
    )
    return "SLURM: " + ", ".join(f"{count} {name}" for name, count in sorted(counts.items()))


def _failure(what: str, job: str, state: JobState | None, folder: Path) -> Exception | None:
    """Why a job that has ended did not end well; None where it did."""
    if state is not None and state.name == "COMPLETED":
        return None
    log = log_path(folder, job)
    how = "SLURM no longer knows it" if state is None else state.name
    said = f"{what} failed in SLURM job {job} ({how}): {last_words(log)}; its log is {log}"
    return ValueError(said) if exit_code(job) == WRONG_CALL else OSError(said)


def last_words(log: Path) -> str:
    """What a job said at last: the line that a command of ours ends with, else the last few."""
    if not log.exists():
        return "it has written no log"
    with open(log, "rb") as file:
        file.seek(0, os.SEEK_END)
        file.seek(max(0, file.tell() - TAIL_BYTES))
        tail = file.read().decode(errors="replace").splitlines()
    lines = [line for line in map(printable, tail) if line and not line.startswith(OF_SUBMITIT)]
    lines = lines[-LAST_LINES:]
    ours = [line.removeprefix(SPEAKER) for line in lines if line.startswith(SPEAKER)]
    return ours[-1] if ours else " | ".join(lines) or "its log is empty"


def _say(console: Console, text: str) -> None:
    console.print(text, style="bold", markup=False, highlight=False)
