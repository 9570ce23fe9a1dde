"""Rows per second of the data pipeline alone, and its share of a training step, as JSON.

    python -m benchmarks.pipeline [experiments/openmoji/transfusion.yaml] [batches]

Batches are made in the training process (no workers), in turns with a step of Dense, the fastest
arm: ``share_of_step`` is what a run waits for its data where nothing makes batches ahead.
"""

import statistics
import sys
from pathlib import Path

import torch

from benchmarks.interleaved import WARMUP, interleaved
from benchmarks.results_file import keep
from mot_lab.config import load_study
from mot_lab.data.datamodule import MultimodalDataModule
from mot_lab.environment import environment
from mot_lab.runtime.workers import threads_each
from mot_lab.step_time import TrainingStep
from mot_lab.training import runs_of

DEFAULT = Path(__file__).parent.parent / "experiments" / "openmoji" / "transfusion.yaml"
TARGET = 0.02


def main() -> None:
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 30
    config = load_study(path)
    torch.set_num_threads(threads_each(config.parallel_runs))
    run = next(run for run in runs_of(config, Path("unused")) if run.arm == config.baseline)
    step = TrainingStep(run.module(), run.study_arm.training, rounds)
    data = MultimodalDataModule(config.data)
    fixed = next(iter(data.train_loader(1))).to(step.device)
    fresh = iter(data.train_loader(rounds + WARMUP))
    tokens: list[int] = []
    times = interleaved(
        {
            "batch": lambda turn: tokens.append(next(fresh).num_tokens),
            config.baseline: lambda turn: step(fixed),
        },
        rounds,
        config.baseline,
        step.device,
    )
    seconds = times["batch"]["median"]
    result = {
        "study": config.name,
        "rows_per_second": config.data.rows / seconds,
        "tokens_per_second": statistics.mean(tokens) / seconds,
        "share_of_step": seconds / (seconds + times[config.baseline]["median"]),
        "share_of_step_cpu": times["batch"]["cpu_median"]
        / (times["batch"]["cpu_median"] + times[config.baseline]["cpu_median"]),
        "target_share": TARGET,
        "times": times,
        "command": f"python -m benchmarks.pipeline {path.name} {rounds}",
        "environment": environment(config.training.precision),
    }
    keep(f"pipeline_{config.name}", result)


if __name__ == "__main__":
    main()
