"""Runs of the real module in every setting, small, that can be interrupted or fed a fault."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from reliability.processes import SETTINGS
from tiny_studies import CODES, SPOKEN, TINY_SCENES

from mot_lab.batch import MultimodalBatch
from mot_lab.config import StudyConfig
from mot_lab.losses import Losses
from mot_lab.module import MultimodalModule
from mot_lab.parsing import from_dict
from mot_lab.training import Run, runs_of, train

ARMS = ("dense", "moe_4x", "mot", "mot_text_moe_4x")
DATA: dict[str, dict[str, Any]] = {
    "transfusion": TINY_SCENES,
    "chameleon": {**TINY_SCENES, "image": CODES},
    "chameleon_speech": {**TINY_SCENES, "image": CODES, "speech": SPOKEN, "row_length": 224},
}
TRAINING = {"steps": 12, "val_every": 3, "log_every": 2, "checkpoint_every": 4}


def small_run(folder: Path, arm: str = "mot", setting: str = "transfusion", **training: Any) -> Run:
    """A run of twelve steps, validated, logged and saved at different ones."""
    settings = {
        **SETTINGS,
        "setting": setting,
        "arms": [arm],
        "baseline": arm,
        "data": DATA[setting],
        "training": {**TRAINING, **training},
    }
    if setting != "transfusion":
        settings["model"] = {**SETTINGS["model"], "z_loss": 1e-5}
    (run,) = runs_of(from_dict(StudyConfig, settings), folder)
    return run


class Interrupted(Exception):
    """What the machine does to a run."""


@contextmanager
def interrupted_at(batch: int) -> Iterator[None]:
    """Inside, training fails in the middle of this batch (0, 1, ..)."""
    losses = MultimodalModule.losses

    def failing(self: MultimodalModule, given: MultimodalBatch) -> Losses:
        if self.training and given.step == batch:
            raise Interrupted
        return losses(self, given)

    with mock.patch.object(MultimodalModule, "losses", failing):
        yield


@contextmanager
def fault_at(steps: tuple[int, ...], kind: str) -> Iterator[None]:
    """Inside, something goes wrong in these steps (1, 2, ..) of training.

    Args:
        steps: at which.
        kind: ``latents`` (a NaN in a sample), ``loss`` (a NaN in the text's), ``infinite`` (the
            same, infinite), ``gradient`` (infinite, under a loss as it should be), ``spike`` (a
            loss of 1e9 times the right one).
    """
    losses = MultimodalModule.losses

    def faulty(self: MultimodalModule, batch: MultimodalBatch) -> Losses:
        if not self.training or batch.step + 1 not in steps:
            return losses(self, batch)
        if kind == "latents":
            latents_NCHW = batch.latents_NCHW.clone()
            latents_NCHW[0, 0, 0, 0] = torch.nan
            return losses(self, replace(batch, latents_NCHW=latents_NCHW))
        found = losses(self, batch)
        if kind == "gradient":
            found.total.register_hook(lambda gradient: gradient * torch.inf)
            return found
        factor = {"loss": torch.nan, "infinite": torch.inf, "spike": 1e9}[kind]
        sums = {**found.sums, "text": found.sums["text"] * factor}
        return replace(found, sums=sums, total=found.total * factor)

    with mock.patch.object(MultimodalModule, "losses", faulty):
        yield


def train_with_a_fault(run: Run) -> None:
    """Train with a NaN in step 3. It stands here for worker processes, which import it by name."""
    with fault_at((3,), "loss"):
        train(run, None)
