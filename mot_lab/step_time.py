"""Seconds per training step of every arm, interleaved, so that a machine's drift hits all alike.

These are figures of a step alone, logged as ``cost/*``; what a run cost as it trained, beside other
runs, is `mot_lab.runtime.step_timer`'s and logged as ``run_cost/*``.
"""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from rich.progress import track

from mot_lab.batch import MultimodalBatch
from mot_lab.clock import now
from mot_lab.module import MultimodalModule
from mot_lab.optim import make_optimizer, weights_of
from mot_lab.study_arm import TrainingConfig
from mot_lab.training import precision

WARMUP_ROUNDS = 3


@dataclass(frozen=True)
class StepTime:
    """Seconds of one step: forward, backward, clipping, optimiser; packing is not in it.

    Attributes:
        median, low, high: over the counted steps, the quartiles.
        steps: counted.
        compile_seconds: what the uncounted first steps took more than as many median ones:
            compilation, allocation; None in records of earlier versions.
    """

    median: float
    low: float
    high: float
    steps: int
    compile_seconds: float | None = None


class TrainingStep:
    """One arm's whole training step, as the Trainer makes it.

    Args:
        module: whose weights are trained; moved to the GPU where there is one.
        training: gradients are clipped and numbers kept as it says.
        steps: that the learning rate's schedule is made for.
    """

    def __init__(self, module: MultimodalModule, training: TrainingConfig, steps: int) -> None:
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.module = module.to(self.device).train()
        self.optimizer = make_optimizer(self.module.net, module.config.optimizer, steps)[0]
        self._weights = weights_of(self.optimizer)
        self.mixed = precision(training.precision) != "32-true"
        self.clip = training.gradient_clip

    def __call__(
        self, batch: MultimodalBatch, done: Callable[[str], None] = lambda part: None
    ) -> None:
        """Train on a batch that is on the device; ``done`` hears of each part when it is over:
        forward (losses included), backward, rest (clipping), optimiser.
        """
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.mixed):
            loss = self.module.losses(batch).total
        done("forward")
        loss.backward()
        done("backward")
        torch.nn.utils.clip_grad_norm_(self._weights, self.clip)
        done("rest")
        self.optimizer.step()
        self.optimizer.zero_grad()
        done("optimiser")


def measure_step_times(
    modules: dict[str, MultimodalModule],
    batches: Sequence[MultimodalBatch],
    rounds: int,
    trainings: Mapping[str, TrainingConfig],
    warmup: int = WARMUP_ROUNDS,
) -> dict[str, StepTime]:
    """Time whole training steps, one arm after the other in every round.

    Args:
        modules: by arm; their weights are trained on.
        batches: taken in turn, the same one for every arm of a round.
        rounds: counted steps of each arm.
        trainings: by arm; gradients are clipped and numbers kept as in training.
        warmup: rounds before, not counted.
    """
    steps = {name: TrainingStep(each, trainings[name], rounds) for name, each in modules.items()}
    return time_steps(steps, batches, rounds, warmup)


def time_steps(
    steps: Mapping[str, TrainingStep],
    batches: Sequence[MultimodalBatch],
    rounds: int,
    warmup: int = WARMUP_ROUNDS,
) -> dict[str, StepTime]:
    """`measure_step_times` of steps that are made already."""
    device = next(iter(steps.values())).device
    seconds: dict[str, list[float]] = {name: [] for name in steps}
    for turn in track(range(-warmup, rounds), description="timing steps of all arms"):
        batch = batches[turn % len(batches)].to(device)
        for name, step in steps.items():
            began = now(device)
            step(batch)
            seconds[name].append(now(device) - began)
    return {name: _summary(each[warmup:], each[:warmup]) for name, each in seconds.items()}


def _summary(seconds: list[float], first: list[float]) -> StepTime:
    """Of the counted steps, and of those before them."""
    low, median, high = statistics.quantiles(seconds, n=4, method="inclusive")
    compiling = max(0.0, sum(first) - median * len(first))
    return StepTime(median, low, high, len(seconds), compiling)
