"""Seconds per training step of every arm, interleaved, so that a machine's drift hits all alike."""

import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from rich.progress import track

from mot_lab.batch import MultimodalBatch
from mot_lab.module import MultimodalModule
from mot_lab.optim import make_optimizer
from mot_lab.study_arm import TrainingConfig
from mot_lab.training import precision


@dataclass(frozen=True)
class StepTime:
    """Seconds of one step: forward, backward, clipping, optimiser; packing is not in it.

    Attributes:
        median, low, high: over the counted steps, the quartiles.
        steps: counted.
    """

    median: float
    low: float
    high: float
    steps: int


def measure_step_times(
    modules: dict[str, MultimodalModule],
    batches: Sequence[MultimodalBatch],
    rounds: int,
    trainings: Mapping[str, TrainingConfig],
    warmup: int = 3,
) -> dict[str, StepTime]:
    """Time whole training steps, one arm after the other in every round.

    Args:
        modules: by arm; their weights are trained on.
        batches: taken in turn, the same one for every arm of a round.
        rounds: counted steps of each arm.
        trainings: by arm; gradients are clipped and numbers kept as in training.
        warmup: rounds before, not counted.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    prepared = {name: module.to(device).train() for name, module in modules.items()}
    optimizers = {
        name: make_optimizer(module.net, module.config.optimizer, rounds)[0]
        for name, module in prepared.items()
    }
    mixed = {name: precision(each.precision) != "32-true" for name, each in trainings.items()}
    seconds: dict[str, list[float]] = {name: [] for name in modules}
    for turn in track(range(-warmup, rounds), description="timing steps of all arms"):
        batch = batches[turn % len(batches)].to(device)
        for name, module in prepared.items():
            began = _now(device)
            with torch.autocast(device.type, torch.bfloat16, enabled=mixed[name]):
                loss = module.losses(batch).total
            loss.backward()
            torch.nn.utils.clip_grad_norm_(module.parameters(), trainings[name].gradient_clip)
            optimizers[name].step()
            optimizers[name].zero_grad()
            if turn >= 0:
                seconds[name].append(_now(device) - began)
    return {name: _summary(each) for name, each in seconds.items()}


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _summary(seconds: list[float]) -> StepTime:
    low, median, high = statistics.quantiles(seconds, n=4, method="inclusive")
    return StepTime(median, low, high, len(seconds))
