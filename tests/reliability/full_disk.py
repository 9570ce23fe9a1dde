"""A disk that is full for real: a small file system in memory, or a limit on the size of files."""

import os
import resource
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from mot_lab.runtime.metrics_file import MetricsFile

BALLAST = "ballast"


@contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[str | None]:
    """Mounts a file system of this size on a folder; yields why that is not possible, if so."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={megabytes}m", "tmpfs", str(folder)]
    try:
        done = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError:
        yield "there is no mount command here"
        return
    if done.returncode:
        yield f"a small file system cannot be mounted: {done.stderr.strip()}"
        return
    try:
        yield None
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


def fill(disk: Path, left: int) -> None:
    """Fill a disk until ``left`` bytes are free; `free` makes room again."""
    with open(disk / BALLAST, "wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(65536))
    size = (disk / BALLAST).stat().st_size
    os.truncate(disk / BALLAST, max(0, size - left))


def free(disk: Path) -> None:
    """Make room again."""
    (disk / BALLAST).unlink()


def saying(said: Path, limit: int | None, task: Callable[..., None], *arguments: Any) -> None:
    """Do a task as the command line does it: an error of the machine is one line and code 1.

    Args:
        said: file for what the child prints on stderr.
        limit: bytes that a file may have; None without limit.
        task: to do.
        arguments: of the task.
    """
    from unittest import mock

    from mot_lab import cli

    with open(said, "w", buffering=1) as file:
        os.dup2(file.fileno(), 2)
    sys.stderr = os.fdopen(2, "w", buffering=1)
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))

    class Parser:
        def parse_known_args(self, _: Any) -> Any:
            task(*arguments)
            sys.exit(0)

    with mock.patch.object(cli, "_parser", Parser):
        cli.main([])


def append_lines(path: Path, count: int) -> None:
    """Log so many steps into a metrics file."""
    file = MetricsFile(path)
    for step in range(1, count + 1):
        file.append(step, {"train/text/loss": 1.0 / step}, time=0.0)
    file.close()
