"""A content-addressed cache: what was prepared once is found again by the hash of what made it."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mot_lab.plain import plain


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
    name is always whole; when two processes build the same one, the first to finish is kept.
    """
    final = cache_root() / f"{kind}-{content_key(key)}"
    if final.exists():
        return final
    final.parent.mkdir(parents=True, exist_ok=True)
    building = Path(tempfile.mkdtemp(prefix=f".{final.name}-", dir=final.parent))
    try:
        build(building)
        building.rename(final)
    except OSError:
        if not final.exists():  # not a lost race: a real failure
            raise
    finally:
        shutil.rmtree(building, ignore_errors=True)
    return final
