"""Checkpoints that are never torn and from which training goes on exactly.

Lightning's own save can leave half a file under the final name (it writes to the system's temporary
folder and moves across file systems), and its ``ModelCheckpoint`` saves before the step's metrics
are logged and before the validation that is due; a run that resumes there loses both. Here a file
appears whole or not at all, and it is written when everything that belongs to a step is done.
"""

import pickle
import shutil
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.plugins.io import TorchCheckpointIO

from mot_lab.distributed.ranks import largest
from mot_lab.distributed.sharded_checkpoint import is_sharded, load_whole
from mot_lab.parsing import one_line
from mot_lab.runtime.files import atomic_file, not_written
from mot_lab.runtime.signals import Stopped, begin_steps, end_steps, stop_code

TRAINING_STATE = ("callbacks", "optimizer_states", "lr_schedulers", "global_step", "epoch")


class AtomicCheckpointIO(TorchCheckpointIO):
    """Lightning plugin: local checkpoints appear whole, and are loaded as plain data."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any = None
    ) -> None:
        if storage_options is not None:
            raise ValueError(f"storage_options={storage_options!r}: checkpoints are local files")
        target = _local(path)
        sharded = is_sharded(target)  # of another strategy: it is replaced at the very end
        try:
            whole = target.with_name(f"{target.name}.whole") if sharded else target
            with atomic_file(whole) as file:
                torch.save(checkpoint, file)
            if sharded:
                shutil.rmtree(target)
                whole.rename(target)
        except (OSError, RuntimeError) as error:  # torch.save turns a full disk into RuntimeError
            said = not_written(f"the checkpoint {target}", error)
            raise OSError(f"{said}. An earlier one under this name is whole.") from error

    def load_checkpoint(
        self, path: Any, map_location: Any = "cpu", weights_only: bool | None = None
    ) -> dict[str, Any]:
        if weights_only is False:
            raise ValueError("checkpoints are only ever loaded with weights_only=True")
        checkpoint = load_checkpoint(_local(path), map_location)
        for part in TRAINING_STATE:  # Lightning goes on without some of them, and says nothing
            if part not in checkpoint:
                raise ValueError(f"training cannot go on from {path}: it has no {part}")
        return checkpoint


def load_checkpoint(path: str | Path, map_location: Any = "cpu") -> dict[str, Any]:
    """A training checkpoint as plain tensors and containers; nothing in the file is executed.

    Raises:
        ValueError: there is no such file, it is not whole, or it holds more than plain data.
    """
    path = Path(path)
    sharded = is_sharded(path)
    if not sharded and not path.is_file():
        raise ValueError(f"there is no checkpoint {path}")
    try:
        if sharded:
            checkpoint = load_whole(path)
        else:
            checkpoint = torch.load(path, map_location=map_location, weights_only=True)
    except pickle.UnpicklingError as error:
        reason = str(error).splitlines()[0]
        raise ValueError(
            f"{path} is refused: it is cut short or holds more than plain data ({reason})"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise ValueError(f"{path} is not a whole checkpoint: {error}") from error
    if (
        not isinstance(checkpoint, dict)
        or "state_dict" not in checkpoint
        or "loops" not in checkpoint
    ):
        raise ValueError(
            f"{path} is not a training checkpoint: it has no weights or no training state"
        )
    return checkpoint


class StepCheckpoint(Checkpoint):
    """Saves to one file at step boundaries; training goes on from it as if never interrupted.

    A boundary is the moment before the next batch's forward pass: the step's metrics are logged and
    the validation that fell due is done. Needs the whole run in one epoch (``StepSampler``) and
    ``check_val_every_n_epoch=None``. When training starts, the metrics beyond its first step are
    forgotten by every logger that can ``rewind``. A process that is asked to end
    (`mot_lab.runtime.signals`) does so here, at the next boundary.

    Args:
        path: the file, replaced at each save.
        every_n_steps: optimiser steps between two saves; the last step is always saved.
    """

    def __init__(self, path: str | Path, every_n_steps: int) -> None:
        if every_n_steps < 1:
            raise ValueError(f"every_n_steps must be at least 1, not {every_n_steps}")
        self.path = Path(path)
        self.every_n_steps = every_n_steps
        self.saved_step = 0
        self.begun = False

    @contextmanager
    def taken_up(self) -> Iterator[None]:
        """Inside, a trainer that cannot go on from the file says so, and leaves it as it is.

        Raises:
            ValueError: an error before training begins, of the kinds that plain data of another
                layout or shape make Lightning stumble over.
        """
        self.begun = False
        try:
            yield
        except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError) as error:
            if self.begun:
                raise
            what = f"{type(error).__name__}: {one_line(error)}"
            raise ValueError(
                f"training cannot go on from {self.path} ({what}); move it away to train anew"
            ) from error

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.max_steps < 1:
            raise ValueError(f"max_steps={trainer.max_steps}: set the number of optimiser steps")
        needed = trainer.max_steps * trainer.accumulate_grad_batches
        if trainer.num_training_batches < needed:
            raise ValueError(
                f"max_steps={trainer.max_steps} needs {needed} batches in one epoch, the loader "
                f"has {trainer.num_training_batches}: give it a StepSampler with steps={needed}"
            )
        # the StepSampler does what Lightning asks of the loader here
        warnings.filterwarnings("ignore", message=".*your dataloader is not resumable")
        self.saved_step = trainer.global_step
        for logger in trainer.loggers:
            if hasattr(logger, "rewind"):
                logger.rewind(trainer.global_step)
        self.begun = True
        begin_steps()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if batch_idx % trainer.accumulate_grad_batches:
            return
        asked = largest(stop_code() or 0)  # of any process: all end after the same step
        if asked or trainer.global_step % self.every_n_steps == 0:
            self.save(trainer)
        if asked:
            raise Stopped(asked)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.save(trainer)
        end_steps()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        end_steps()

    def save(self, trainer: Trainer) -> None:
        """Write the checkpoint of the step just finished, unless it is written already."""
        if trainer.global_step > self.saved_step:
            trainer.save_checkpoint(self.path)
            self.saved_step = trainer.global_step

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        # Training may go on with more or fewer batches in a step than it was saved with.
        steps, each = checkpoint["global_step"], trainer.accumulate_grad_batches
        _at_boundary(checkpoint["loops"]["fit_loop"], steps * each, steps)

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        batches = trainer.fit_loop.epoch_loop.batch_progress.current.completed
        steps, each = trainer.global_step, trainer.accumulate_grad_batches
        if batches != steps * each:
            raise ValueError(
                f"a checkpoint after {batches} batches, in the middle of step {steps + 1} (batches "
                f"of a step: {each}), could not be gone on from exactly: StepCheckpoint saves "
                "between two steps"
            )
        _at_boundary(checkpoint["loops"]["fit_loop"], batches, checkpoint["global_step"])


def _at_boundary(fit_loop: dict[str, Any], batches: int, step: int) -> None:
    """Set Lightning's counters to the state it resumes from exactly: the end of the last batch.

    Between two batches its counters have already begun the next one, and a resume from them would
    log and validate one step off. In the state written here, "at on_train_batch_end", it neither
    repeats nor drops anything: a validation due at this step counts as done, and it is.
    """
    progress = fit_loop["epoch_loop.batch_progress"]
    for counter in (progress["total"], progress["current"]):
        counter.update(ready=batches, started=batches, processed=batches, completed=batches - 1)
    progress["is_last_batch"] = False
    for counter in (fit_loop["epoch_progress"]["total"], fit_loop["epoch_progress"]["current"]):
        counter.update(ready=1, started=1, processed=0, completed=0)
    fit_loop["epoch_loop.state_dict"]["_batches_that_stepped"] = step - 1


def _local(path: Any) -> Path:
    if "://" in str(path):
        raise ValueError(f"{path}: checkpoints are local files; copy it to this machine first")
    return Path(path)
