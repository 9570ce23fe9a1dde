"""Seconds per training step of every arm of a study, the hybrid, Dense in plain torch and Dense as
Lightning trains it, interleaved, in several processes one after the other, as JSON.

    python -m benchmarks.step_time [experiments/openmoji/transfusion.yaml] [rounds] [processes]

``dense`` and the other arms are steps alone (forward, backward, clipping, optimiser);
``plain_torch_dense`` is the same by `benchmarks.plain_torch`; ``dense_trained`` is a step of the
Trainer with everything that stands around it (`benchmarks.trained_step`).
"""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch

from benchmarks.interleaved import WARMUP, in_processes, interleaved, over_processes
from benchmarks.plain_torch import PlainStep
from benchmarks.results_file import keep
from benchmarks.trained_step import TrainedStep
from mot_lab.batch import MultimodalBatch
from mot_lab.config import StudyConfig, load_study
from mot_lab.data.datamodule import MultimodalDataModule
from mot_lab.environment import environment
from mot_lab.runtime.workers import threads_each
from mot_lab.step_time import TrainingStep
from mot_lab.training import runs_of

DEFAULT = Path(__file__).parent.parent / "experiments" / "openmoji" / "transfusion.yaml"
HYBRID, PLAIN = "mot_text_moe_4x", "plain_torch_dense"
TARGETS = {"mot": 1.03, HYBRID: 1.15, "moe_4x": 1.20}
TARGET_OF_PLAIN_TORCH = 1.05
Step = Callable[[MultimodalBatch], object]


def main() -> None:
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT
    rounds, processes = (*map(int, sys.argv[2:]), *(30, 5)[len(sys.argv[2:]) :])
    config = load_study(path)
    times = in_processes(_times, [path, rounds], processes)
    torch.set_num_threads(threads_each(config.parallel_runs))  # as each did; the result says so
    result = {
        "study": config.name,
        "baseline": config.baseline,
        "arms": {name: _arm([each[name] for each in times]) for name in times[0]},
        "targets_of_baseline": TARGETS,
        "target_of_plain_torch": TARGET_OF_PLAIN_TORCH,
        "command": f"python -m benchmarks.step_time {path.name} {rounds} {processes}",
        "environment": environment(config.training.precision),
    }
    keep(f"step_time_{config.name}", result)


def _arm(processes: list[dict[str, Any]]) -> dict[str, Any]:
    return {**over_processes(processes), "processes": processes}


def _times(path: Path, rounds: int) -> dict[str, dict[str, Any]]:
    """Of every arm, in this process."""
    config = load_study(path)
    if config.setting == "transfusion" and HYBRID not in config.arms:
        config = replace(config, arms=[*config.arms, HYBRID])
    torch.set_num_threads(threads_each(config.parallel_runs))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    with TemporaryDirectory() as folder:
        steps = _steps(config, rounds, Path(folder))
        batches = [b.to(device) for b in MultimodalDataModule(config.data).train_loader(8)]
        works = {
            name: lambda turn, step=step: step(batches[turn % len(batches)])
            for name, step in steps.items()
        }
        plain = {"plain_torch": PLAIN} if PLAIN in works else {}
        return interleaved(works, rounds, config.baseline, device, others=plain)


def _steps(config: StudyConfig, rounds: int, folder: Path) -> dict[str, Step]:
    runs = {run.arm: run for run in runs_of(replace(config, seeds=config.seeds[:1]), folder)}
    steps: dict[str, Step] = {
        name: TrainingStep(run.module(), run.study_arm.training, rounds)
        for name, run in runs.items()
    }
    if config.setting == "transfusion" and "dense" in runs:
        dense = runs["dense"]
        steps[PLAIN] = PlainStep(dense.module(), dense.study_arm.training, rounds)
        steps["dense_trained"] = TrainedStep(dense, rounds + WARMUP, folder)
    return steps


if __name__ == "__main__":
    main()
