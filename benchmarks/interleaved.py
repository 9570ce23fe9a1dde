"""Times pieces of work in turn, so that a machine's drift hits all alike.

Beside the clock on the wall there is the processor time of this process: on a machine that others
use as well it says what the work itself takes. Ratios are taken round by round, and their median
is given: a round's pieces ran next to each other.
"""

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any, TypeVar

import torch
from rich.progress import track

from mot_lab.clock import now

WARMUP = 3
Clocks = tuple[float, float]
Measured = TypeVar("Measured")


def interleaved(
    works: Mapping[str, Callable[[int], object]],
    rounds: int,
    baseline: str,
    device: torch.device,
    warmup: int = WARMUP,
    others: Mapping[str, str] | None = None,
) -> dict[str, dict[str, Any]]:
    """Call every work once in each round, each round beginning with another one.

    Args:
        works: by name; called with the number of the round, below 0 while warming up.
        rounds: counted, at least two.
        baseline: name of the work that the others are set against.
        device: waited for before a clock is read.
        warmup: rounds before, not counted.
        others: more baselines, by what they are called.

    Returns:
        by name, in seconds: ``median``, ``low`` and ``high`` (quartiles) on the wall,
        ``cpu_median``; ``of_baseline`` and ``of_baseline_cpu``, each median and quartiles of the
        rounds' ratios; the same two ``of_`` each of the others.
    """
    names = list(works)
    seen: dict[str, list[Clocks]] = {name: [] for name in names}
    for turn in track(range(-warmup, rounds), description="timing in turns"):
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            wall, processor = now(device), time.process_time()
            works[name](turn)
            clocks = now(device) - wall, time.process_time() - processor
            if turn >= 0:
                seen[name].append(clocks)
    baselines = {"baseline": baseline, **(others or {})}
    return {
        name: _summary(clocks, {each: seen[baselines[each]] for each in baselines})
        for name, clocks in seen.items()
    }


def in_processes(
    measure: Callable[..., Measured], arguments: Sequence[Any], processes: int
) -> list[Measured]:
    """What is measured in several processes, one after the other, each a new one: where memory lies
    differs from process to process, and one alone says nothing of a ratio's third digit."""
    told = []
    for _ in track(range(processes), description="processes"):
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            told.append(pool.submit(measure, *arguments).result())
    return told


def over_processes(processes: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Of one work as `interleaved` tells of it in each process: median, smallest and largest of the
    medians, of ``seconds`` and of each ratio on the wall."""
    ratios = [key for key in processes[0] if key.startswith("of_") and not key.endswith("_cpu")]
    medians = {"seconds": [each["median"] for each in processes]}
    medians |= {ratio: [each[ratio]["median"] for each in processes] for ratio in ratios}
    return {
        name: {"median": statistics.median(values), "min": min(values), "max": max(values)}
        for name, values in medians.items()
    }


def _summary(clocks: Sequence[Clocks], baselines: Mapping[str, Sequence[Clocks]]) -> dict[str, Any]:
    walls, processors = zip(*clocks, strict=True)
    low, median, high = _quartiles(walls)
    told: dict[str, Any] = {
        "median": median,
        "low": low,
        "high": high,
        "cpu_median": statistics.median(processors),
        "rounds": len(clocks),
    }
    for name, baseline in baselines.items():
        for clock, suffix in enumerate(("", "_cpu")):
            ratios = [
                own[clock] / other[clock] for own, other in zip(clocks, baseline, strict=True)
            ]
            told[f"of_{name}{suffix}"] = _named(ratios)
    return told


def _named(ratios: Sequence[float]) -> dict[str, float]:
    low, median, high = _quartiles(ratios)
    return {"median": median, "low": low, "high": high}


def _quartiles(values: Sequence[float]) -> list[float]:
    return statistics.quantiles(values, n=4, method="inclusive")
