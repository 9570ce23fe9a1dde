"""Tasks for children that are killed while they write: on a disk so slow that a kill hits."""

import io
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

from reliability.processes import CODES, TINY_SCENES, prepare_data, train_one

from mot_lab.runtime import files
from mot_lab.runtime.mlflow_store import StudyTracker, default_tracking_uri

PAUSE = 0.002  # seconds a block
BLOCK = 4096


class SlowFile(io.FileIO):
    """Takes one block at a time."""

    def write(self, data: Any) -> int:
        time.sleep(PAUSE)
        return super().write(memoryview(data)[:BLOCK])


def with_temporary_folder(folder: str | None, task: Callable[..., None], *arguments: Any) -> None:
    """Do a task with TMPDIR set, where there is a folder for it."""
    if folder is not None:
        os.environ["TMPDIR"] = folder
        tempfile.tempdir = None
    task(*arguments)


def slowly(task: Callable[..., None], *arguments: Any) -> None:
    """Do a task while all files that are written whole are written slowly."""
    sync = os.fsync

    def slow_sync(descriptor: int) -> None:
        time.sleep(10 * PAUSE)
        sync(descriptor)

    def slow_open(path: Path, mode: str) -> io.BufferedWriter:
        return io.BufferedWriter(SlowFile(path, mode.replace("b", "")), BLOCK)

    with (
        mock.patch.object(files, "open", slow_open, create=True),
        mock.patch.object(os, "fsync", slow_sync),
    ):
        task(*arguments)


def train_slowly(folder: Path, training: dict[str, Any]) -> None:
    slowly(train_one, folder, 0, training)


def fit_tokenizer(folder: Path) -> None:
    """Fit the codes of the tiny study's pictures, and save them as `mot-lab tokenizer fit` does."""
    from mot_lab.data.prepare import DataConfig
    from mot_lab.data.scenes import SceneSource
    from mot_lab.data.tokenizers import load_images
    from mot_lab.parsing import from_dict
    from mot_lab.runtime.files import whole_folder

    os.environ["MOT_LAB_CACHE"] = str(folder / "cache")
    config = from_dict(DataConfig, {**TINY_SCENES, "image": CODES})
    tokenizer = load_images(config, SceneSource(config.scenes))
    with whole_folder(folder / "out") as building:
        tokenizer.save(building)


def build_cache(folder: Path) -> None:
    prepare_data(folder)


def write_report(uri: str, out: Path) -> None:
    """The report of a study of three arms, slowly written."""
    from evaluation.report.build import build_report

    slowly(build_report, uri, "synthetic", out)


def make_store(folder: Path) -> None:
    """The tracking store of a study."""
    _ = StudyTracker("small", default_tracking_uri(folder)).run_id


def plain_report(uri: str, out: Path) -> None:
    """The report of the synthetic study, as fast as it can be written."""
    from evaluation.report.build import build_report

    build_report(uri, "synthetic", out)
