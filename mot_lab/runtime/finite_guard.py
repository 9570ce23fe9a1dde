"""Stops a run whose loss or gradient is not finite before the optimiser can spoil the weights."""

import math
from collections import deque
from dataclasses import dataclass
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

GRADIENT_NORM = "gradient norm"


class NonFiniteError(FloatingPointError):
    """A loss term or the gradient is NaN or infinite; ``step`` counts from 1."""

    def __init__(self, message: str, step: int, terms: dict[str, float]) -> None:
        super().__init__(message)
        self.step = step
        self.terms = terms


@dataclass
class _Check:
    """The values of one step, on their way from the device to the host."""

    step: int
    names: list[str]
    values: Tensor  # fp32 [len(names)], on the host once ``arrived``
    arrived: torch.cuda.Event | None


class FiniteGuard(Callback):
    """Checks each ``train/.../loss`` and the gradient norm between backward pass and step.

    On the CPU a bad step raises at once. On CUDA nothing waits for the device: the fused optimiser
    itself skips a step whose flag is set (the switch that gradient scaling uses), the values are
    copied in the background, and the exception comes when they have arrived, at most a few steps
    later. An optimiser on CUDA that is not fused has no such switch, and is waited for.

    Args:
        label: names the run in the message, for example ``mot seed 1``.
    """

    def __init__(self, label: str = "") -> None:
        self.label = label
        self._checks: deque[_Check] = deque()

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer
    ) -> None:
        terms = {name: v for name, v in trainer.callback_metrics.items() if _is_loss(name)}
        gradients = [w.grad for w in pl_module.parameters() if w.grad is not None]
        norm = torch.nn.utils.get_total_norm(gradients)
        values = torch.stack([v.detach().float().to(norm.device) for v in (*terms.values(), norm)])
        names = [*terms, GRADIENT_NORM]
        step = trainer.global_step + 1
        if values.device.type == "cuda" and optimizer.defaults.get("fused"):
            optimizer.found_inf = (~values.isfinite().all()).float()  # type: ignore[attr-defined]
            host_values = values.to("cpu", non_blocking=True)
            arrived = torch.cuda.Event()
            arrived.record()
            self._checks.append(_Check(step, names, host_values, arrived))
        else:
            self._checks.append(_Check(step, names, values, None))
        self._settle(trainer, wait=False)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        self._settle(trainer, wait=True)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._settle(trainer, wait=True)

    def _settle(self, trainer: Trainer, wait: bool) -> None:
        """Judge the checks that have arrived, all of them when told to ``wait``."""
        while self._checks:
            check = self._checks[0]
            if check.arrived is not None:
                if wait:
                    check.arrived.synchronize()
                elif not check.arrived.query():
                    return
            self._checks.popleft()
            terms = dict(zip(check.names, check.values.tolist(), strict=True))
            if not all(map(math.isfinite, terms.values())):
                self._checks.clear()
                raise NonFiniteError(self._message(trainer, check.step, terms), check.step, terms)

    def _message(self, trainer: Trainer, step: int, terms: dict[str, float]) -> str:
        bad = ", ".join(f"{name} is {v}" for name, v in terms.items() if not math.isfinite(v))
        good = ", ".join(f"{name} {v:.4g}" for name, v in terms.items() if math.isfinite(v))
        checkpoint = getattr(trainer.checkpoint_callback, "path", None)
        last_good = (
            f"last good checkpoint: {checkpoint}"
            if checkpoint and checkpoint.exists()
            else "no checkpoint yet"
        )
        run = f"{self.label}: " if self.label else ""
        return (
            f"{run}stopped before optimiser step {step}: {bad}"
            + (f" (finite: {good})" if good else "")
            + f"; the weights are those of step {step - 1}; {last_good}"
        )


def _is_loss(name: str) -> bool:
    return name.startswith("train/") and name.endswith("/loss")
