"""Seconds to build the report of a large synthetic study from its tracking store, as JSON.

6 arms x 5 seeds x 20,000 logged steps: training losses of two modalities at every step, validation
losses at every 50th, in an sqlite store. Writing the store is outside the timing, all of which is
on one core.

PYTHONPATH=tests python -m benchmarks.report [steps]
"""

import sys
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from time import perf_counter, process_time

import numpy as np
import psutil
import torch
from mlflow import MlflowClient
from mlflow.store.tracking.dbmodels.models import SqlMetric
from sqlalchemy import create_engine, insert
from synthetic_study import loss, write_synthetic_study

from benchmarks.results_file import keep
from evaluation.report.build import build_report
from mot_lab.environment import environment

STEPS, VAL_EVERY = 20_000, 50
SEEDS = (0, 1, 2, 3, 4)
TARGET = 60.0  # seconds
NOISE = {"train": 0.05, "val": 0.01}  # relative
SLOPES = {
    "dense": {"text": 1.0, "image": 1.0},
    "moe_4x": {"text": 0.7, "image": 0.9},
    "mot": {"text": 0.8, "image": 0.6},
    "mot_text_moe_4x": {"text": 0.65, "image": 0.6},
    "untie_ffn": {"text": 0.9, "image": 0.8},
    "untie_ffn_qkv": {"text": 0.85, "image": 0.7},
}


class Curves:
    """Writes the losses of a run straight into the store's table, with noise."""

    def __init__(self, tracking_uri: str, steps: int) -> None:
        self.engine = create_engine(tracking_uri)
        self.steps = steps
        self.written = 0

    def __call__(
        self, client: MlflowClient, run_id: str, arm: str, seed: int, slopes: Mapping[str, float]
    ) -> None:
        noise = np.random.default_rng([seed, *arm.encode()])
        for curve, every in (("train", 1), ("val", VAL_EVERY)):
            for modality, slope in slopes.items():
                steps = np.arange(every, self.steps + 1, every)
                values = loss(steps, slope, modality) * noise.normal(1, NOISE[curve], len(steps))
                key = f"{curve}/{modality}/loss"
                rows = [
                    {"key": key, "value": value, "timestamp": step, "step": step, "is_nan": False}
                    | {"run_uuid": run_id}
                    for step, value in zip(steps.tolist(), values.tolist(), strict=True)
                ]
                with self.engine.begin() as connection:
                    connection.execute(insert(SqlMetric), rows[:-1])
                last = rows[-1]  # through the client, which keeps the latest value elsewhere too
                client.log_metric(run_id, key, last["value"], last["timestamp"], last["step"])
                self.written += len(rows)


def main() -> None:
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else STEPS
    torch.set_num_threads(1)
    one_core = psutil.Process().cpu_affinity()[:1]
    psutil.Process().cpu_affinity(one_core)
    with TemporaryDirectory() as temporary:
        folder = Path(temporary)
        uri = f"sqlite:///{folder / 'mlflow.db'}"
        curves = Curves(uri, steps)
        write_synthetic_study(
            uri, folder / "artifacts", "large", SLOPES, SEEDS, steps=steps, log_curves=curves
        )
        load = psutil.getloadavg()[0]
        start, busy = perf_counter(), process_time()
        build_report(uri, "large", folder / "report")
        seconds, cpu_seconds = perf_counter() - start, process_time() - busy
        figures = len(list((folder / "report" / "figures").glob("*.png")))
    result = {
        "arms": len(SLOPES),
        "seeds": len(SEEDS),
        "steps": steps,
        "records": curves.written,
        "figures": figures,
        "seconds": round(seconds, 2),
        "cpu_seconds": round(cpu_seconds, 2),
        "target_seconds": TARGET,
        "load_before": round(load, 2),
        "command": " ".join(["PYTHONPATH=tests python -m benchmarks.report", *sys.argv[1:]]),
        "environment": environment("auto"),
    }
    keep("report", result)


if __name__ == "__main__":
    main()
