"""The Lightning logger of one run: numbers go to the run's folder, and from there to MLflow behind
its back.

``metrics.jsonl`` is the truth. A thread reads it and keeps the tracker up to date; a slow tracker
delays the thread, a dead one ends in one line on stderr and a count, and ``sync_run`` sends the
rest later. Nothing that a tracker does reaches the training loop. (The stock ``MLFlowLogger``
raises into it, blocks it for minutes, and logs steps twice after a resume.)
"""

import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities.rank_zero import rank_zero_only

from mot_lab.parsing import root_cause
from mot_lab.runtime.metrics_file import MetricsFile
from mot_lab.runtime.run_folder import RunFolder, RunRecord
from mot_lab.runtime.signals import stop_code

if TYPE_CHECKING:
    from mot_lab.runtime.sending import RunSender

SEND_EVERY_SECONDS = 5.0
LONGEST_PAUSE_SECONDS = 60.0
HURRIED_PATIENCE = 0.5  # seconds


class RunLogger(Logger):
    """Logs one run of a study.

    Args:
        run_dir: the run's folder; a folder that holds this run already is gone on with.
        study, arm, seed: the run's identity; its name in the tracker is ``<arm>-seed<seed>``.
        config: the run's configuration as plain nested dicts, kept as ``config.yaml``.
        tracking_uri: MLflow's address; None logs to the folder only.
        patience: seconds that the end of training waits for the tracker at most.

    Raises:
        ValueError: the folder holds another run, or this one under another configuration.
    """

    def __init__(
        self,
        run_dir: str | Path,
        study: str,
        arm: str,
        seed: int,
        config: dict[str, Any],
        tracking_uri: str | None = None,
        patience: float = 15.0,
    ) -> None:
        super().__init__()
        self.folder = RunFolder(run_dir)
        self.record = RunRecord(study, arm, seed)
        self.tracking_uri = tracking_uri
        self.patience = patience
        self._metrics = MetricsFile(self.folder.metrics_path)
        self._forwarder: _Forwarder | None = None
        self._begin(config)

    @property
    def name(self) -> str:
        return self.record.study

    @property
    def version(self) -> str:
        return self.record.name

    @property
    def save_dir(self) -> str:
        return str(self.folder.path)

    @property
    def tracking_errors(self) -> int:
        """How often sending to the tracker failed, over the whole run."""
        return self.record.tracking_errors + (self._forwarder.errors if self._forwarder else 0)

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, float], step: int | None = None) -> None:
        """Lightning's entry.

        Lightning counts batches from 0, the file finished optimiser steps, so 1 is added. Its
        ``epoch`` says nothing in a run of one epoch and is dropped.
        """
        if step is None:
            raise ValueError("log_metrics needs a step")
        self.write({name: value for name, value in metrics.items() if name != "epoch"}, step + 1)

    @rank_zero_only
    def write(self, metrics: Mapping[str, float], step: int) -> None:
        """Log values after ``step`` finished optimiser steps. A metric has one value per step."""
        if metrics:
            self._metrics.append(step, metrics, time.time())
            self._start_forwarding()

    @rank_zero_only
    def log_hyperparams(self, params: Any, *args: Any, **kwargs: Any) -> None:
        """Nothing: the run's configuration was given when the logger was made."""

    @rank_zero_only
    def rewind(self, step: int) -> None:
        """Forget what was logged beyond ``step``, because training goes on from there."""
        self._stop_forwarding()
        self._metrics.rewind(step)
        if step > 0:
            self.record.resumed_at.append(step)
        self.record.status = "running"
        self.folder.save_record(self.record)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Lightning's last call. Waits ``patience`` seconds for the tracker at most; where the
        process was asked to end, hardly: going on sends the rest.
        """
        asked = stop_code() is not None
        bad = "interrupted" if asked else "failed"
        self.record.status = "finished" if status == "success" else bad
        self._metrics.close()
        try:
            self.folder.save_record(self.record)
        except OSError:
            if status == "success":
                raise
            return  # what made training fail is what is to be said, a full disk say
        if asked:
            self.patience = min(self.patience, HURRIED_PATIENCE)
        else:
            self._start_forwarding()  # there may be nothing new but the status
        self._stop_forwarding()
        self.folder.save_record(self.record)

    @rank_zero_only
    def _begin(self, config: dict[str, Any]) -> None:
        self.record = self.folder.begin(self.record, config)

    def _start_forwarding(self) -> None:
        if self.tracking_uri is not None and self._forwarder is None:
            self._forwarder = _Forwarder(self.folder, self.tracking_uri)
            self._forwarder.start()

    def _stop_forwarding(self) -> None:
        if self._forwarder is not None:
            self._forwarder.finish(self.patience)
            self.record.tracking_errors += self._forwarder.errors
            self._forwarder = None


class _Forwarder(threading.Thread):
    """Sends a run's folder every few seconds until told to finish; survives everything a tracker
    does.

    A daemon: when a call to the tracker hangs, the process ends without it.
    """

    def __init__(self, folder: RunFolder, tracking_uri: str) -> None:
        super().__init__(name=f"tracking-{folder.path.name}", daemon=True)
        self.folder = folder
        self.tracking_uri = tracking_uri
        self.errors = 0
        self._finishing = threading.Event()
        self._done = False
        self._sender: RunSender | None = None

    def run(self) -> None:
        pause = 0.0
        while not self._done:
            finishing = self._finishing.wait(pause)
            try:
                self._send_once()
                pause = SEND_EVERY_SECONDS
                self._done = finishing
            except Exception as error:  # whatever a tracker raises, training goes on
                self._note(error)
                pause = min(2 * pause + 1, LONGEST_PAUSE_SECONDS)
                if finishing:
                    break
        if self._sender is not None:
            self._sender.__exit__()

    def finish(self, patience: float) -> None:
        """Ask for a last sending, and wait for it, but not for ever: a tracker that takes 10 s an
        answer would hold the process for minutes.
        """
        self._finishing.set()
        self.join(patience)
        if not self._done:
            _say(
                f"{self.folder.path}: the tracker {self.tracking_uri} lacks the end of this run; "
                f"everything is in {self.folder.metrics_path.name}: mot-lab sync "
                f"{self.folder.path.parent} --tracking-uri {self.tracking_uri} sends it"
            )

    def _send_once(self) -> None:
        from mot_lab.runtime.sending import (
            RunSender,
        )  # MLflow takes seconds to import: here, not in training

        if self._sender is None:
            self._sender = RunSender(self.folder, self.tracking_uri).__enter__()
        self._sender.send()

    def _note(self, error: Exception) -> None:
        self.errors += 1
        if self.errors == 1:
            _say(f"tracking: {self.tracking_uri} failed ({root_cause(error)}); training goes on")


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
