"""A training step as `mot_lab.training.train` makes it, one at a time: by Lightning, with the
finite guard, the averaged weights and a log on disk."""

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from queue import Queue

import lightning as L
import torch

from mot_lab.batch import MultimodalBatch
from mot_lab.runtime.averaging import ExponentialMovingAverage
from mot_lab.runtime.finite_guard import FiniteGuard
from mot_lab.runtime.tracking import RunLogger
from mot_lab.training import Run


class TrainedStep:
    """Calls the Trainer for one step: it stands in a thread of its own and waits for batches.

    Args:
        run: whose arm is trained.
        steps: most that will be asked for; neither validation nor checkpoint falls into them.
        folder: of the log.
    """

    def __init__(self, run: Run, steps: int, folder: Path) -> None:
        self._given: Queue[MultimodalBatch] = Queue()
        self._wants: Queue[Exception | None] = Queue()
        self._steps = steps + 1  # one more, so that the last one asked for is waited for as well
        self._threads = torch.get_num_threads()
        thread = threading.Thread(target=self._train, args=(run, folder), daemon=True)
        thread.start()
        self._wait()

    def __call__(self, batch: MultimodalBatch) -> None:
        """Train on a batch."""
        self._given.put(batch)
        self._wait()

    def _wait(self) -> None:
        if (error := self._wants.get()) is not None:
            raise error

    def __len__(self) -> int:
        return self._steps

    def __iter__(self) -> Iterator[MultimodalBatch]:
        for step in range(self._steps):
            self._wants.put(None)  # the step before is over, all that follows it included
            yield replace(self._given.get(), step=step)

    def _train(self, run: Run, folder: Path) -> None:
        torch.set_num_threads(self._threads)
        settings = run.trainer_settings()
        settings |= {"max_steps": self._steps, "val_check_interval": None}
        try:
            trainer = L.Trainer(
                **settings,
                devices=1,
                limit_val_batches=0,
                logger=RunLogger(folder, run.config.name, run.arm, run.seed, {}),
                callbacks=[
                    ExponentialMovingAverage(run.study_arm.training.average_decay),
                    FiniteGuard(run.name),
                ],
                enable_checkpointing=False,
                enable_model_summary=False,
                enable_progress_bar=False,
                default_root_dir=folder,
            )
            trainer.fit(run.module(), self)
        except Exception as error:  # the caller is told, in whose thread somebody sees it
            self._wants.put(error)
