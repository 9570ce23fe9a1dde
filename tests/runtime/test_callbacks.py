import io

import lightning.pytorch as pl
import pytest
import torch
from rich.console import Console
from runtime.tiny_run import TinyModule, fit

from mot_lab.runtime.averaging import ExponentialMovingAverage, averages_in, swapped_weights
from mot_lab.runtime.checkpoint import load_checkpoint
from mot_lab.runtime.progress import losses_text


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
