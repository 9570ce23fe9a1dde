"""Files and folders that are whole or absent: written beside their name, then renamed."""

import errno
import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
# numpy, Rust libraries and sqlite say so without a number
SAID_FULL = re.compile(r"\d+ requested and \d+ written|os error (28|122|27)\b|disk is full")


def lacks_room(error: BaseException) -> str | None:
    """Why nothing more can be written, where that is what failed (a full disk, a quota, a limit on
    file sizes): the reason in words; None for every other error.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in FULL:
            return os.strerror(cause.errno)
        if SAID_FULL.search(str(cause)):
            return os.strerror(errno.ENOSPC)
        cause = cause.__cause__ or cause.__context__
    return None


def not_written(what: object, error: BaseException) -> OSError:
    """What to raise where something could not be written: it names it, says why and what to do."""
    reason = lacks_room(error)
    if reason is None:
        return OSError(f"could not write {what}: {error}")
    return OSError(
        f"could not write {what}: {reason}; make room there, and the same command goes on from here"
    )


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Open a binary file that gets the name ``path`` only once it is complete and on the disk.

    The bytes go to ``.<name>.tmp`` in the same folder (so the rename never crosses a file system).
    When the body raises, that file is removed and what stood under ``path`` before is untouched;
    what a killed process leaves behind is overwritten by the next write of the same name.

    Raises:
        OSError: there is no room for it; with its name.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.tmp")
    try:
        with open(beside, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except BaseException as error:
        beside.unlink(missing_ok=True)
        if lacks_room(error):
            raise not_written(path, error) from error
        raise
    _sync_folder(path.parent)


def require_new(path: Path) -> None:
    """ValueError where something stands already."""
    if path.exists():
        raise ValueError(f"{path} exists already: give a new folder, or remove it")


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """An empty folder that gets the name ``path`` only once the body has filled it.

    Raises:
        ValueError: something stands there already.
    """
    require_new(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{path.name}-", dir=path.parent))
    try:
        yield beside
        beside.chmod(0o755)  # mkdtemp's are for one user alone
        beside.rename(path)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON through :func:`atomic_file`."""
    with atomic_file(path) as file:
        file.write(json.dumps(value, indent=2).encode() + b"\n")


def _sync_folder(folder: Path) -> None:
    """Make a rename in ``folder`` survive a power cut (only POSIX can open a folder for that)."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
