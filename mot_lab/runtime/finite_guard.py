"""Keeps a loss or gradient that is not finite, or a spike, from reaching the weights.

A bad step ends the run, or, where the run was told so, is left out: the optimiser does not move,
the learning rate, the data and the averaged weights go on as in any other step.
"""

import math
import sys
from collections import deque
from dataclasses import dataclass
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from mot_lab.distributed.ranks import largest, of_here, rank, whole
from mot_lab.optim import weights_of
from mot_lab.runtime.spikes import RollingSpikes

BadSteps = Literal["stop", "skip"]
GRADIENT_NORM = "gradient norm"
TOTAL_LOSS = "train/total/loss"
SKIPPED = "train/skipped_steps"
MOST_IN_A_ROW = 20  # a batch can be bad by chance; the weights of 20 bad steps are bad themselves


class BadStepError(FloatingPointError):
    """A loss term or the gradient is NaN, infinite or a spike, or the weights are not finite.

    Attributes:
        step: counts from 1.
        terms: the losses and the gradient norm.
        samples: numbers of the rows in the step's batches; row i is a function of (seed, i).
    """

    def __init__(
        self, message: str, step: int, terms: dict[str, float], samples: list[int]
    ) -> None:
        super().__init__(message)
        self.step = step
        self.terms = terms
        self.samples = samples

    def __reduce__(self) -> tuple[Any, ...]:  # it comes out of worker processes
        return type(self), (str(self), self.step, self.terms, self.samples)


@dataclass
class _Check:
    """The values of one step, on their way from the device to the host."""

    step: int
    samples: list[int]
    names: list[str]
    watched: list[str]  # for spikes
    values: Tensor  # fp32: of ``names``, then sigmas and marks of ``watched``
    arrived: torch.cuda.Event | None


class FiniteGuard(Callback):
    """Checks each ``train/.../loss`` and the gradient norm between backward pass and step.

    On the CPU a bad step is known at once. On CUDA nothing waits for the device: the fused
    optimiser itself leaves out a step whose flag is set (the switch that gradient scaling uses),
    the values are copied in the background, and what is to be said or raised comes when they have
    arrived, at most a few steps later and before anything is logged or saved. An optimiser on CUDA
    that is not fused has no such switch, and is waited for.

    Several processes that train together have the same losses and gradient, and so the same view of
    a step.

    Batches must have ``samples``, the numbers of their rows, and modules ``step_losses``, the
    losses of the last step by the name that they are logged under. The module is left the gradient
    norm, as ``gradient_norm``, so that clipping need not compute it again. The count of steps left
    out is logged as ``train/skipped_steps`` and goes on with a resumed run. A checkpoint whose
    weights are not finite is never written.

    Args:
        label: names the run in the message, for example ``mot seed 1``.
        bad_steps: ``stop`` raises, ``skip`` leaves the step out and says so; after 20 in a row it
            raises too, because then the weights are at fault and not a batch.
        spike_sigmas: of `RollingSpikes` on total loss and gradient norm; 0 takes no step for one.
    """

    def __init__(
        self, label: str = "", bad_steps: BadSteps = "stop", spike_sigmas: float = 0.0
    ) -> None:
        self.label = label
        self.bad_steps = bad_steps
        self.skipped: list[int] = []  # steps left out
        self._spikes = RollingSpikes(spike_sigmas)
        self._samples: list[int] = []  # of the batches since the last step
        self._checks: deque[_Check] = deque()
        self._checkpoint: Any = None

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._checkpoint = trainer.checkpoint_callback

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._samples += batch.samples

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        weights = weights_of(optimizer)
        gradients = [weight.grad for weight in weights if weight.grad is not None]
        total = torch.nn.utils.get_total_norm(gradients)
        pl_module.gradient_norm = total
        norm = whole(total)
        terms: dict[str, Tensor] = {**pl_module.step_losses, GRADIENT_NORM: norm}  # type: ignore[dict-item]
        found = {name: v.detach().float().to(norm.device) for name, v in terms.items()}
        watched = [name for name in (TOTAL_LOSS, GRADIENT_NORM) if name in found]
        step = trainer.global_step + 1
        values = torch.stack(list(found.values()))
        sigmas, marks = self._spikes.judge(step, torch.stack([found[name] for name in watched]))
        bad = ~values.isfinite().all() | marks.any()
        told = torch.cat([values, sigmas, marks.float()])
        samples, self._samples = self._samples, []
        check = _Check(step, samples, list(found), watched, told, None)
        if told.device.type == "cuda" and optimizer.defaults.get("fused"):
            optimizer.found_inf = bad.float()  # type: ignore[attr-defined]
            check.values = told.to("cpu", non_blocking=True)
            check.arrived = torch.cuda.Event()
            check.arrived.record()
        elif bad:
            for weight in weights:
                weight.grad = None  # the optimiser passes over weights without one
        self._checks.append(check)
        self._settle(wait=False)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        every: int = trainer.log_every_n_steps  # type: ignore[attr-defined]
        if self.bad_steps == "skip" and trainer.global_step % every == 0:
            self._settle(wait=True)  # the device is read for the other numbers now
            pl_module.log(SKIPPED, float(len(self.skipped)), on_step=True, on_epoch=False)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        weights = checkpoint["state_dict"]
        bad = [name for name, w in weights.items() if not of_here(w).isfinite().all()]
        if largest(len(bad)):  # of sharded weights, on any process
            raise BadStepError(
                f"{self._run}the weights of step {trainer.global_step} are not finite "
                f"({', '.join(bad[:3])}{', ..' if len(bad) > 3 else ''}) and are not saved; "
                f"{self._last_good()}",
                trainer.global_step,
                {},
                [],
            )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._settle(wait=True)
        if self.skipped and trainer.logger is not None:
            # Lightning's loggers count batches from 0
            count = {SKIPPED: float(len(self.skipped))}
            if trainer.global_step % trainer.log_every_n_steps:  # type: ignore[attr-defined]
                trainer.logger.log_metrics(count, step=trainer.global_step - 1)

    def state_dict(self) -> dict[str, Any]:
        self._settle(wait=True)
        return {"skipped": list(self.skipped), "spikes": self._spikes.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.skipped = state_dict["skipped"]
        self._spikes.load_state_dict(state_dict["spikes"])

    def _settle(self, wait: bool) -> None:
        """Judge the checks that have arrived, all of them when told to ``wait``."""
        while self._checks:
            check = self._checks[0]
            if check.arrived is not None:
                if wait:
                    check.arrived.synchronize()
                elif not check.arrived.query():
                    return
            self._checks.popleft()
            self._judge(check)

    def _judge(self, check: _Check) -> None:
        """Raises BadStepError, or counts the step, where it was bad."""
        told = check.values.tolist()
        names, watched = len(check.names), len(check.watched)
        terms = dict(zip(check.names, told[:names], strict=True))
        sigmas = dict(zip(check.watched, told[names : names + watched], strict=True))
        spikes = [name for name, mark in zip(check.watched, told[-watched:], strict=True) if mark]
        bad = [f"{name} is {v}" for name, v in terms.items() if not math.isfinite(v)]
        bad += [
            f"{name} is {terms[name]:.4g}, {sigmas[name]:.3g} standard deviations above the last "
            "steps' mean"
            for name in spikes
            if math.isfinite(terms[name])
        ]
        if not bad:
            return
        step, samples = check.step, check.samples
        what = f"{', '.join(bad)}; samples {_ranges(samples)}"
        last = list(range(step - MOST_IN_A_ROW, step))
        if self.bad_steps == "skip" and self.skipped[-MOST_IN_A_ROW:] != last:
            self.skipped.append(step)
            if rank() == 0:
                said = f"{self._run}skipped optimiser step {step}: {what}"
                print(said, file=sys.stderr, flush=True)
            return
        self._checks.clear()
        good = ", ".join(
            f"{name} {v:.4g}"
            for name, v in terms.items()
            if math.isfinite(v) and name not in spikes
        )
        raise BadStepError(
            f"{self._run}stopped before optimiser step {step}: {what}"
            + (f" (as they should be: {good})" if good else "")
            + (
                f"; the {MOST_IN_A_ROW} steps before were skipped"
                if self.bad_steps == "skip"
                else ""
            )
            + f"; the weights are those of step {step - 1}; {self._last_good()}",
            step,
            terms,
            samples,
        )

    @property
    def _run(self) -> str:
        return f"{self.label}: " if self.label else ""

    def _last_good(self) -> str:
        path = getattr(self._checkpoint, "path", None)
        if path is None or not path.exists():
            return "no checkpoint yet"
        return f"last good checkpoint: {path} of step {self._checkpoint.saved_step}"


def _ranges(samples: list[int]) -> str:
    """``[3, 4, 5, 9]`` -> ``3-5, 9``."""
    parts: list[list[int]] = []
    for each in samples:
        if parts and each == parts[-1][-1] + 1:
            parts[-1].append(each)
        else:
            parts.append([each])
    return ", ".join(f"{p[0]}-{p[-1]}" if len(p) > 1 else f"{p[0]}" for p in parts)
