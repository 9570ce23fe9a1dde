"""A content-addressed cache: what was prepared once is found again by the hash of what made it."""

import glob
import hashlib
import json
import os
import platform
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from mot_lab.plain import plain
from mot_lab.runtime.files import lacks_room, not_written, write_json

CHECKSUMS = "checksums.json"
FORMAT = 2  # of a cached folder; 1 had no checksums

_checked: set[Path] = set()


def folders_used() -> list[Path]:
    """Folders of the cache that this process has built or found."""
    return sorted(_checked)


def cache_root() -> Path:
    """Folder of all prepared data: ``$MOT_LAB_CACHE``, or ``.cache/mot-lab`` where one stands."""
    return Path(os.environ.get("MOT_LAB_CACHE", ".cache/mot-lab"))


def content_key(key: Any) -> str:
    """Hash of plain values and dataclasses, the same on every machine (16 hex digits).

    Raises:
        TypeError: the key holds something else.
    """
    text = json.dumps(plain(key), sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def cached(kind: str, key: Any, build: Callable[[Path], None]) -> Path:
    """The folder ``<root>/<kind>-<hash of key>``, built by ``build(folder)`` where it is missing.

    The folder is filled beside its final name and renamed in one step, so a folder under a final
    name is always whole; when two processes build the same one, the first to finish is kept. Its
    files are checked against their checksums once per process (0.1 s for 100 MB). What killed
    processes left behind half built is removed.

    Raises:
        ValueError: a file is not as it was written.
        OSError: the folder cannot be written: the disk is full, say.
    """
    final = cache_root() / f"{kind}-{content_key({'format': FORMAT, 'key': key})}"
    if not final.exists():
        _build(final, build)
    if final not in _checked:
        _check(final)
        _checked.add(final)
    return final


def _build(final: Path, build: Callable[[Path], None]) -> None:
    final.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(final)
    building = Path(tempfile.mkdtemp(prefix=f"{_beside(final)}{os.getpid()}-", dir=final.parent))
    try:
        build(building)
        write_json(building / CHECKSUMS, _checksums(building))
        building.rename(final)
    except Exception as error:  # libraries raise whatever they like of a full disk
        if lacks_room(error):
            raise not_written(final, error) from error
        if not isinstance(error, OSError):
            raise
        if not final.exists():  # not a lost race: a real failure
            raise OSError(f"could not prepare {final}: {error}; nothing is left of it") from error
    finally:
        shutil.rmtree(building, ignore_errors=True)


def _checksums(folder: Path) -> dict[str, str]:
    """SHA-256 of every file below a folder, by its relative path."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.name != CHECKSUMS:
            with open(path, "rb") as file:
                found[path.relative_to(folder).as_posix()] = hashlib.file_digest(
                    file, "sha256"
                ).hexdigest()
    return found


def _check(folder: Path) -> None:
    mend = f"remove the folder {folder}, and it is made again"
    try:
        wanted = json.loads((folder / CHECKSUMS).read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"{folder / CHECKSUMS} cannot be read ({error}): {mend}") from None
    found = _checksums(folder)
    if found != wanted:
        name = min(n for n in {*found, *wanted} if found.get(n) != wanted.get(n))
        raise ValueError(f"{folder / name} is not as it was written: {mend}")


def _beside(final: Path) -> str:
    """How the names of folders begin that this machine's processes fill for a final name."""
    return f".{final.name}-{platform.node()}-"


def _remove_abandoned(final: Path) -> None:
    """Remove what processes of this machine that are gone left half built under this name."""
    for path in final.parent.glob(f"{glob.escape(_beside(final))}*"):
        process = int(path.name.removeprefix(_beside(final)).split("-")[0])
        if not psutil.pid_exists(process):
            shutil.rmtree(path, ignore_errors=True)
