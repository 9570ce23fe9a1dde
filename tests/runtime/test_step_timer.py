"""What a run costs as it trains: seconds, waiting, first steps, memory, utilisation."""

import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from runtime.tiny_run import fit

from mot_lab.data.loader import TimedLoader
from mot_lab.runtime.metrics_file import read_curve, read_lines
from mot_lab.runtime.peak_memory import CLEAR, peak_bytes, reset_peak
from mot_lab.runtime.step_timer import StepTimer
from mot_lab.utilisation import Peak, StepWork

CPU = torch.device("cpu")
WORK = StepWork(flops=30.0, peak=Peak(100.0, "a test"))


class SlowItems(torch.utils.data.Dataset):
    """Four items; each takes 20 ms."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> int:
        time.sleep(0.02)
        return index


def timed_steps(monkeypatch: pytest.MonkeyPatch, timer: StepTimer) -> dict[str, list[float]]:
    """Eight steps that begin and end at given times, with half a second of waiting in each of the
    last six; returns what was logged with the losses.
    """
    # the first begins at 0; the others end at
    clock = iter([0.0, 7.0, 9.0, 10.0, 12.0, 100.0, 103.0, 200.0, 201.0])
    monkeypatch.setattr(
        "mot_lab.runtime.step_timer.time", SimpleNamespace(perf_counter=lambda: next(clock))
    )
    logged: dict[str, list[float]] = {}
    module = SimpleNamespace(
        device=CPU, log=lambda name, value, **_: logged.setdefault(name, []).append(value)
    )
    loader = TimedLoader([])
    trainer = SimpleNamespace(
        global_step=0, log_every_n_steps=4, logger=None, train_dataloader=loader
    )
    batch = SimpleNamespace(counts={"text": 20, "image": 10})
    timer.on_train_start(trainer, module)
    for step in range(1, 9):
        timer.on_train_batch_start(trainer, module, batch, step - 1)
        trainer.global_step = step
        loader.seconds_waited += 0.5 if step > 2 else 0.0
        timer.on_train_batch_end(trainer, module, None, batch, step - 1)
        if step == 4:
            timer.on_validation_start(trainer, module)
        if step == 6:
            timer.on_save_checkpoint(trainer, module, {})
    return logged


def test_pauses_and_warm_up_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    timer = StepTimer(warmup_steps=2, work=WORK)
    logged = timed_steps(monkeypatch, timer)
    # warm-up: steps 1, 2; validation before step 5; a checkpoint before step 7
    assert [each[0] for each in timer._measured] == [1.0, 2.0, 3.0, 1.0]
    assert logged == {
        "train/tokens_per_second": [60 / 3.0, 60 / 4.0],
        "train/waiting_share": [1.0 / 3.0, 1.0 / 4.0],
    }
    assert timer.seconds_per_step() == 1.5
    costs = timer._costs()
    assert costs["tokens_per_second"] == 120 / 7.0
    assert costs["waiting_share"] == 2.0 / 7.0
    assert costs["compile_seconds"] == 9.0 - 2 * 1.5  # steps 1 and 2 took 7 and 2
    assert costs["model_flop_utilisation"] == pytest.approx(30.0 / 1.5 / 100.0)
    # what was asked in between may have raised it by a page
    assert costs["peak_memory_gb"] == pytest.approx(peak_bytes(CPU) / 1e9, rel=1e-3)


def test_a_resumed_run_keeps_what_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    timer = StepTimer(warmup_steps=2, work=WORK)
    timed_steps(monkeypatch, timer)
    other = StepTimer(work=WORK)
    assert other.seconds_per_step() is None
    other.load_state_dict(timer.state_dict())
    assert other._costs() == timer._costs()
    earlier = StepTimer()
    earlier.load_state_dict({"seconds": [1.0, 2.0]})  # a checkpoint of an earlier version
    assert earlier.seconds_per_step() is None


def test_costs_reach_the_log(tmp_path: Path) -> None:
    fit(tmp_path, save_every=100)
    path = tmp_path / "metrics.jsonl"
    # steps 4 and 10 follow a validation and are left out, but the pair logged with them is not
    for name, most in (("tokens_per_second", float("inf")), ("waiting_share", 1.0)):
        points = read_curve(path, f"train/{name}")
        assert [step for step, _ in points] == [2, 4, 6, 8, 10, 12]
        assert all(0 < value < most for _, value in points)
    lines, _ = read_lines(path)
    (line,) = [line for line in lines if any(key.startswith("run_cost/") for key in line)]
    assert line["step"] == 12
    costs = {key: value for key, value in line.items() if key.startswith("run_cost/")}
    assert costs.keys() == {
        f"run_cost/{name}"
        for name in (
            *("seconds_per_step", "tokens_per_second", "waiting_share"),
            *("compile_seconds", "peak_memory_gb"),  # no utilisation: its FLOPs were not given
        )
    }
    # torch alone takes 100 MB
    assert 0.05 < costs["run_cost/peak_memory_gb"] < 64


def test_a_loader_knows_how_long_its_user_waited() -> None:
    loader = TimedLoader(SlowItems(), batch_size=2)
    seen = []
    for batch in loader:
        time.sleep(0.1)  # which is no waiting
        seen += batch.tolist()
    assert seen == [0, 1, 2, 3]
    assert 0.08 <= loader.seconds_waited < 0.18


@pytest.mark.skipif(not CLEAR.exists(), reason="only Linux can count memory anew")
def test_peak_memory_is_that_since_the_reset() -> None:
    reset_peak(CPU)
    before = peak_bytes(CPU)
    held = torch.ones(50_000_000)  # 200 MB
    most = peak_bytes(CPU)
    assert 190e6 < most - before < 230e6
    del held
    assert peak_bytes(CPU) > most - 5e6  # the kernel adds its per-thread counts up by and by
    reset_peak(CPU)
    assert peak_bytes(CPU) < most - 150e6
