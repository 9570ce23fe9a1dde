"""A task that every worker of a pool has to take part in."""

import os
import time
from pathlib import Path

from mot_lab.runtime.gpus import VISIBLE


def seen_once_all_are_here(folder: Path, workers: int) -> str | None:
    """What this worker was given to see; returns when as many workers are at work on it."""
    (folder / str(os.getpid())).touch()
    while len(list(folder.iterdir())) < workers:
        time.sleep(0.02)
    return os.environ.get(VISIBLE)
