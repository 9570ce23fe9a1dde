"""Waiting for jobs: what is shown, which failure has which exit code, what is said at Ctrl-C."""

import io
from collections.abc import Callable
from pathlib import Path

import pytest
from reliability.processes import study_config
from rich.console import Console
from slurm.fake import FakeSlurm

from mot_lab.runtime.signals import Stopped
from mot_lab.slurm import follow
from mot_lab.slurm.follow import follow_study, last_words
from mot_lab.slurm.jobs import Jobs, log_path
from mot_lab.slurm.queue import QueueDown, exit_code, job_states
from mot_lab.slurm.submit import Submitted
from mot_lab.training import runs_of

ALL = {"dense-seed0": "7_0", "mot-seed0": "7_1"}


class Waiting:
    """A study of two runs in jobs 7_0 and 7_1, its report in 8, and what is said of it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said = io.StringIO()
        config = study_config()
        self.submitted = Submitted(config, folder, runs_of(config, folder), Jobs(ALL, "8"))
        (folder / "slurm").mkdir(parents=True)

    def log(self, job: str, text: str) -> None:
        log_path(self.folder, job).write_text(text)

    def follow(self) -> str:
        follow_study(self.submitted, Console(file=self.said, width=10_000))
        return self.said.getvalue()


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    return FakeSlurm(tmp_path / "slurm", monkeypatch)


@pytest.fixture
def waiting(tmp_path: Path) -> Waiting:
    return Waiting(tmp_path / "small")


@pytest.fixture
def at_each_poll(monkeypatch: pytest.MonkeyPatch) -> Callable[[list[Callable[[], object]]], None]:
    """Instead of a pause, the next thing happens."""

    def set_events(events: list[Callable[[], object]]) -> None:
        monkeypatch.setattr(follow, "sleep", lambda _: events.pop(0)())

    return set_events


def test_states_are_read_task_by_task(slurm: FakeSlurm) -> None:
    slurm.set_states({"7_0": "RUNNING", "7_1": "PENDING Resources", "8": "OUT_OF_MEMORY"})
    states = job_states()
    assert {job: state.active for job, state in states.items()} == {
        "7_0": True,
        "7_1": True,
        "8": False,
    }
    assert states["7_1"].reason == "Resources"
    slurm.fail_once()
    with pytest.raises(QueueDown, match="squeue failed: slurm_load_jobs error"):
        job_states()


@pytest.mark.parametrize("told, code", [("2:0", 2), ("1:0", 1), ("0:9", None), ("", None)])
def test_exit_codes_are_those_of_processes_that_ended_themselves(
    slurm: FakeSlurm, told: str, code: int | None
) -> None:
    slurm.set_exit_code(told)
    assert exit_code("7_0") == code


def test_progress_is_shown_and_then_the_report(
    slurm: FakeSlurm, waiting: Waiting, at_each_poll: Callable[..., None]
) -> None:
    slurm.set_states({"7_0": "RUNNING", "7_1": "PENDING Resources", "8": "PENDING Dependency"})

    def train() -> None:
        path = waiting.submitted.runs[0].folder.metrics_path
        path.parent.mkdir()
        path.write_text('{"step": 75, "train/text/loss": 2.5}\n')
        slurm.fail_once()

    def end_runs() -> None:
        slurm.set_states({"7_0": "COMPLETED", "7_1": "COMPLETED", "8": "RUNNING"})
        waiting.log("8", "submitit INFO - Starting\nTiming one step\nThe rep")

    def end_report() -> None:
        waiting.log("8", "submitit INFO - Starting\nTiming one step\nThe report is in x\n")
        slurm.set_states({"8": "COMPLETED"})

    at_each_poll([train, lambda: None, end_runs, end_report])
    assert waiting.follow().splitlines() == [
        "SLURM: 1 pending (Resources), 1 running",
        "squeue failed: slurm_load_jobs error; asking again",
        "dense seed 0: step 75/150, train text 2.5",
        "Timing one step",
        "The report is in x",
    ]


@pytest.mark.parametrize(
    "state, told, kind",
    [("FAILED", "2:0", ValueError), ("FAILED", "1:0", OSError), ("TIMEOUT", "0:15", OSError)],
)
def test_a_run_that_fails_is_said_at_once_and_the_others_go_on(
    slurm: FakeSlurm,
    waiting: Waiting,
    at_each_poll: Callable[..., None],
    state: str,
    told: str,
    kind: type[Exception],
) -> None:
    slurm.set_states({"7_0": "RUNNING", "7_1": state, "8": "PENDING Dependency"})
    slurm.set_exit_code(told)
    waiting.log("7_1", "Training mot-seed0\nmot-lab: the loss is nan\nsrun: error: vm: task 0\n")

    def end() -> None:
        assert "run mot-seed0 failed" in waiting.said.getvalue()
        slurm.set_states({"7_0": "COMPLETED", "7_1": state})

    at_each_poll([end])
    with pytest.raises(kind) as caught:
        waiting.follow()
    assert str(caught.value) == (
        f"run mot-seed0 failed in SLURM job 7_1 ({state}): the loss is nan; "
        f"its log is {log_path(waiting.folder, '7_1')}"
    )


def test_all_failures_are_counted_and_jobs_long_gone_are_failures(
    slurm: FakeSlurm, waiting: Waiting
) -> None:
    with pytest.raises(OSError, match=r"job 7_0 \(SLURM no longer knows it\): it has written no"):
        waiting.follow()
    said = waiting.said.getvalue()
    assert "run dense-seed0 failed" in said and "run mot-seed0 failed" in said


def test_a_report_that_fails_is_an_error_after_its_log(slurm: FakeSlurm, waiting: Waiting) -> None:
    slurm.set_states({"7_0": "COMPLETED", "7_1": "COMPLETED", "8": "FAILED"})
    slurm.set_exit_code("2:0")
    waiting.log("8", "Evaluating\nmot-lab: no room\n")
    with pytest.raises(ValueError, match=r"the report failed in SLURM job 8 .*: no room; its log"):
        waiting.follow()
    assert waiting.said.getvalue().splitlines() == ["Evaluating", "mot-lab: no room"]


def test_ctrl_c_leaves_the_jobs_and_says_how_to_go_on(
    slurm: FakeSlurm, waiting: Waiting, at_each_poll: Callable[..., None]
) -> None:
    slurm.set_states({"7_0": "RUNNING", "7_1": "RUNNING", "8": "PENDING Dependency"})

    def stop() -> None:
        raise Stopped(130)

    at_each_poll([stop])
    with pytest.raises(Stopped):
        waiting.follow()
    assert waiting.said.getvalue().splitlines()[-1] == (
        "The jobs go on: the same command waits for them and shows the report; "
        "scancel 7 8 ends them"
    )


def test_last_words(tmp_path: Path) -> None:
    log = tmp_path / "log"
    assert last_words(log) == "it has written no log"
    log.write_text("submitit INFO (x) - Starting\n\n")
    assert last_words(log) == "its log is empty"
    log.write_text("\n".join(map(str, range(9))) + "\nsubmitit ERROR (x) - y\n")
    assert last_words(log) == "4 | 5 | 6 | 7 | 8"
