"""Where a training step's time goes, arm by arm, with a trace of `torch.profiler` of each.

Step times are of all arms in turn (`mot_lab.step_time`). The parts of a step are timed in rounds of
their own, because on a GPU the clock has to wait for the device after each part; the traces are
made last, because a profiler slows what it watches.
"""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle, pairwise
from pathlib import Path

import torch
from torch.profiler import ProfilerActivity, profile

from mot_lab.batch import MultimodalBatch
from mot_lab.clock import now
from mot_lab.config import StudyConfig
from mot_lab.counting import arm_cost
from mot_lab.data.datamodule import MultimodalDataModule
from mot_lab.flops import Workload
from mot_lab.step_time import StepTime, TrainingStep, time_steps
from mot_lab.training import precision, runs_of
from mot_lab.utilisation import StepWork, hardware_peak

PARTS = ("data", "forward", "backward", "optimiser", "rest")
DISTINCT_BATCHES = 8
PART_ROUNDS = 5
TRACED_STEPS = 3
TOP_OPERATORS = 8


@dataclass(frozen=True)
class ArmProfile:
    """What a training step of an arm costs on this machine.

    Attributes:
        time: of a step alone, arms taking turns.
        tokens_per_second: at the median step.
        work: its FLOPs, and the peak of the hardware.
        model_flop_utilisation: at the median step.
        peak_memory_gb: weights, gradients, optimiser and activations at their most, in 1e9 bytes;
            tensors only, by the profiler's account.
        waiting_share: of a step and the making of its batch, the share of the latter where nothing
            makes batches ahead.
        shares: of the same time, what each of ``PARTS`` takes; rest is clipping.
        operators: those that take most time themselves, and their shares of all operators' time
            (of the device's where there is a GPU).
        trace: for chrome://tracing or ui.perfetto.dev.
    """

    time: StepTime
    tokens_per_second: float
    work: StepWork
    model_flop_utilisation: float
    peak_memory_gb: float
    waiting_share: float
    shares: Mapping[str, float]
    operators: Mapping[str, float]
    trace: Path


def profile_study(config: StudyConfig, rounds: int, out: Path) -> dict[str, ArmProfile]:
    """Profile every arm of a study, with fresh weights, on its own batches.

    Args:
        config: of the study.
        rounds: counted steps of each arm.
        out: folder that gets a trace per arm, ``<arm>.json``.

    Raises:
        ValueError: fewer than two rounds.
    """
    if rounds < 2:
        raise ValueError(f"{rounds} steps: quartiles need at least 2")
    out.mkdir(parents=True, exist_ok=True)
    data = MultimodalDataModule(config.data)
    batches = list(data.train_loader(DISTINCT_BATCHES))
    workload = Workload.of_batches(batches, data.interface.modalities)
    tokens = sum(workload.tokens.values())
    arms = {arm.name: arm for arm in config.parsed_arms}
    modules = {run.arm: run.module() for run in runs_of(config, out)}
    steps = {name: TrainingStep(modules[name], arm.training, rounds) for name, arm in arms.items()}
    times = time_steps(steps, batches, rounds)
    shares = _part_shares(steps, data)
    wishes = {name: precision(arm.training.precision) for name, arm in arms.items()}
    peaks = {wish: hardware_peak(wish) for wish in set(wishes.values())}
    profiles = {}
    for name, arm in arms.items():
        seconds = times[name].median
        work = StepWork(arm_cost(arm, data.interface, workload).flops_per_step, peaks[wishes[name]])
        trace = out / f"{name}.json"
        operators = _trace(steps[name], batches, trace)
        profiles[name] = ArmProfile(
            times[name],
            tokens / seconds,
            work,
            work.utilisation(seconds),
            (_state_bytes(steps[name]) + _most_allocated(trace, steps[name].device)) / 1e9,
            shares[name]["data"],
            shares[name],
            operators,
            trace,
        )
    return profiles


def _part_shares(
    steps: Mapping[str, TrainingStep], data: MultimodalDataModule
) -> dict[str, dict[str, float]]:
    """What each part takes of a step with the making of its batch; arms in turn, fresh batches."""
    device = next(iter(steps.values())).device
    seconds: dict[str, dict[str, float]] = {name: defaultdict(float) for name in steps}
    fresh = iter(data.train_loader(PART_ROUNDS * len(steps)))
    for _ in range(PART_ROUNDS):
        for name, step in steps.items():
            marks = [("", now(device))]

            def done(part: str, marks: list[tuple[str, float]] = marks) -> None:
                marks.append((part, now(device)))

            batch = next(fresh).to(device)
            done("data")
            step(batch, done)
            for (_, began), (part, ended) in pairwise(marks):
                seconds[name][part] += ended - began
    return {
        name: {part: parts[part] / sum(parts.values()) for part in PARTS}
        for name, parts in seconds.items()
    }


def _trace(step: TrainingStep, batches: Sequence[MultimodalBatch], path: Path) -> dict[str, float]:
    """Write the trace of some steps; returns the operators that took most of their time."""
    on_gpu = step.device.type == "cuda"
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if on_gpu else [])]
    with profile(activities=activities, profile_memory=True) as profiler:
        for batch in _first(batches, TRACED_STEPS):
            step(batch.to(step.device))
        now(step.device)
    profiler.export_chrome_trace(str(path))
    times = {
        each.key: each.self_device_time_total if on_gpu else each.self_cpu_time_total
        for each in profiler.key_averages()
    }
    whole = sum(times.values())
    most = sorted(times, key=lambda key: times[key], reverse=True)[:TOP_OPERATORS]
    return {key: times[key] / whole for key in most if times[key]}


def _first(batches: Sequence[MultimodalBatch], number: int) -> Iterator[MultimodalBatch]:
    return (batch for batch, _ in zip(cycle(batches), range(number), strict=False))


def _state_bytes(step: TrainingStep) -> int:
    """Bytes of weights, buffers and the optimiser's state, which are there before a step."""
    module, optimizer = step.module, step.optimizer
    state = [value for of in optimizer.state.values() for value in of.values()]
    tensors = [*module.parameters(), *module.buffers(), *state]
    return sum(each.nbytes for each in tensors if isinstance(each, torch.Tensor))


def _most_allocated(trace: Path, device: torch.device) -> int:
    """The most bytes that the traced steps held on the device beyond what they began with."""
    kind = 1 if device.type == "cuda" else 0  # c10::DeviceType
    events = [
        each
        for each in json.loads(trace.read_text())["traceEvents"]
        if each.get("name") == "[memory]" and each["args"]["Device Type"] == kind
    ]
    held = most = 0
    for each in sorted(events, key=lambda event: float(event["ts"])):
        held += each["args"]["Bytes"]
        most = max(most, held)
    return most
