"""What the jobs of a study do. Each is a function that submitit pickles, runs in the job, and runs
again when SLURM puts the job back into the queue: what is done is kept, the rest goes on.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from mot_lab.fit_router import fit_run
from mot_lab.peaks import study_peaks
from mot_lab.runtime.ending import ends_as_command
from mot_lab.runtime.quiet import quiet_libraries
from mot_lab.runtime.workers import threads_each
from mot_lab.training import Run, train
from mot_lab.utilisation import StepWork


def train_and_score(run: Run, flops: float, evaluate: Callable[[Run], None]) -> None:
    """All of one run that no other run takes part in.

    Its curves stay in its folder: a tracking store may be a file, and sqlite files break under
    many machines. The gathering job sends them.

    Args:
        run: of the study.
        flops: of one of its steps.
        evaluate: scores a trained run.
    """
    with in_a_job():
        peak = study_peaks(run.config, run.study_folder)[run.arm]
        if not run.is_trained():
            print(f"Training {run.name}", flush=True)
            train(run, None, StepWork(flops, peak))
        if run.study_arm.wiring.experts:
            print(f"Fitting the causal routers of {run.name}", flush=True)
            fit_run(run)
        print(f"Evaluating {run.name}", flush=True)
        evaluate(run)


def gather(study: Callable[[], None]) -> None:
    """The rest of a study, whose runs are trained: times, record, tracking store and report."""
    with in_a_job():
        study()


@contextmanager
def in_a_job() -> Iterator[None]:
    """As a command: submitit's handler of SIGTERM, which ignores it, gives way to those that save
    at the end of the step and requeue the job (`mot_lab.runtime.signals`).
    """
    quiet_libraries()
    torch.set_num_threads(threads_each(1))
    with ends_as_command():
        yield
