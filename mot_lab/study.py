"""A study: every arm with every seed on the same batches, then evaluation and report.

Everything lies under one folder, and calling a study again goes on where it stopped.
"""

import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import Progress

from mot_lab.config import EvaluationConfig, StudyConfig
from mot_lab.counting import ArmCost, arm_cost, cost_table
from mot_lab.data.datamodule import MultimodalDataModule
from mot_lab.data.prepare import PreparedData
from mot_lab.earlier_runs import left_out, require_same_evaluators, require_same_settings
from mot_lab.fairness import check_fairness
from mot_lab.fairness_record import Fairness
from mot_lab.fit_router import fit_run
from mot_lab.flops import Workload
from mot_lab.parsing import root_cause
from mot_lab.peaks import study_peaks
from mot_lab.runtime.board import RunBoard
from mot_lab.runtime.files import atomic_file, write_json
from mot_lab.runtime.mlflow_store import StudyTracker, default_tracking_uri, sqlite_file
from mot_lab.runtime.signals import Stopped, steps, stop_code, stop_if_asked, stop_workers
from mot_lab.runtime.study_sending import TrackerDown, send_study
from mot_lab.runtime.workers import threads_each, worker_pool
from mot_lab.step_time import StepTime, measure_step_times
from mot_lab.study_record import study_record
from mot_lab.training import Run, runs_of, train
from mot_lab.utilisation import Peak, StepWork

COUNTED_BATCHES = 50
TIMED_ROUNDS = 15
POLL_SECONDS = 0.5

PrepareEvaluators = Callable[[EvaluationConfig, PreparedData], dict[str, Any]]
"""Fetches or fits the evaluators; returns what is said of them in the study's record."""

Evaluate = Callable[[Run], None]
"""Scores a trained run into its folder's artifacts, in a worker process."""


@dataclass(frozen=True)
class Ready:
    """A study that is checked and prepared.

    Attributes:
        runs: all of the study.
        evaluators: what is said of them.
        costs: by arm.
        fairness: what is equal between the arms.
    """

    runs: list[Run]
    evaluators: dict[str, Any]
    costs: dict[str, ArmCost]
    fairness: Fairness

    @property
    def flops(self) -> dict[str, float]:
        """Of a step, by arm."""
        return {arm: cost.flops_per_step for arm, cost in self.costs.items()}


class Study:
    """One study in its folder.

    Args:
        config: of the study.
        config_text: the YAML as the user wrote it, kept in the tracking store.
        folder: of the study, ``runs/<name>``.
        tracking_uri: of MLflow, by default an sqlite store in the folder.
        allow_unequal: go on where the arms are not compared on equal terms; the record says so.
        gpus: one for each of the ``parallel_runs``, as CUDA_VISIBLE_DEVICES names it; without any,
            all processes see the same.
    """

    def __init__(
        self,
        config: StudyConfig,
        config_text: str,
        folder: Path,
        tracking_uri: str | None = None,
        allow_unequal: bool = False,
        gpus: Sequence[str] = (),
    ) -> None:
        self.config = config
        self.config_text = config_text
        self.folder = folder
        self.tracking_uri = tracking_uri or default_tracking_uri(folder)
        self.allow_unequal = allow_unequal
        self.gpus = gpus
        self.tracker = StudyTracker(config.name, self.tracking_uri)
        self.console = Console()
        self.data = MultimodalDataModule(config.data)

    def run(self, prepare_evaluators: PrepareEvaluators, evaluate: Evaluate) -> None:
        """Prepare, train, fit routers, time, evaluate, and leave everything in the tracking store.

        Raises:
            ValueError: too few points for a curve, the arms are not compared on equal terms,
                or the folder holds runs of other settings.
        """
        ready = self.prepare(prepare_evaluators)
        runs = ready.runs
        peaks = study_peaks(self.config, self.folder)
        work = {arm: StepWork(ready.flops[arm], peak) for arm, peak in peaks.items()}
        with worker_pool(self.config.parallel_runs, self.gpus) as pool:
            self._train(runs, pool, work)
            self._fit_routers(runs, pool)
            times = self._step_times()
            self._evaluate(runs, pool, evaluate)
        self._record(ready, times, peaks)
        self._send()

    def prepare(self, prepare_evaluators: PrepareEvaluators) -> Ready:
        """Check the study, and prepare what all of its runs read: data, tokenizers, evaluators.

        Raises:
            ValueError: as of `run`.
        """
        require_curves(self.config)
        runs = runs_of(self.config, self.folder)
        require_same_settings(runs)
        if others := left_out(self.folder, runs):
            self.say(
                f"{len(others)} earlier runs are of other arms or seeds than the study has now; "
                f"they stay in {self.folder} and are left out: {', '.join(others)}"
            )
        self.folder.mkdir(parents=True, exist_ok=True)
        # As many as a run has: a second thread was measured to slow small networks down.
        torch.set_num_threads(threads_each(self.config.parallel_runs))
        self.say("Preparing data, tokenizers and evaluators")
        for split in self.config.data.splits:
            self.data.prepared.stream(split)
        evaluators = prepare_evaluators(self.config.evaluation, self.data.prepared)
        require_same_evaluators(self.folder, evaluators)
        costs = self.costs()
        title = f"Study {self.config.name}: {self.config.setting}"
        self.console.print(cost_table(title, costs, self.config.baseline))
        return Ready(runs, evaluators, costs, self._check_fairness(runs, costs))

    def _send(self) -> None:
        """Bring the tracking store up to date. Where it is down, a store in the study's folder
        takes its place: there is a report all the same, and the message says what to do later.
        """
        try:
            send_study(self.folder, self.tracking_uri)
        except TrackerDown as error:
            local = default_tracking_uri(self.folder)
            if self.tracking_uri == local:
                raise
            self.say(f"{error}; this report is made from {local}")
            self.tracking_uri, self.tracker = local, StudyTracker(self.config.name, local)
            send_study(self.folder, local)

    def costs(self) -> dict[str, ArmCost]:
        """The cost of every arm on the study's own batches."""
        interface = self.data.interface
        return {
            arm.name: arm_cost(arm, interface, self.workload) for arm in self.config.parsed_arms
        }

    @cached_property
    def workload(self) -> Workload:
        """The mean of the first training batches; all arms see the same."""
        loader = self.data.train_loader(COUNTED_BATCHES)
        return Workload.of_batches(list(loader), self.data.interface.modalities)

    def _check_fairness(self, runs: list[Run], costs: dict[str, ArmCost]) -> Fairness:
        """Print what is equal between the arms; refuse what is not, unless that is allowed."""
        fairness = check_fairness(runs, self.config.baseline, costs, self.workload)
        self.console.print(fairness.table())
        if not self.allow_unequal:
            fairness.require_equal()
        elif not fairness.equal:
            self.say("Going on with an unequal comparison, as --allow-unequal asks")
        return fairness

    def _train(self, runs: list[Run], pool: ProcessPoolExecutor, work: dict[str, StepWork]) -> None:
        wanting = [run for run in runs if not run.is_trained()]
        if kept := len(runs) - len(wanting):
            self.say(f"{kept} of {len(runs)} runs are trained already and kept")
        if not wanting:
            return
        self.say(f"Training {len(wanting)} runs, {self.config.parallel_runs} at a time")
        if sqlite_file(self.tracking_uri):  # making one takes seconds; a server may take minutes
            try:
                _ = self.tracker.run_id
            except Exception as error:  # whatever a tracker raises, training does without it
                self.say(f"the tracking store {self.tracking_uri} fails: {root_cause(error)}")
        lengths = {
            f"{run.arm} seed {run.seed}": (run.folder.metrics_path, run.study_arm.training.steps)
            for run in wanting
        }
        ending = False
        with steps(), RunBoard(lengths, self.console) as board:
            futures = [pool.submit(train, run, self.tracking_uri, work[run.arm]) for run in wanting]
            while not all(future.done() for future in futures):
                time.sleep(POLL_SECONDS)
                board.update()
                failed = any(map(_failure, futures))
                if not ending and (failed or stop_code() is not None):
                    ending = True
                    pool.shutdown(wait=False, cancel_futures=True)
                    if failed:
                        stop_workers()  # with a checkpoint each, from which the next call goes on
        stop_if_asked()
        failures = [failure for future in futures if (failure := _failure(future))]
        for failure in sorted(failures, key=lambda each: isinstance(each, Stopped)):
            raise failure

    def _fit_routers(self, runs: list[Run], pool: ProcessPoolExecutor) -> None:
        """Give every run with experts the causal router that it is evaluated with."""
        wanting = [run for run in runs if run.study_arm.wiring.experts]
        if not wanting:
            return
        self.say(f"Fitting the causal routers of {len(wanting)} runs with experts")
        futures = [pool.submit(fit_run, run) for run in wanting]
        with Progress(console=self.console) as progress:
            done = as_completed(futures)
            for future in progress.track(done, len(futures), description="fitting routers"):
                future.result()

    def _evaluate(self, runs: list[Run], pool: ProcessPoolExecutor, evaluate: Evaluate) -> None:
        self.say("Evaluating")
        futures = [pool.submit(evaluate, run) for run in runs]
        with Progress(console=self.console) as progress:
            done = as_completed(futures)
            for future in progress.track(done, len(futures), description="scoring runs"):
                future.result()

    def _step_times(self) -> dict[str, StepTime]:
        """Measured once per study and kept, for all arms in one go."""
        path = self.folder / "step_times.json"
        arms = {arm.name: arm for arm in self.config.parsed_arms}
        if path.exists():
            kept = {name: StepTime(**each) for name, each in json.loads(path.read_text()).items()}
            if kept.keys() == arms.keys():
                return kept
        self.say("Timing one training step of every arm, interleaved")
        modules = {run.arm: run.module() for run in runs_of(self.config, self.folder)}
        batches = list(self.data.train_loader(8))
        trainings = {name: arm.training for name, arm in arms.items()}
        times = measure_step_times(modules, batches, TIMED_ROUNDS, trainings)
        write_json(path, {name: asdict(each) for name, each in times.items()})
        return times

    def _record(self, ready: Ready, times: dict[str, StepTime], peaks: dict[str, Peak]) -> None:
        """Write ``study.json`` and ``config.yaml``."""
        record = study_record(
            self.config,
            self.data,
            self.workload,
            ready.costs,
            times,
            peaks,
            ready.evaluators,
            ready.fairness.record(self.allow_unequal),
            ready.runs,
        )
        write_json(self.folder / "study.json", record)
        with atomic_file(self.folder / "config.yaml") as file:
            file.write(self.config_text.encode())

    def say(self, text: str) -> None:
        """A line on what is done next."""
        self.console.print(text, style="bold", markup=False, highlight=False)


def require_curves(config: StudyConfig) -> None:
    """A curve has two points at least.

    Raises:
        ValueError: an arm's training logs or validates once only.
    """
    for arm in config.parsed_arms:
        steps = arm.training.steps
        for name in ("val_every", "log_every"):
            if 2 * (every := getattr(arm.training, name)) > steps:
                raise ValueError(
                    f"arm {arm.name}: training.{name} {every} makes one point in {steps} steps, "
                    f"and a curve needs two; give at most {steps // 2}"
                )


def _failure(future: Future[None]) -> BaseException | None:
    """What a task raised; None while it goes on, and where it ended well or was cancelled."""
    return future.exception() if future.done() and not future.cancelled() else None
