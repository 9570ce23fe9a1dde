"""NaN, infinity and spikes end a run, or are skipped and counted; they never reach the weights."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback
from reliability.amounts import WHOLE
from reliability.processes import curve
from reliability.small_runs import (
    ARMS,
    DATA,
    Interrupted,
    fault_at,
    interrupted_at,
    small_run,
    train_with_a_fault,
)
from runtime.tiny_run import fit
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode

from mot_lab.batch import MultimodalBatch
from mot_lab.losses import Losses
from mot_lab.module import MultimodalModule
from mot_lab.runtime.checkpoint import load_checkpoint
from mot_lab.runtime.finite_guard import GRADIENT_NORM, SKIPPED, BadStepError, FiniteGuard
from mot_lab.runtime.metrics_file import read_curve
from mot_lab.runtime.spikes import FEWEST, WINDOW, RollingSpikes
from mot_lab.runtime.workers import worker_pool
from mot_lab.study_record import skipped_notes
from mot_lab.training import Run, train

KINDS = {
    "latents": "train/image/loss is nan",
    "loss": "train/text/loss is nan",
    "infinite": "train/text/loss is inf",
    "gradient": "gradient norm is ",
}
CASES = [
    (arm, setting, kind)
    for setting in DATA
    for arm in ARMS
    for kind in KINDS
    if setting == "transfusion" or kind != "latents"
]
# One of each kind, arm and setting; all of them in the whole
FEW = [
    ("mot", "transfusion", "latents"),
    ("dense", "chameleon", "loss"),
    ("moe_4x", "transfusion", "infinite"),
    ("mot_text_moe_4x", "chameleon_speech", "gradient"),
]
cases = pytest.mark.parametrize("arm, setting, kind", CASES if WHOLE else FEW)


def require_finite(run: Run) -> dict[str, Any]:
    """The run's checkpoint, whose every number is finite."""
    checkpoint = load_checkpoint(run.checkpoint)
    averages = checkpoint["callbacks"]["ExponentialMovingAverage"]["averages"]
    (optimizer,) = checkpoint["optimizer_states"]
    moments = [value for state in optimizer["state"].values() for value in state.values()]
    for tensor in (*checkpoint["state_dict"].values(), *averages.values(), *moments):
        assert tensor.isfinite().all()
    return checkpoint


@cases
def test_a_bad_step_ends_the_run(arm: str, setting: str, kind: str, tmp_path: Path) -> None:
    run = small_run(tmp_path, arm, setting)
    with fault_at((7,), kind), pytest.raises(BadStepError) as caught:
        train(run, None)
    message = str(caught.value)
    assert message.startswith(f"{arm} seed 0: stopped before optimiser step 7: ")
    assert KINDS[kind] in message
    assert "samples 24-27" in message  # four rows a step
    assert message.endswith(
        f"the weights are those of step 6; last good checkpoint: {run.checkpoint} of step 4"
    )
    assert (caught.value.step, caught.value.samples) == (7, [24, 25, 26, 27])
    assert require_finite(run)["global_step"] == 4
    assert run.folder.record().status == "failed"
    assert not any("nonfinite" in line for line in curve(run.folder.path))

    train(run, None)  # the fault is gone
    undisturbed = small_run(tmp_path / "undisturbed", arm, setting)
    train(undisturbed, None)
    assert curve(run.folder.path) == curve(undisturbed.folder.path)


@cases
def test_a_bad_step_is_skipped_and_counted(
    arm: str, setting: str, kind: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    run = small_run(tmp_path, arm, setting, bad_steps="skip")
    before, after = Path(tmp_path / "before"), Path(tmp_path / "after")
    with fault_at((7, 10), kind):
        train(run, None)
    said = [line for line in capfd.readouterr().err.splitlines() if "skipped" in line]
    assert [line.partition(":")[2][:26] for line in said] == [
        " skipped optimiser step 7:",
        " skipped optimiser step 10",
    ]
    assert said[0].endswith("; samples 24-27")
    checkpoint = require_finite(run)
    assert checkpoint["global_step"] == 12
    assert checkpoint["callbacks"]["FiniteGuard"]["skipped"] == [7, 10]
    # AdamW counts the steps that it took; the learning rate went on
    (optimizer,) = checkpoint["optimizer_states"]
    assert {int(state["step"]) for state in optimizer["state"].values()} == {10}
    assert checkpoint["lr_schedulers"][0]["last_epoch"] == 12
    counts = read_curve(run.folder.metrics_path, SKIPPED)
    assert counts == [(2, 0), (4, 0), (6, 0), (8, 1), (10, 2), (12, 2)]
    assert skipped_notes([run])[0].startswith(f"{run.name} left out 2 of its 12 optimiser steps")

    # the step itself changes nothing
    weights = []
    for folder, batch in ((before, 6), (after, 7)):
        each = small_run(folder, arm, setting, bad_steps="skip", checkpoint_every=1)
        with fault_at((7,), kind), interrupted_at(batch), pytest.raises(Interrupted):
            train(each, None)
        saved = load_checkpoint(each.checkpoint)
        assert saved["global_step"] == batch
        weights.append(saved)
    for name, weight in weights[0]["state_dict"].items():
        assert torch.equal(weight, weights[1]["state_dict"][name]), name
    for one, other in zip(
        *(each["optimizer_states"][0]["state"].values() for each in weights), strict=True
    ):
        assert all(torch.equal(one[name], other[name]) for name in one)


def test_skipped_steps_go_on_with_a_resumed_run(tmp_path: Path) -> None:
    runs = [small_run(tmp_path / name, bad_steps="skip") for name in ("whole", "cut")]
    with fault_at((2, 6, 11), "gradient"):
        train(runs[0], None)
        with interrupted_at(9), pytest.raises(Interrupted):
            train(runs[1], None)
        train(runs[1], None)
    one, other = (require_finite(run) for run in runs)
    for name, weight in one["state_dict"].items():
        assert torch.equal(weight, other["state_dict"][name])
    assert other["callbacks"]["FiniteGuard"]["skipped"] == [2, 6, 11]
    assert curve(runs[0].folder.path) == curve(runs[1].folder.path)
    assert read_curve(runs[1].folder.metrics_path, SKIPPED)[-1] == (12, 3)


def test_the_last_count_is_logged_where_no_loss_is(tmp_path: Path) -> None:
    run = small_run(tmp_path, bad_steps="skip", log_every=5)
    with fault_at((12,), "loss"):
        train(run, None)
    assert read_curve(run.folder.metrics_path, SKIPPED) == [(5, 0), (10, 0), (12, 1)]
    clean = small_run(tmp_path / "clean", bad_steps="skip", log_every=5)
    train(clean, None)
    assert skipped_notes([clean]) == []


def test_a_modality_that_is_absent_after_a_bad_step_is_not_bad_again(tmp_path: Path) -> None:
    """Lightning keeps the last loss of a modality that later steps have none of."""
    losses = MultimodalModule.losses
    run = small_run(tmp_path, bad_steps="skip")

    def absent(self: MultimodalModule, batch: MultimodalBatch) -> Losses:
        found = losses(self, batch)
        return replace(found, counts={**found.counts, "image": 0}) if batch.step == 7 else found

    with mock.patch.object(MultimodalModule, "losses", absent), fault_at((7,), "latents"):
        train(run, None)
    assert require_finite(run)["callbacks"]["FiniteGuard"]["skipped"] == [7]


def test_bad_weights_are_not_skipped_over(tmp_path: Path) -> None:
    """Step after step is bad: the run ends, though it was told to skip."""
    run = small_run(tmp_path, bad_steps="skip", steps=40)
    with (
        fault_at(tuple(range(5, 41)), "loss"),
        pytest.raises(BadStepError, match=r"step 25: .*; the 20 steps before were skipped"),
    ):
        train(run, None)
    assert require_finite(run)["global_step"] == 24


def test_weights_that_overflow_in_the_last_step_are_not_saved(tmp_path: Path) -> None:
    """The loss is found bad one step later only, and after the last one there is none."""

    def overflow(self: Any, trainer: Any, module: Any, *args: Any) -> None:
        if trainer.global_step == 8:
            next(module.parameters()).data.fill_(math.inf)

    callback = type("Overflow", (Callback,), {"on_train_batch_end": overflow})
    with pytest.raises(BadStepError, match=r"weights of step 8 are not finite \(net.0.weight\)"):
        fit(tmp_path, callbacks=[callback()])
    assert load_checkpoint(tmp_path / "last.ckpt")["global_step"] == 4


def test_the_message_comes_out_of_a_worker_process(tmp_path: Path) -> None:
    """An exception that cannot be unpickled would end the pool without a word."""
    with worker_pool(1) as pool:
        error = pool.submit(train_with_a_fault, small_run(tmp_path)).exception()
    assert isinstance(error, BadStepError)
    assert (error.step, error.samples) == (3, [8, 9, 10, 11])
    assert math.isnan(error.terms["train/text/loss"]) and math.isfinite(
        error.terms["train/image/loss"]
    )


def test_a_spike_is_what_the_last_steps_say() -> None:
    """Against the rule written out in NumPy, for noise with spikes and a NaN in it."""
    draw = np.random.default_rng(0)
    values = np.stack([draw.normal(3, 0.1, 400), draw.normal(1, 0.3, 400)]).astype(np.float32)
    for place, value in ((20, 50), (200, 5), (300, 1e9)):
        values[0, place] = value
    values[1, 250], values[0, 260] = 4, np.nan
    rule = RollingSpikes(6.0)
    found = set()
    for place in range(400):
        sigmas, marks = rule.judge(place + 1, torch.from_numpy(values[:, place].copy()))
        earlier = values[:, max(0, place - WINDOW) : place]
        for row in range(2):
            known = earlier[row][np.isfinite(earlier[row])].astype(np.float64)
            if len(known) < FEWEST:
                assert not marks[row]
                continue
            expected = (values[row, place] - known.mean()) / known.std(ddof=1)
            if known.max() < 100:  # beside 1e9 all else is rounding
                np.testing.assert_allclose(sigmas[row], expected, rtol=1e-3, atol=1e-3)
            assert bool(marks[row]) == (expected > 6)
            if marks[row]:
                found.add((row, place))
    assert found == {(0, 200), (0, 300), (1, 250)}
    assert not RollingSpikes(0.0).judge(1, torch.tensor([1e30]))[1].any()


@pytest.mark.parametrize("bad_steps", ["stop", "skip"])
def test_a_spike_is_kept_from_the_weights(bad_steps: str, tmp_path: Path) -> None:
    training = {"steps": 80, "val_every": 80, "checkpoint_every": 20}
    run = small_run(tmp_path, bad_steps=bad_steps, spike_sigmas=6.0, **training)
    with fault_at((70,), "spike"):
        if bad_steps == "skip":
            train(run, None)
            assert require_finite(run)["callbacks"]["FiniteGuard"]["skipped"] == [70]
            return
        with pytest.raises(BadStepError, match=r"train/total/loss is .*e\+09, .*e\+\d+ standard"):
            train(run, None)
    assert require_finite(run)["global_step"] == 60


def test_without_a_rule_nothing_is_a_spike(tmp_path: Path) -> None:
    run = small_run(tmp_path, bad_steps="skip", steps=80, val_every=80)
    with fault_at((70,), "spike"):
        train(run, None)
    assert require_finite(run)["callbacks"]["FiniteGuard"]["skipped"] == []


DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
    ),
]


def _one_weight(device: str, guard: FiniteGuard, fused: bool) -> tuple[Any, Callable[..., None]]:
    """A weight, and a step that takes it against a given gradient under the guard."""
    weight = torch.nn.Parameter(torch.ones(3, device=device))
    optimizer = torch.optim.AdamW([weight], lr=0.1, fused=fused)
    loss = torch.tensor(1.0, device=device)
    trainer = SimpleNamespace(
        global_step=0, checkpoint_callback=None, log_every_n_steps=1, logger=None
    )
    batch = SimpleNamespace(samples=[1])
    module = SimpleNamespace(step_losses={"train/total/loss": loss})

    def step(gradient: float) -> None:
        weight.grad = torch.full_like(weight, gradient)
        guard.on_train_batch_start(trainer, module, batch, 0)
        guard.on_before_optimizer_step(trainer, module, optimizer)
        optimizer.step()
        trainer.global_step += 1

    return weight, step


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("fused", [True, False])
@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_bad_gradient_leaves_weights_as_they_are(device: str, fused: bool, bad: float) -> None:
    """A finite loss with a bad gradient counts too; on CUDA the fused optimiser skips the step."""
    guard = FiniteGuard()
    weight, step = _one_weight(device, guard, fused)
    step(1.0)
    good = weight.detach().clone()
    with pytest.raises(BadStepError, match="step 2: gradient norm is") as caught:
        step(bad)
        guard.state_dict()  # waits for what is on its way
    assert caught.value.step == 2 and not math.isfinite(caught.value.terms[GRADIENT_NORM])
    assert torch.equal(weight, good)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs CUDA")
def test_no_step_waits_for_the_device() -> None:
    guard = FiniteGuard(bad_steps="skip", spike_sigmas=6.0)
    weight, step = _one_weight("cuda", guard, fused=True)
    step(1.0)
    torch.cuda.set_sync_debug_mode("error")
    try:
        for place in range(100):
            step(math.nan if place == 50 else 1.0)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert guard.state_dict()["skipped"] == [52]
    assert weight.isfinite().all()


class _Event:
    """Stands for CUDA's: what is on its way never arrives, and nobody may wait for it."""

    def record(self) -> None:
        pass

    def query(self) -> bool:
        return False

    def synchronize(self) -> None:
        raise AssertionError("the step waits for the device")


def test_the_check_asks_the_device_for_nothing(record_property: Callable[[str, int], None]) -> None:
    """The same without a GPU: fake tensors of CUDA have no values, whoever asks for one fails."""
    steps = 100
    with FakeTensorMode(), mock.patch("torch.cuda.Event", _Event):
        guard = FiniteGuard(bad_steps="skip", spike_sigmas=6.0)
        weight = torch.nn.Parameter(torch.ones(3, device="cuda"))
        loss = torch.tensor(1.0, device="cuda")
        trainer = SimpleNamespace(global_step=0, checkpoint_callback=None)
        module = SimpleNamespace(step_losses={"train/total/loss": loss})
        groups = [{"params": [weight]}]
        optimizer = SimpleNamespace(defaults={"fused": True}, param_groups=groups, found_inf=None)

        def step() -> None:
            weight.grad = torch.full_like(weight, 1.0)
            guard.on_train_batch_start(trainer, module, SimpleNamespace(samples=[1]), 0)
            guard.on_before_optimizer_step(trainer, module, optimizer)
            trainer.global_step += 1

        for _ in range(steps):
            step()
        assert len(guard._checks) == steps
        assert optimizer.found_inf is not None and optimizer.found_inf.device.type == "cuda"
        with pytest.raises(DataDependentOutputException):
            bool(loss)
        optimizer.defaults = {}  # not fused: the host must know before it steps
        with pytest.raises(DataDependentOutputException):
            step()
    record_property("tried", steps)
    record_property("handled", steps)
