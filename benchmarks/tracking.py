"""What tracking costs a run: seconds of the training thread per logged step, and of the thread that
sends to MLflow; against the step times of the report given.

    python -m benchmarks.tracking experiments/results/transfusion/report.json
"""

import argparse
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from mot_lab.runtime.mlflow_store import connect
from mot_lab.runtime.run_folder import RunFolder
from mot_lab.runtime.sending import RunSender
from mot_lab.runtime.system_metrics import SystemMetrics
from mot_lab.runtime.tracking import SEND_EVERY_SECONDS, RunLogger

LOSSES = {f"train/{name}": 1.5 for name in ("total", "text", "image", "perplexity", "rate")}
LOSSES |= {f"train/grad_norm/{name}": 1.5 for name in ("text", "image", "heads")}
PARAMS = {f"param{i}": i for i in range(60)}


def main() -> None:
    """Measures a run of the demo's length and cadence, and prints shares of a step."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path, help="report.json with the step times of the arms")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--every", type=int, default=10, help="steps between two logged ones")
    options = parser.parse_args()
    arms = json.loads(options.report.read_text())["arms"]
    step = min(arm["seconds_per_step"] for arm in arms.values())
    sampler = SystemMetrics()
    logging, sampling, sending = [], [], 0.0
    with tempfile.TemporaryDirectory() as folder:
        uri = f"sqlite:///{folder}/mlflow.db"
        connect(uri).search_experiments()  # makes the store
        logger = RunLogger(f"{folder}/run", "s", "mot", 0, PARAMS)
        sent_at = 0
        with RunSender(RunFolder(f"{folder}/run"), uri) as sender:
            for at in range(options.every, options.steps + 1, options.every):
                logging.append(_cpu(lambda at=at: logger.log_metrics(LOSSES, at - 1)))
                sampling.append(_cpu(lambda at=at: logger.log_metrics(sampler.sample(), at - 1)))
                if (at - sent_at) * step >= SEND_EVERY_SECONDS:
                    sending += _cpu(sender.send)
                    sent_at = at
            logger.finalize("success")
            sending += _cpu(sender.send)
    log, sample = statistics.median(logging), statistics.median(sampling)
    between, whole = options.every * step, options.steps * step
    print(f"fastest arm: {1000 * step:.1f} ms a step, logged every {options.every} steps")
    print(f"losses: {1000 * log:.3f} ms a time, {100 * log / between:.4f}% of training")
    print(f"load of the machine: {1000 * sample:.3f} ms, {100 * sample / between:.4f}% of training")
    print(f"sending beside it: {sending:.2f} s of CPU a run, {100 * sending / whole:.3f}%")


def _cpu(work: Callable[[], object]) -> float:
    began = time.thread_time()
    work()
    return time.thread_time() - began


if __name__ == "__main__":
    main()
