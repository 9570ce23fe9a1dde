"""Tokens per second of 1 and 2 CPU processes that train a run together, one thread each, as JSON.

    python -m benchmarks.processes [experiments/openmoji/transfusion.yaml] [steps] [rounds] [k=v ..]

Whole training runs, as a study trains them (data, log and checkpoint included), in turn; the
figures are those that each run logs itself, past its first ten steps. Two processes train on the
study's batch, half of it each (``2``), and on one of twice the rows, as many each as one process
has alone (``2 x rows``): what every step costs whatever its rows (the optimiser, averages, the
exchange of gradients) weighs half as much there. Two runs beside each other, which exchange nothing
(``2 apart``, with the study's rows each), say what the machine has to give.
"""

import multiprocessing
import statistics
import sys
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from benchmarks.results_file import keep
from mot_lab.config import StudyConfig, load_study
from mot_lab.environment import environment
from mot_lab.runtime.metrics_file import read_curve
from mot_lab.training import Run, runs_of, train

DEFAULT = Path(__file__).parent.parent / "experiments" / "openmoji" / "transfusion.yaml"
APART = "2 apart"
CASES = {"1": (1, 1), "2": (2, 1), "2 x rows": (2, 2)}  # processes, and the batch in the study's
TARGET = 1.6
TOKENS_PER_SECOND = "run_cost/tokens_per_second"


def main() -> None:
    settings = [word for word in sys.argv[1:] if "=" in word]
    words = [word for word in sys.argv[1:] if "=" not in word]
    path = Path(words[0]) if words else DEFAULT
    steps = int(words[1]) if len(words) > 1 else 100
    rounds = int(words[2]) if len(words) > 2 else 3
    config = load_study(path, settings)
    config = replace(config, seeds=config.seeds[:1])
    rates: dict[str, dict[str, list[float]]] = {
        arm.name: {case: [] for case in (*CASES, APART)} for arm in config.parsed_arms
    }
    with TemporaryDirectory() as folder:
        for turn in range(rounds):
            for run in runs_of(config, Path(folder)):
                for case, (processes, times) in CASES.items():
                    place = Path(folder) / f"{turn}-{case}"
                    here = replace(run, config=_times_rows(config, times), study_folder=place)
                    rates[run.arm][case].append(tokens_per_second(here, processes, steps))
                rates[run.arm][APART].append(_apart(run, Path(folder) / f"{turn}-apart", steps))
    result = {
        "study": config.name,
        "steps": steps,
        "arms": {arm: _summary(of_arm) for arm, of_arm in rates.items()},
        "target": TARGET,
        "command": " ".join(
            ["python -m benchmarks.processes", path.name, str(steps), str(rounds), *settings]
        ),
        "environment": environment(config.training.precision),
    }
    keep(f"processes_{config.name}", result)


def tokens_per_second(run: Run, processes: int, steps: int) -> float:
    """Of a run of so many steps on so many processes with one thread each."""
    torch.set_num_threads(processes)  # the processes share them out
    training = replace(
        run.study_arm.training,
        devices=processes,
        steps=steps,
        val_every=steps,
        checkpoint_every=steps,
    )
    run = replace(run, study_arm=replace(run.study_arm, training=training))
    train(run, None)
    return read_curve(run.folder.metrics_path, TOKENS_PER_SECOND)[-1][1]


def _apart(run: Run, folder: Path, steps: int) -> float:
    """Of two runs at the same time, together."""
    here = [replace(run, study_folder=folder / str(i)) for i in range(2)]
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        return sum(pool.map(tokens_per_second, here, [1, 1], [steps, steps]))


def _times_rows(config: StudyConfig, times: int) -> StudyConfig:
    """The study with batches of so many times the rows."""
    rows, val_rows = times * config.data.rows, times * config.data.val_rows
    return replace(config, data=replace(config.data, rows=rows, val_rows=val_rows))


def _summary(rates: dict[str, list[float]]) -> dict[str, object]:
    medians = {case: statistics.median(each) for case, each in rates.items()}
    alone = medians["1"]
    return {
        "tokens_per_second": {case: sorted(each) for case, each in rates.items()},
        "median": medians,
        "speed_up": {case: each / alone for case, each in medians.items() if case != "1"},
    }


if __name__ == "__main__":
    main()
