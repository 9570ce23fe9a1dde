"""Works are timed in turns, and ratios are taken round by round."""

import os
import time

import pytest
import torch

from benchmarks.interleaved import _summary, in_processes, interleaved, over_processes


def test_ratios_are_of_rounds_not_of_medians() -> None:
    slow = [(2.0, 1.0), (30.0, 3.0), (4.0, 2.0)]
    fast = [(1.0, 1.0), (10.0, 1.0), (4.0, 1.0)]
    summary = _summary(slow, {"baseline": fast, "itself": slow})
    assert (summary["median"], summary["low"], summary["high"]) == (4.0, 3.0, 17.0)
    assert summary["cpu_median"] == 2.0
    assert summary["of_baseline"] == {"low": 1.5, "median": 2.0, "high": 2.5}
    assert summary["of_baseline_cpu"] == {"low": 1.5, "median": 2.0, "high": 2.5}
    assert summary["of_itself"] == {"low": 1.0, "median": 1.0, "high": 1.0}
    assert summary["rounds"] == 3


def test_every_work_has_every_round_and_waiting_is_no_processor_time() -> None:
    called: list[tuple[str, int]] = []
    works = {
        "busy": lambda turn: called.append(("busy", turn)),
        "waiting": lambda turn: (called.append(("waiting", turn)), time.sleep(0.02)),
    }
    others = {"sleep": "waiting"}
    times = interleaved(works, 3, "busy", torch.device("cpu"), warmup=1, others=others)
    assert called == [
        *[("waiting", -1), ("busy", -1)],
        *[("busy", 0), ("waiting", 0)],
        *[("waiting", 1), ("busy", 1)],
        *[("busy", 2), ("waiting", 2)],
    ]
    assert times["waiting"]["median"] >= 0.02
    assert times["waiting"]["cpu_median"] < 0.01
    assert times["busy"]["of_baseline"]["median"] == pytest.approx(1)
    assert times["busy"]["of_sleep"]["median"] < 0.5
    assert times["waiting"]["of_sleep"]["median"] == pytest.approx(1)


def test_each_process_is_a_new_one_and_medians_are_told() -> None:
    ids = in_processes(os.getpid, [], 2)
    assert len({*ids, os.getpid()}) == 3
    ratios = [{"median": 2.0, "low": 0.0}, {"median": 7.0, "low": 0.0}, {"median": 3.0, "low": 0.0}]
    told = [
        {"median": seconds, "cpu_median": 9.0, "of_baseline": ratio, "of_baseline_cpu": ratio}
        for seconds, ratio in zip((0.5, 0.1, 0.2), ratios, strict=True)
    ]
    assert over_processes(told) == {
        "seconds": {"median": 0.2, "min": 0.1, "max": 0.5},
        "of_baseline": {"median": 3.0, "min": 2.0, "max": 7.0},
    }
