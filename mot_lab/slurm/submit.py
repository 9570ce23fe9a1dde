"""Submits a study: an array of jobs with a task per run, and the job that gathers the report."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from mot_lab.config import StudyConfig
from mot_lab.runtime.signals import steps, stop_if_asked
from mot_lab.slurm.executor import submit_jobs
from mot_lab.slurm.jobs import FOLDER, Jobs, read_jobs, save_jobs
from mot_lab.slurm.queue import job_states, require_slurm
from mot_lab.slurm.tasks import gather, train_and_score
from mot_lab.study import Evaluate, PrepareEvaluators, Study
from mot_lab.training import Run


@dataclass(frozen=True)
class Submitted:
    """A study whose jobs are in the queue.

    Attributes:
        config: of the study.
        folder: of the study.
        runs: those that jobs are at work on; all others are done.
        jobs: by run, and the gathering one.
    """

    config: StudyConfig
    folder: Path
    runs: list[Run]
    jobs: Jobs


def submit_study(
    study: Study,
    prepare_evaluators: PrepareEvaluators,
    evaluate: Evaluate,
    finish: Callable[[], None],
) -> Submitted:
    """Check and prepare a study here, and put into the queue what is to be done of it: runs that
    are done are kept, jobs that an earlier call has submitted are left at work.

    Args:
        study: to run.
        prepare_evaluators, evaluate: as of `Study.run`.
        finish: the whole study by `mot_lab study` without a launcher; the gathering job calls it
            when all runs are done.

    Raises:
        ValueError: no SLURM here, or it refuses the jobs; or what `Study.prepare` raises.
        QueueDown: SLURM does not answer.
    """
    require_slurm()
    job_states()  # before the preparations, which may take long
    ready = study.prepare(prepare_evaluators)
    wanting = [run for run in ready.runs if not is_done(run)]
    if kept := len(ready.runs) - len(wanting):
        study.say(f"{kept} of {len(ready.runs)} runs are done already and kept")
    earlier, states = read_jobs(study.folder), job_states()
    active = {job for job, state in states.items() if state.active}
    jobs = Jobs({run.name: job for run in wanting if (job := earlier.runs.get(run.name)) in active})
    new = [run for run in wanting if run.name not in jobs.runs]
    with steps():  # a signal waits until what was submitted is written down
        after = list(jobs.runs.values())  # not their arrays, in which others may have failed
        if new:
            submitted = _submit_runs(study, new, ready.flops, evaluate)
            jobs.runs |= submitted
            after.append(next(iter(submitted.values())).partition("_")[0])
            save_jobs(study.folder, Jobs(jobs.runs, earlier.gathering))
        if not new and earlier.gathering in active:
            jobs.gathering = earlier.gathering
        else:
            before = earlier.gathering if earlier.gathering in active else None
            jobs.gathering = _submit_gathering(study, after, before, finish)
        save_jobs(study.folder, jobs)
    stop_if_asked()
    study.say(
        f"{len(jobs.runs)} runs are in the queue, {len(new)} of them submitted now, and job "
        f"{jobs.gathering} gathers the report; scripts and logs are in {study.folder / FOLDER}"
    )
    return Submitted(study.config, study.folder, wanting, jobs)


def is_done(run: Run) -> bool:
    """Whether a run is trained and scored. (A score that is out of date is the gathering job's to
    see, as it is that of `mot-lab study` anywhere.)
    """
    return run.is_trained() and (run.folder.artifacts_path / "evaluation.json").exists()


def _submit_runs(
    study: Study, runs: Sequence[Run], flops: dict[str, float], evaluate: Evaluate
) -> dict[str, str]:
    config, folder = study.config, study.folder / FOLDER
    tasks = [partial(train_and_score, run, flops[run.arm], evaluate) for run in runs]
    jobs = submit_jobs(folder, config.slurm, config.name, tasks)
    return {run.name: job for run, job in zip(runs, jobs, strict=True)}


def _submit_gathering(
    study: Study, after: Sequence[str], earlier: str | None, finish: Callable[[], None]
) -> str:
    """After the jobs of all runs, if they end well, and after the gathering job that an earlier
    call has put into the queue.
    """
    when = [f"afterok:{':'.join(after)}"] if after else []
    if earlier is not None:
        when.append(f"afterany:{earlier}")
    config, folder = study.config, study.folder / FOLDER
    name = f"{config.name}-report"
    (job,) = submit_jobs(folder, config.slurm, name, [partial(gather, finish)], ",".join(when))
    return job
