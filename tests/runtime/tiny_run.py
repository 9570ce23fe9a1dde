"""A run small enough to train in a second, with everything that a real one has: two losses,
dropout, several draws of random numbers, validation, a schedule, and data that are a function of
the step."""

import io
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import torch
from rich.console import Console
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from mot_lab.data.loader import TimedLoader
from mot_lab.data.sampler import StepSampler
from mot_lab.runtime.averaging import ExponentialMovingAverage
from mot_lab.runtime.checkpoint import AtomicCheckpointIO, StepCheckpoint
from mot_lab.runtime.finite_guard import BadSteps, FiniteGuard
from mot_lab.runtime.progress import StudyProgress
from mot_lab.runtime.random_state import RandomStateCheckpoint
from mot_lab.runtime.step_timer import StepTimer
from mot_lab.runtime.system_metrics import SystemMetrics
from mot_lab.runtime.tracking import RunLogger

logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)

BATCH, STEPS, VALIDATE_EVERY, LOG_EVERY = 4, 12, 3, 2


@dataclass
class TinyBatch:
    x_BD: Tensor
    step: int
    counts: dict[str, int]

    @property
    def samples(self) -> list[int]:
        return self.x_BD[:, 0].int().tolist()


class Samples(Dataset[Tensor]):
    """Sample ``i`` is a function of ``i``; batches name the samples they hold in column 0."""

    def __init__(self, length: int) -> None:
        self.length = length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, index: int) -> Tensor:
        x_D = torch.randn(8, generator=torch.Generator().manual_seed(index))
        x_D[0] = index
        return x_D


def collate(samples: list[Tensor]) -> TinyBatch:
    x_BD = torch.stack(samples)
    return TinyBatch(x_BD, int(x_BD[0, 0]) // BATCH, {"text": 30, "image": 10})


class TinyData(pl.LightningDataModule):
    def __init__(self, steps: int, accumulate: int = 1, workers: int = 0) -> None:
        super().__init__()
        self.steps, self.accumulate, self.workers = steps * accumulate, accumulate, workers

    def train_dataloader(self) -> TimedLoader[Tensor]:
        done = self.trainer.global_step * self.accumulate if self.trainer else 0
        sampler = StepSampler(BATCH, self.steps, start=done)
        return TimedLoader(
            Samples(10**6), batch_sampler=sampler, collate_fn=collate, num_workers=self.workers
        )

    def val_dataloader(self) -> DataLoader[Tensor]:
        return DataLoader(Samples(8), batch_size=BATCH, collate_fn=collate)


class TinyModule(pl.LightningModule):
    """``faults``: what to do at which step (0-based), by name: nan_at, raise_at."""

    def __init__(self, **faults: int) -> None:
        super().__init__()
        self.net = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Dropout(0.2), nn.Linear(16, 2))
        self.faults = faults
        self.samples_seen: list[int] = []

    def training_step(self, batch: TinyBatch, batch_idx: int) -> Tensor:
        if batch.step == self.faults.get("raise_at"):
            raise RuntimeError("the machine went away")
        self.samples_seen += batch.x_BD[:, 0].int().tolist()
        losses = self._losses(batch.x_BD, "train")
        if batch.step == self.faults.get("nan_at"):
            losses["image"] = losses["image"] * float("nan")
        self.step_losses = {f"train/{name}/loss": loss.detach() for name, loss in losses.items()}
        self.log_dict(self.step_losses)
        return losses["text"] + 5 * losses["image"]

    def validation_step(self, batch: TinyBatch, batch_idx: int) -> None:
        losses = self._losses(batch.x_BD, "val")
        self.log_dict(
            {f"val/{name}/loss": v for name, v in losses.items()}, batch_size=len(batch.x_BD)
        )

    def _losses(self, x_BD: Tensor, stage: str) -> dict[str, Tensor]:
        y_B2 = self.net(x_BD * torch.tensor([0.0] + [1.0] * 7))  # column 0 is the sample number
        noise_B = torch.randn(len(x_BD), device=x_BD.device) if stage == "train" else 0.0
        target_B = x_BD[:, 1:].sum(1)
        return {
            "text": (y_B2[:, 0] - target_B + noise_B).pow(2).mean(),
            "image": (y_B2[:, 1] + target_B).abs().mean(),
        }

    def configure_optimizers(self) -> dict[str, Any]:
        optimizer = torch.optim.AdamW(self.parameters(), lr=1e-2)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 / (1 + step))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


@dataclass
class Outcome:
    folder: Path
    module: TinyModule
    trainer: pl.Trainer
    logger: RunLogger
    average: ExponentialMovingAverage


def fit(
    folder: Path,
    *,
    faults: dict[str, int] | None = None,
    steps: int = STEPS,
    save_every: int = 4,
    accumulate: int = 1,
    workers: int = 0,
    tracking_uri: str | None = None,
    patience: float = 15.0,
    console: Console | None = None,
    callbacks: Sequence[pl.Callback] = (),
    bad_steps: BadSteps = "stop",
    spike_sigmas: float = 0.0,
) -> Outcome:
    """Train; go on from the folder's checkpoint where there is one. Raises what training raises."""
    pl.seed_everything(7, verbose=False)
    module = TinyModule(**(faults or {}))
    average = ExponentialMovingAverage(decay=0.9)
    checkpoint = StepCheckpoint(folder / "last.ckpt", every_n_steps=save_every)
    logger = RunLogger(
        folder,
        "tiny",
        "mot",
        1,
        {"seed": 1, "model": {"width": 8}},
        tracking_uri,
        patience=patience,
    )
    extra = [average, RandomStateCheckpoint(), FiniteGuard("mot seed 1", bad_steps, spike_sigmas)]
    extra += [StepTimer(warmup_steps=1), SystemMetrics()]
    trainer = pl.Trainer(
        accelerator="cpu",
        max_steps=steps,
        val_check_interval=VALIDATE_EVERY * accumulate,
        check_val_every_n_epoch=None,
        num_sanity_val_steps=0,
        accumulate_grad_batches=accumulate,
        gradient_clip_val=1.0,
        log_every_n_steps=LOG_EVERY,
        logger=logger,
        callbacks=[
            *extra,
            *callbacks,
            checkpoint,
            StudyProgress("mot seed 1", console or Console(file=io.StringIO())),
        ],
        plugins=[AtomicCheckpointIO()],
        enable_model_summary=False,
    )
    data = TinyData(steps, accumulate, workers)
    trainer.fit(module, data, ckpt_path=checkpoint.path if checkpoint.path.exists() else None)
    return Outcome(folder, module, trainer, logger, average)
