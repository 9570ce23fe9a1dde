"""Seconds per training step of every arm of a study, interleaved in one run, as JSON.

python -m benchmarks.step_time [experiments/openmoji/transfusion.yaml] [rounds]
"""

import json
import sys
from dataclasses import asdict
from pathlib import Path

import torch

from mot_lab.config import load_study
from mot_lab.data.datamodule import MultimodalDataModule
from mot_lab.environment import environment
from mot_lab.runtime.workers import threads_each
from mot_lab.step_time import measure_step_times
from mot_lab.training import runs_of

DEFAULT = Path(__file__).parent.parent / "experiments" / "openmoji" / "transfusion.yaml"
RESULTS = Path(__file__).parent / "results"


def main() -> None:
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else DEFAULT
    rounds = int(sys.argv[2]) if len(sys.argv) > 2 else 30
    config = load_study(path)
    torch.set_num_threads(threads_each(config.parallel_runs))
    data = MultimodalDataModule(config.data)
    modules = {run.arm: run.module() for run in runs_of(config, Path("unused"))}
    trainings = {arm.name: arm.training for arm in config.parsed_arms}
    batches = list(data.train_loader(8))
    times = measure_step_times(modules, batches, rounds, trainings)
    baseline = times[config.baseline].median
    result = {
        "study": config.name,
        "baseline": config.baseline,
        "arms": {
            name: {**asdict(each), "of_baseline": each.median / baseline}
            for name, each in times.items()
        },
        "environment": environment(config.training.precision),
    }
    text = json.dumps(result, indent=2)
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"step_time_{config.name}.json").write_text(text + "\n")
    print(text)


if __name__ == "__main__":
    main()
