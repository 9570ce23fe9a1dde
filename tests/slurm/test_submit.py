"""What is submitted for a study, and what a second call leaves as it is."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from reliability.processes import study_config
from slurm.fake import FakeSlurm
from submitit.core.utils import DelayedSubmission

from mot_lab.parsing import from_dict
from mot_lab.runtime.files import write_json
from mot_lab.runtime.run_folder import RunRecord
from mot_lab.slurm.config import SlurmConfig
from mot_lab.slurm.jobs import log_path, read_jobs
from mot_lab.slurm.submit import Submitted, submit_study
from mot_lab.slurm.tasks import gather, train_and_score
from mot_lab.study import Study
from mot_lab.training import Run, runs_of

CLUSTER = {"gpus_per_task": 0, "cpus_per_task": 3, "partition": "gpu,any", "mem_gb": 1.5}


@pytest.fixture
def slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeSlurm:
    return FakeSlurm(tmp_path / "slurm", monkeypatch)


@pytest.fixture
def submit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Submitted]:
    """Submits the tiny study, of dense and mot, without preparing it."""

    def prepare(study: Study, prepare_evaluators: Any) -> Any:
        return SimpleNamespace(
            runs=runs_of(study.config, study.folder), flops={"dense": 1e6, "mot": 2e6}
        )

    def submit(*seeds: int, **cluster: Any) -> Submitted:
        slurm = from_dict(SlurmConfig, {**CLUSTER, **cluster})
        config = replace(study_config(), seeds=list(seeds or (0,)), slurm=slurm)
        study = Study(config, "", tmp_path / "runs" / "small")
        return submit_study(study, dict, print, print)

    monkeypatch.setattr(Study, "prepare", prepare)
    return submit


def finish(run: Run) -> None:
    """Leave what a run leaves that is trained and scored."""
    run.folder.save_record(RunRecord("small", run.arm, run.seed, "finished"))
    write_json(run.folder.artifacts_path / "evaluation.json", {})


def test_an_array_of_runs_and_a_job_after_it(
    slurm: FakeSlurm, submit: Callable[..., Submitted], capsys: pytest.CaptureFixture[str]
) -> None:
    submitted = submit(0, 1, hours=1.01, setup=["module load cuda"])
    assert slurm.submitted() == [7, 8]
    runs, report = slurm.options(7), slurm.options(8)
    assert runs["array"] == "0-3%4"
    for each in (runs, report):
        wanted = {"time": "61", "cpus-per-task": "3", "partition": "gpu,any", "mem": "1536M"}
        wanted |= {"signal": "TERM@120", "open-mode": "append", "requeue": "", "nodes": "1"}
        assert {name: each.get(name) for name in wanted} == wanted
        assert not {"gpus-per-task", "account", "qos", "constraint", "wckey"} & each.keys()
    assert report["dependency"] == "afterok:7" and "dependency" not in runs
    assert report["kill-on-invalid-dep"] == "yes"
    assert (runs["job-name"], report["job-name"]) == ("small", "small-report")
    threads, module, _, command = slurm.commands(7)
    assert (threads, module) == ("export OMP_NUM_THREADS=3", "module load cuda")
    assert command.startswith("srun ") and "--cpus-per-task=3 --open-mode=append" in command
    names = ["dense-seed0", "mot-seed0", "dense-seed1", "mot-seed1"]
    assert submitted.jobs.runs == {name: f"7_{place}" for place, name in enumerate(names)}
    assert submitted.jobs.ids() == ["7", "8"]
    assert read_jobs(submitted.folder) == submitted.jobs
    said = " ".join(capsys.readouterr().out.split())
    assert "4 runs are in the queue, 4 of them submitted now, and job 8 gathers" in said


def test_each_task_is_one_run(slurm: FakeSlurm, submit: Callable[..., Submitted]) -> None:
    submitted = submit()
    folder = submitted.folder / "slurm"
    tasks = [DelayedSubmission.load(folder / f"7_{place}_submitted.pkl") for place in (0, 1)]
    assert [task.function.func for task in tasks] == [train_and_score] * 2
    assert [task.function.args for task in tasks] == [
        (run, flops, print) for run, flops in zip(submitted.runs, (1e6, 2e6), strict=True)
    ]
    report = DelayedSubmission.load(folder / "8_submitted.pkl").function
    assert (report.func, report.args) == (gather, (print,))
    script = slurm.commands(7)[-1]
    assert str(log_path(submitted.folder, "7_%a").name) in script.replace("%A", "7").replace(
        "%t", "0"
    )


def test_jobs_at_work_are_left_at_work(
    slurm: FakeSlurm, submit: Callable[..., Submitted], capsys: pytest.CaptureFixture[str]
) -> None:
    first = submit()
    slurm.set_states({"7_0": "RUNNING", "7_1": "PENDING Priority", "8": "PENDING Dependency"})
    again = submit()
    assert slurm.submitted() == [7, 8] and again.jobs == first.jobs
    assert "0 of them submitted now" in " ".join(capsys.readouterr().out.split())


def test_what_failed_is_submitted_again_and_what_is_done_is_kept(
    slurm: FakeSlurm, submit: Callable[..., Submitted], capsys: pytest.CaptureFixture[str]
) -> None:
    first = submit(0, 1)  # dense, mot, dense, mot
    finish(first.runs[0])
    slurm.set_states({"7_1": "RUNNING", "7_2": "OUT_OF_MEMORY", "7_3": "FAILED", "8": "CANCELLED"})
    again = submit(0, 1)
    assert [run.name for run in again.runs] == ["mot-seed0", "dense-seed1", "mot-seed1"]
    assert again.jobs.runs == {"mot-seed0": "7_1", "dense-seed1": "9_0", "mot-seed1": "9_1"}
    assert slurm.options(9)["array"] == "0-1%2"
    # Not after the whole of 7, of which two tasks have failed
    assert slurm.options(10)["dependency"] == "afterok:7_1:9"
    said = " ".join(capsys.readouterr().out.split())
    assert "1 of 4 runs are done already and kept" in said
    for run in again.runs:
        finish(run)
    slurm.set_states({"10": "FAILED"})
    last = submit(0, 1)  # only the report is missing
    assert slurm.submitted() == [7, 8, 9, 10, 11] and last.jobs.runs == {}
    assert "dependency" not in slurm.options(11)


def test_seeds_that_are_added_wait_for_the_report_before(
    slurm: FakeSlurm, submit: Callable[..., Submitted]
) -> None:
    submit(0)
    slurm.set_states({"7_0": "RUNNING", "7_1": "RUNNING", "8": "PENDING Dependency"})
    submit(0, 1)
    assert slurm.options(9)["array"] == "0-1%2"
    assert slurm.options(10)["dependency"] == "afterok:7_0:7_1:9,afterany:8"


def test_a_single_run_is_a_job_of_its_own(
    slurm: FakeSlurm, submit: Callable[..., Submitted]
) -> None:
    first = submit()
    finish(first.runs[1])
    assert submit().jobs.runs == {"dense-seed0": "9"}
    assert "array" not in slurm.options(9)
    assert slurm.options(10)["dependency"] == "afterok:9"


def test_a_job_that_submits_gives_its_own_settings_to_none(
    slurm: FakeSlurm, submit: Callable[..., Submitted], monkeypatch: pytest.MonkeyPatch
) -> None:
    with open(slurm.folder / "sbatch", "a") as program:
        program.write(f"env >> {slurm.folder}/environment\n")
    given = {"SLURM_JOB_ID": "3", "SLURM_MEM_PER_CPU": "1", "SRUN_CPUS_PER_TASK": "8"}
    kept = {"SLURM_CONF": "/etc/here.conf", "SBATCH_ACCOUNT": "mine"}
    for name, value in (given | kept).items():
        monkeypatch.setenv(name, value)
    submit()
    seen = (slurm.folder / "environment").read_text().splitlines()
    assert {f"{name}={value}" for name, value in kept.items()} <= set(seen)
    assert not any(line.startswith(f"{name}=") for name in given for line in seen)
    assert os.environ["SLURM_JOB_ID"] == "3"


def test_what_slurm_refuses_is_one_line(
    slurm: FakeSlurm, submit: Callable[..., Submitted], capsys: pytest.CaptureFixture[str]
) -> None:
    slurm.refuse("sbatch: error: invalid partition specified: gpu,any\nsbatch: error: failed\n")
    with pytest.raises(ValueError, match=r"SLURM does not take the jobs: .*invalid partition"):
        submit()
    assert capsys.readouterr().err == ""


def test_without_slurm_nothing_is_prepared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, submit: Callable[..., Submitted]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ValueError, match="there is no sbatch on the PATH"):
        submit()
    assert not (tmp_path / "runs").exists()


def test_a_record_of_jobs_that_is_none_is_refused_by_name(
    slurm: FakeSlurm, submit: Callable[..., Submitted]
) -> None:
    record = submit().folder / "slurm" / "jobs.json"
    record.write_text(json.dumps({"tasks": 3}))
    with pytest.raises(ValueError, match=r"jobs\.json"):
        submit()
