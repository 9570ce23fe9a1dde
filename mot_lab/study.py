"""A study: every arm with every seed on the same batches, then evaluation and report.

Everything lies under one folder, and calling a study again goes on where it stopped.
"""

import json
import platform
import subprocess
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import torch
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from mot_lab.config import EvaluationConfig, StudyConfig
from mot_lab.counting import ArmCost, arm_cost
from mot_lab.data.datamodule import MultimodalDataModule
from mot_lab.data.prepare import PreparedData
from mot_lab.flops import Workload
from mot_lab.runtime.board import RunBoard
from mot_lab.runtime.files import atomic_file, write_json
from mot_lab.runtime.mlflow_store import StudyTracker, default_tracking_uri
from mot_lab.runtime.sending import sync_run
from mot_lab.runtime.workers import threads_each, worker_pool
from mot_lab.step_time import StepTime, measure_step_times
from mot_lab.training import Run, precision, runs_of, train

SCHEMA = 1
COUNTED_BATCHES = 50
TIMED_ROUNDS = 15
POLL_SECONDS = 0.5
LIBRARIES = ("torch", "lightning", "mlflow", "diffusers", "open_clip_torch", "torchmetrics")

PrepareEvaluators = Callable[[EvaluationConfig, PreparedData], dict[str, Any]]
"""Fetches or fits the evaluators; returns what is said of them in the study's record."""

Evaluate = Callable[[Run], None]
"""Scores a trained run into its folder's artifacts, in a worker process."""


class Study:
    """One study in its folder.

    Args:
        config: of the study.
        config_text: the YAML as the user wrote it, kept in the tracking store.
        folder: of the study, ``runs/<name>``.
        tracking_uri: of MLflow, by default an sqlite store in the folder.
    """

    def __init__(
        self, config: StudyConfig, config_text: str, folder: Path, tracking_uri: str | None = None
    ) -> None:
        self.config = config
        self.config_text = config_text
        self.folder = folder
        self.tracking_uri = tracking_uri or default_tracking_uri(folder)
        self.tracker = StudyTracker(config.name, self.tracking_uri)
        self.console = Console()
        self.data = MultimodalDataModule(config.data)

    def run(self, prepare_evaluators: PrepareEvaluators, evaluate: Evaluate) -> None:
        """Prepare, train, time, evaluate, and leave everything in the tracking store."""
        self.folder.mkdir(parents=True, exist_ok=True)
        # As many as a run has: a second thread was measured to slow small networks down.
        torch.set_num_threads(threads_each(self.config.parallel_runs))
        self._say("Preparing data, tokenizers and evaluators")
        self.data.prepare_data()
        evaluators = prepare_evaluators(self.config.evaluation, self.data.prepared)
        costs = self.costs()
        self._print_costs(costs)
        runs = runs_of(self.config, self.folder)
        with worker_pool(self.config.parallel_runs) as pool:
            self._train(runs, pool)
            times = self._step_times()
            self._evaluate(runs, pool, evaluate)
        self._record(costs, times, evaluators)
        for run in runs:
            sync_run(run.folder.path, self.tracking_uri)
        self.tracker.finish()

    def costs(self) -> dict[str, ArmCost]:
        """The cost of every arm on the study's own batches."""
        return {
            arm.name: arm_cost(self.config, arm, self.workload) for arm in self.config.parsed_arms()
        }

    @cached_property
    def workload(self) -> Workload:
        """The mean of the first training batches; all arms see the same."""
        loader = self.data.train_loader(COUNTED_BATCHES)
        return Workload.of_batches(list(loader), self.data.interface.modalities)

    def _train(self, runs: list[Run], pool: ProcessPoolExecutor) -> None:
        wanting = [run for run in runs if not run.is_trained()]
        if kept := len(runs) - len(wanting):
            self._say(f"{kept} of {len(runs)} runs are trained already and kept")
        if not wanting:
            return
        self._say(f"Training {len(wanting)} runs, {self.config.parallel_runs} at a time")
        try:
            _ = self.tracker.run_id  # made once, before the runs look for it
        except Exception as error:  # whatever a tracker raises, training does without it
            self._say(f"the tracking store {self.tracking_uri} does not answer: {error}")
        metrics = {f"{run.arm} seed {run.seed}": run.folder.metrics_path for run in wanting}
        futures = [pool.submit(train, run, self.tracking_uri) for run in wanting]
        with RunBoard(metrics, self.config.training.steps, self.console) as board:
            while not all(future.done() for future in futures):
                time.sleep(POLL_SECONDS)
                board.update()
                if any(future.done() and future.exception() for future in futures):
                    pool.shutdown(wait=False, cancel_futures=True)
                    break
        for future in futures:
            if not future.cancelled():
                future.result()

    def _evaluate(self, runs: list[Run], pool: ProcessPoolExecutor, evaluate: Evaluate) -> None:
        self._say("Evaluating")
        futures = [pool.submit(evaluate, run) for run in runs]
        with Progress(console=self.console) as progress:
            done = as_completed(futures)
            for future in progress.track(done, len(futures), description="scoring runs"):
                future.result()

    def _step_times(self) -> dict[str, StepTime]:
        """Measured once per study and kept, for all arms in one go."""
        path = self.folder / "step_times.json"
        names = [arm.name for arm in self.config.parsed_arms()]
        if path.exists():
            kept = {name: StepTime(**each) for name, each in json.loads(path.read_text()).items()}
            if sorted(kept) == sorted(names):
                return kept
        self._say("Timing one training step of every arm, interleaved")
        modules = {run.arm: run.module() for run in runs_of(self.config, self.folder)}
        batches = list(self.data.train_loader(8))
        clip = self.config.training.gradient_clip
        times = measure_step_times(modules, batches, TIMED_ROUNDS, gradient_clip=clip)
        write_json(path, {name: asdict(each) for name, each in times.items()})
        return times

    def _record(
        self, costs: dict[str, ArmCost], times: dict[str, StepTime], evaluators: dict[str, Any]
    ) -> None:
        """Write ``study.json`` and ``config.yaml`` and send them to the tracking store."""
        config, prepared = self.config, self.data.prepared
        reconstruction = prepared.images.reconstruction_error(
            prepared.pictures("test", 0, config.evaluation.images)
        )
        record = {
            "schema": SCHEMA,
            "study": config.name,
            "setting": config.setting,
            "baseline": config.baseline,
            "seeds": config.seeds,
            "modalities": list(self.data.interface.modalities),
            "arms": {
                name: {**asdict(cost), "seconds_per_step": times[name].median}
                for name, cost in costs.items()
            },
            "step_times": {name: asdict(each) for name, each in times.items()},
            "tokens_per_step": self.workload.tokens,
            "images_per_step": self.workload.images,
            "steps": config.training.steps,
            "warmup_steps": config.model.optimizer.warmup_steps,
            "tokenizers": {
                "text": {"kind": "BPE", "vocab_size": prepared.texts.vocab_size},
                "image": {
                    "kind": config.data.image.kind,
                    "tokens_per_image": self.data.interface.tokens_per_image,
                    "latent_shape": list(self.data.interface.latent_shape),
                    "reconstruction_mse": reconstruction["mse"],
                    "reconstruction_psnr": reconstruction["psnr"],
                    "reconstruction_n": reconstruction["n"],
                },
            },
            "evaluators": evaluators,
            "environment": {
                **environment(config.training.precision),
                "threads": threads_each(config.parallel_runs),
                "parallel_runs": config.parallel_runs,
            },
            "notes": [],
        }
        write_json(self.folder / "study.json", record)
        with atomic_file(self.folder / "config.yaml") as file:
            file.write(self.config_text.encode())
        self.tracker.log_artifact(self.folder / "study.json")
        self.tracker.log_artifact(self.folder / "config.yaml")

    def _print_costs(self, costs: dict[str, ArmCost]) -> None:
        columns = ("arm", "parameters", "active", "GFLOPs per step", "of baseline", "what it is")
        table = Table(*columns, title=f"Study {self.config.name}: {self.config.setting}")
        baseline = costs[self.config.baseline].flops_per_step
        for name, cost in costs.items():
            table.add_row(
                name,
                f"{cost.parameters / 1e6:.2f}M",
                f"{cost.active_parameters / 1e6:.2f}M",
                f"{cost.flops_per_step / 1e9:.2f}",
                f"{cost.flops_per_step / baseline:.3f}",
                cost.description,
            )
        self.console.print(table)

    def _say(self, text: str) -> None:
        self.console.print(text, style="bold", markup=False, highlight=False)


def environment(wish: str) -> dict[str, Any]:
    """Versions and hardware, as far as figures depend on them."""
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in LIBRARIES},
        "platform": platform.system(),
        "cpu": _cpu_name(),
        "cores": psutil.cpu_count(),
        "threads": torch.get_num_threads(),
        "memory_gb": round(psutil.virtual_memory().total / 2**30, 1),
        "gpu": gpu,
        "precision": str(precision(wish)),
        "mot_lab": version("mot-lab"),
        "commit": _commit(),
    }


def _cpu_name() -> str:
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def _commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
