"""Whole runs on two processes end where the same run on one does, however they are stopped."""

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed.faults import interrupt_the_second, kill_the_second
from distributed.groups import forked
from distributed.runs import SHORT, assert_same_run
from reliability.small_runs import Interrupted, small_run, train_with_a_fault

from mot_lab.config import StudyConfig
from mot_lab.distributed.launch import launch
from mot_lab.parsing import from_dict
from mot_lab.plain import plain
from mot_lab.runtime.checkpoint import load_checkpoint
from mot_lab.runtime.finite_guard import BadStepError
from mot_lab.runtime.run_folder import RunRecord
from mot_lab.runtime.signals import Stopped, ends_on_signals
from mot_lab.study_record import process_notes
from mot_lab.training import Run, train


@pytest.fixture(autouse=True)
def _forked() -> Iterator[None]:
    """Processes of a run are forked from the tests' server, which has imported everything."""
    with forked():
        yield


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Run]:
    """Short runs on one process, by arm."""
    folder = tmp_path_factory.mktemp("alone")
    runs = {arm: small_run(folder, arm, **SHORT) for arm in ("mot", "moe_4x")}
    for run in runs.values():
        train(run, None)
    return runs


def test_two_processes_train_as_one_does(alone: dict[str, Run], tmp_path: Path) -> None:
    run = small_run(tmp_path, "moe_4x", devices=2, **SHORT)
    train(run, None)
    assert_same_run(run, alone["moe_4x"])
    assert run.is_trained()


def test_a_step_in_two_passes_is_the_step_in_one(alone: dict[str, Run], tmp_path: Path) -> None:
    run = small_run(tmp_path, "mot", accumulate=2, **SHORT)
    train(run, None)
    assert_same_run(run, alone["mot"])


def test_a_run_goes_on_with_another_number_of_processes(
    alone: dict[str, Run], tmp_path: Path
) -> None:
    """Two with two passes each, stopped at a signal, then one: the same run."""
    run = small_run(tmp_path, "mot", devices=2, accumulate=2, **SHORT)

    def ask() -> None:
        while not run.checkpoint.exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    thread = threading.Thread(target=ask, daemon=True)
    with ends_on_signals():
        thread.start()
        with pytest.raises(Stopped) as stopped:
            train(run, None)
    assert stopped.value.code == 128 + signal.SIGTERM
    assert load_checkpoint(run.checkpoint)["global_step"] in (2, 3)
    go_on = small_run(tmp_path, "mot", **SHORT)
    train(go_on, None)
    assert_same_run(go_on, alone["mot"])


def test_a_process_that_fails_ends_the_others(tmp_path: Path) -> None:
    """With what it raised, and no waiting for what it will never send."""
    run = small_run(tmp_path, "mot", devices=2, **SHORT)
    began = time.monotonic()
    with pytest.raises(Interrupted):
        launch(interrupt_the_second, 2, run, 2)
    assert time.monotonic() - began < 120


def test_a_process_that_is_killed_ends_the_others(tmp_path: Path) -> None:
    run = small_run(tmp_path, "mot", devices=2, **SHORT)
    with pytest.raises(ChildProcessError, match=r"process 1 of the 2 of a run ended: .*SIGKILL"):
        launch(kill_the_second, 2, run)


def test_all_processes_see_a_bad_step(tmp_path: Path) -> None:
    run = small_run(tmp_path, "mot", devices=2, **{**SHORT, "checkpoint_every": 1})
    with pytest.raises(BadStepError, match=r"step 3.*samples 8-11.*those of step 2") as raised:
        launch(train_with_a_fault, 2, run)
    assert raised.value.samples == [8, 9, 10, 11]
    assert load_checkpoint(run.checkpoint)["global_step"] == 2


def test_settings_say_what_a_run_is_and_not_on_what_it_runs(tmp_path: Path) -> None:
    def settings(**training: Any) -> dict[str, Any]:
        return small_run(tmp_path, "moe_4x", **{**SHORT, **training}).settings()

    plain = settings()
    assert settings(devices=2) == settings(devices=4, strategy="fsdp2") == plain
    assert settings(devices=2, expert_group="rank") == {**plain, "expert_groups": 2}
    assert settings(devices=2, accumulate=2) == {**plain, "expert_groups": 2}
    dense = small_run(tmp_path, "dense", devices=2, accumulate=2, **SHORT).settings()
    assert "expert_groups" not in dense


def test_other_groups_of_tokens_are_another_run(tmp_path: Path) -> None:
    two = small_run(tmp_path, "moe_4x", accumulate=2, **SHORT)
    two.folder.path.mkdir(parents=True)
    two.folder.begin(RunRecord("small", "moe_4x", 0), two.settings())
    one = small_run(tmp_path, "moe_4x", **SHORT)
    with pytest.raises(ValueError, match="expert_groups was 2, is absent"):
        one.folder.require_config(one.settings())


def test_the_report_says_on_how_many_processes_an_arm_was_trained(tmp_path: Path) -> None:
    alone, two, three = (
        small_run(tmp_path, arm, **{**SHORT, **training})
        for arm, training in (
            ("moe_4x", {}),
            ("mot", {"devices": 2, "strategy": "fsdp2"}),
            ("moe_4x", {"devices": 2, "accumulate": 2, "expert_group": "rank"}),
        )
    )
    assert process_notes([alone]) == []
    assert process_notes([two, two]) == [
        "mot was trained by 2 processes (fsdp2), every step in 1 pass. Step times are of one "
        "process."
    ]
    assert process_notes([three]) == [
        "moe_4x was trained by 2 processes (ddp), every step in 2 passes; its experts chose among "
        "the tokens of each process by itself in each pass, in 4 groups a step. Step times are of "
        "one process."
    ]


def test_rows_must_divide_into_processes_and_passes(tmp_path: Path) -> None:
    wanted = (
        "data.rows 4 must be a multiple of training.devices 3 x training.num_nodes 1 x "
        "training.accumulate 1"
    )
    with pytest.raises(ValueError, match=wanted):
        small_run(tmp_path, "mot", devices=3)


def test_compiled_networks_are_not_sharded(tmp_path: Path) -> None:
    run = small_run(tmp_path, "mot", strategy="fsdp2")
    settings = plain(run.config)
    settings["model"]["compile"] = True
    wanted = "arm 'mot': model.compile is not available with training.strategy fsdp2"
    with pytest.raises(ValueError, match=wanted):
        from_dict(StudyConfig, settings)


def test_several_machines_are_started_from_outside(tmp_path: Path) -> None:
    run = small_run(tmp_path, "mot", devices=1, num_nodes=2)
    with pytest.raises(ValueError, match=r"training.num_nodes 2: .* torchrun or srun"):
        train(run, None)
