import io
import math
from types import SimpleNamespace

import lightning.pytorch as pl
import pytest
import torch
from rich.console import Console
from runtime.tiny_run import TinyModule, fit

from mot_lab.runtime.averaging import ExponentialMovingAverage, averages_in, swapped_weights
from mot_lab.runtime.checkpoint import load_checkpoint
from mot_lab.runtime.finite_guard import FiniteGuard, NonFiniteError
from mot_lab.runtime.metrics_file import read_curve
from mot_lab.runtime.progress import losses_text
from mot_lab.runtime.step_timer import StepTimer


def test_nan_loss_stops_before_the_step(tmp_path):
    with pytest.raises(NonFiniteError) as caught:
        fit(tmp_path, faults={"nan_at": 6})
    error = caught.value
    assert error.step == 7
    assert math.isnan(error.terms["train/image/loss"]) and math.isfinite(
        error.terms["train/text/loss"]
    )
    message = str(error)
    assert message.startswith(
        "mot seed 1: stopped before optimiser step 7: train/image/loss is nan"
    )
    assert "gradient norm is nan" in message and "train/text/loss" in message
    assert f"last good checkpoint: {tmp_path / 'last.ckpt'}" in message
    checkpoint = load_checkpoint(tmp_path / "last.ckpt")
    assert checkpoint["global_step"] == 4
    assert all(w.isfinite().all() for w in checkpoint["state_dict"].values())


@pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param(
            "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
        ),
    ],
)
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_bad_gradient_leaves_weights_as_they_are(device, bad):
    """A finite loss with a bad gradient counts too; on CUDA the fused optimiser skips the step."""
    weight = torch.nn.Parameter(torch.ones(3, device=device))
    optimizer = torch.optim.AdamW([weight], lr=0.1, fused=True)
    module = torch.nn.ParameterList([weight])
    trainer = SimpleNamespace(
        global_step=0, callback_metrics={"train/text/loss": torch.tensor(1.0, device=device)}
    )
    trainer.checkpoint_callback = None
    guard = FiniteGuard()

    def step(gradient: float) -> None:
        weight.grad = torch.full_like(weight, gradient)
        guard.on_before_optimizer_step(trainer, module, optimizer)
        optimizer.step()
        trainer.global_step += 1

    step(1.0)
    good = weight.detach().clone()
    with pytest.raises(NonFiniteError, match="step 2: gradient norm is") as caught:
        step(bad)
        guard.on_train_end(trainer, module)
    assert caught.value.step == 2
    assert torch.equal(weight, good)


def test_average_follows_its_formula_and_swaps_exactly(tmp_path):
    done = fit(tmp_path, steps=3)
    module, average = done.module, done.average

    # by hand, from the weights after each step, which a second run repeats
    weights = []
    for steps in (1, 2, 3):
        again = fit(tmp_path / str(steps), steps=steps).module
        weights.append({k: v.detach().clone() for k, v in again.named_parameters()})
    pl.seed_everything(7, verbose=False)
    expected = {k: v.detach().double() for k, v in TinyModule().named_parameters()}
    for n, current in enumerate(weights):
        decay = min(0.9, (1 + n) / (10 + n))
        expected = {k: decay * v + (1 - decay) * current[k].double() for k, v in expected.items()}
    for name, value in average.averages.items():
        torch.testing.assert_close(value.double(), expected[name], rtol=1e-6, atol=1e-7)

    raw = {k: v.detach().clone() for k, v in module.named_parameters()}
    with pytest.raises(RuntimeError, match="inside"), average.averaged_weights(module):
        assert all(torch.equal(v, average.averages[k]) for k, v in module.named_parameters())
        raise RuntimeError("inside")
    assert all(torch.equal(v, raw[k]) for k, v in module.named_parameters())

    saved = averages_in(load_checkpoint(tmp_path / "last.ckpt"))
    assert all(torch.equal(v, average.averages[k]) for k, v in saved.items())
    with pytest.raises(ValueError, match="another model"), swapped_weights(module.net, saved):
        pass
    with pytest.raises(ValueError, match="no averaged weights"):
        averages_in({"callbacks": {}})
    with pytest.raises(ValueError, match="decay"):
        ExponentialMovingAverage(decay=1.0)


def test_progress_in_plain_lines(tmp_path):
    text = io.StringIO()
    fit(tmp_path, steps=20, console=Console(file=text))
    lines = text.getvalue().splitlines()
    assert [line.split(",")[0] for line in lines] == [
        f"mot seed 1: step {s}/20" for s in range(2, 21, 2)
    ]
    assert all("left, train image " in line for line in lines)
    assert "| val image " in lines[-1] and lines[-1].split(", ")[2] == "0:00:00 left"


def test_progress_on_a_terminal(tmp_path):
    text = io.StringIO()
    console = Console(file=text, force_terminal=True, width=160)
    fit(tmp_path, steps=6, console=console)
    last = text.getvalue().split("\n")[-2]
    for part in ("mot seed 1", "6/6", "train image", "val image", "text"):
        assert part in last


def test_losses_text():
    metrics = {
        "val/text/loss": 2.5,
        "train/text/loss": 2.34567,
        "train/image/loss": 0.5,
        "train/lr": 1.0,
    }
    assert losses_text(metrics) == "train image 0.5 text 2.346 | val text 2.5"


def test_timer_leaves_out_pauses_and_warm_up(monkeypatch):
    clock = iter([0.0, 9.0, 10.0, 12.0, 100.0, 103.0, 200.0, 201.0])
    monkeypatch.setattr(
        "mot_lab.runtime.step_timer.time", SimpleNamespace(perf_counter=lambda: next(clock))
    )
    rates: list[float] = []
    module = SimpleNamespace(
        device=torch.device("cpu"), log=lambda name, value, **_: rates.append(value)
    )
    trainer = SimpleNamespace(global_step=0, log_every_n_steps=4, logger=None)
    batch = SimpleNamespace(counts={"text": 20, "image": 10})
    timer = StepTimer(warmup_steps=2)
    timer.on_train_start(trainer, module)
    for step in range(1, 9):  # steps end at the clock's times
        trainer.global_step = step
        timer.on_train_batch_end(trainer, module, None, batch, step - 1)
        if step == 4:
            timer.on_validation_start(trainer, module)
        if step == 6:
            timer.on_save_checkpoint(trainer, module, {})
    # warm-up: steps 1, 2; validation before step 5; a checkpoint before step 7
    assert list(timer._seconds) == [1.0, 2.0, 3.0, 1.0]
    assert rates == [60 / 3.0, 60 / 4.0]
    assert timer.seconds_per_step() == 1.5
    other = StepTimer()
    assert other.seconds_per_step() is None
    other.load_state_dict(timer.state_dict())
    assert other.seconds_per_step() == 1.5


def test_throughput_reaches_the_log(tmp_path):
    fit(tmp_path, save_every=100)
    # steps 4 and 10 follow a validation and are left out, but the pair logged with them is not
    rates = read_curve(tmp_path / "metrics.jsonl", "train/tokens_per_second")
    assert [step for step, _ in rates] == [2, 4, 6, 8, 10, 12] and all(
        rate > 0 for _, rate in rates
    )
    assert [
        step for step, _ in read_curve(tmp_path / "metrics.jsonl", "train/seconds_per_step")
    ] == [12]
