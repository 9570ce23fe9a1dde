"""Which GPUs a study is spread over, and that each worker sees its own."""

import os
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from reliability.processes import SETTINGS
from runtime.meeting import seen_once_all_are_here

from mot_lab.cli import main
from mot_lab.runtime.gpus import VISIBLE, chosen_gpus
from mot_lab.runtime.workers import worker_pool
from mot_lab.study import Study


def machine(patch: pytest.MonkeyPatch, count: int, named: str | None = None) -> None:
    """A machine with this many GPUs, of which the environment may name some."""
    patch.setattr(torch.cuda, "device_count", lambda: count)
    patch.delenv(VISIBLE, raising=False)
    if named is not None:
        patch.setenv(VISIBLE, named)


def test_numbers_count_the_gpus_that_are_visible(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, 4)
    assert chosen_gpus("0, 3,1") == ["0", "3", "1"]
    machine(monkeypatch, 3, "4,6,MIG-7c1a")
    assert chosen_gpus("0,2") == ["4", "MIG-7c1a"]


@pytest.mark.parametrize(
    "count, wish, said",
    [
        (4, "", "--gpus '' must be numbers of GPUs with commas"),
        (4, "0,", "--gpus '0,' must be numbers"),
        (4, "-1", "--gpus '-1' must be numbers"),
        (4, "cuda:0", "--gpus 'cuda:0' must be numbers"),
        (4, "1,0,1", "--gpus '1,0,1' must name each GPU once"),
        (4, "0,4", "--gpus '0,4': there is no GPU 4; 4 are visible, counted from 0"),
        (0, "0", "--gpus '0': no GPU is visible here; without --gpus"),
    ],
)
def test_a_wrong_list_is_refused(
    monkeypatch: pytest.MonkeyPatch, count: int, wish: str, said: str
) -> None:
    machine(monkeypatch, count)
    with pytest.raises(ValueError) as caught:
        chosen_gpus(wish)
    assert str(caught.value).startswith(said)


def test_each_worker_sees_a_gpu_of_its_own(tmp_path: Path) -> None:
    with worker_pool(2, ["5", "MIG-7c1a"]) as pool:
        tasks = [pool.submit(seen_once_all_are_here, tmp_path, 2) for _ in range(2)]
        assert sorted(task.result() or "" for task in tasks) == ["5", "MIG-7c1a"]


def test_a_study_runs_on_each_gpu_and_is_timed_on_the_first(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    machine(monkeypatch, 3, "4,6,7")
    ran: list[tuple[Any, ...]] = []

    def run(study: Study, *_: object) -> None:
        ran.append((study.config.parallel_runs, list(study.gpus), os.environ[VISIBLE]))

    monkeypatch.setattr(Study, "run", run)
    monkeypatch.setattr("evaluation.report.build.build_report", lambda *_: "x")
    monkeypatch.setattr("mot_lab.runtime.mlflow_store.StudyTracker.how_to_compare", lambda _: "y")
    path = tmp_path / "small.yaml"
    path.write_text(yaml.safe_dump(SETTINGS))
    main(["study", str(path), "--runs", str(tmp_path), "--gpus", "2,0"])
    assert ran == [(2, ["7", "4"], "7")]


@pytest.mark.parametrize(
    "options, said",
    [
        (["--launcher", "slurm", "--gpus", "0"], "--gpus is for --launcher local"),
        (["--no-wait"], "--no-wait is for --launcher slurm"),
    ],
)
def test_options_of_another_launcher_are_refused(
    options: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["study", str(tmp_path / "none.yaml"), *options])
    assert caught.value.code == 2
    assert capsys.readouterr().err.startswith(f"mot-lab: {said}")
