"""Prepared shards found whole: fetched where they lie elsewhere, held against their checksums."""

import json
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from filelock import FileLock
from rich.progress import track

from mot_lab.data.shards.manifest import MANIFEST, FileRecord, Manifest, sha256
from mot_lab.data.shards.place import LocalPlace, RemotePlace, place_of
from mot_lab.runtime.cache import cache_root, content_key
from mot_lab.runtime.files import write_json

THREADS = 8  # hashing and fetching wait for disks and networks
SOME = 1 << 28  # bytes from which progress is shown
MADE_ANEW = "remove its folder and run `mot-lab data prepare` again, which makes it anew"
FETCHED_ANEW = "remove it, and it is fetched again"


def read_manifest(url: str) -> Manifest:
    """The manifest of a prepared folder.

    Raises:
        ValueError: there is none.
    """
    content = place_of(url).read(MANIFEST)
    if content is None:
        raise ValueError(
            f"nothing whole is prepared at {url}, it has no {MANIFEST}: run `mot-lab data prepare "
            "CONFIG` with it, which goes on where it stopped"
        )
    return Manifest.read(content, f"{url}/{MANIFEST}")


def whole_shards(url: str, manifest: Manifest, below: str = "") -> Path:
    """The folder of this machine with everything that a manifest names, every file as it was
    written. What lies under a URL is fetched once, into the cache.

    A file is hashed once; after that, again when its size or its time of change is another.

    Args:
        url: of the prepared folder.
        manifest: of it.
        below: only the files whose path begins so.

    Raises:
        ValueError: a file is missing, cut short or altered; with its name.
        OSError: it could not be fetched.
    """
    place = place_of(url)
    files = {name: record for name, record in manifest.files() if name.startswith(below)}
    fetched = cache_root() / f"fetched-{manifest.digest}"
    root = place.root if isinstance(place, LocalPlace) else fetched
    # sizes and times of change of the files that were found as they were written
    stamps = cache_root() / "checked" / content_key([str(root.resolve()), manifest.digest])
    stamps.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(stamps.with_suffix(".lock")):  # processes that begin together do it once
        if isinstance(place, RemotePlace):
            _fetch(place, root, files)
        _check(root, files, stamps, FETCHED_ANEW if root == fetched else MADE_ANEW)
    return root


def _fetch(place: RemotePlace, root: Path, files: Mapping[str, FileRecord]) -> None:
    def fetch(name: str) -> None:
        target = root / name
        target.parent.mkdir(parents=True, exist_ok=True)
        beside = target.with_name(f".{target.name}.fetched")
        try:
            place.fetch(name, beside)
        except FileNotFoundError:
            raise ValueError(f"{name} is missing among the prepared shards: {MADE_ANEW}") from None
        beside.replace(target)

    missing = {
        name: record
        for name, record in files.items()
        if not (root / name).is_file() or (root / name).stat().st_size != record.size
    }
    _all(fetch, missing, "fetching prepared shards")


def _check(root: Path, files: Mapping[str, FileRecord], stamps: Path, mend: str) -> None:
    before: dict[str, Any] = json.loads(stamps.read_text()) if stamps.is_file() else {}
    states: dict[str, list[int]] = {}
    wanting: dict[str, FileRecord] = {}
    for name, record in files.items():
        path = root / name
        if not path.is_file():
            raise ValueError(f"{path} is missing: {mend}")
        state = path.stat()
        if state.st_size != record.size:
            raise ValueError(
                f"{path} has {state.st_size:,} bytes and was written with {record.size:,}: {mend}"
            )
        states[name] = [state.st_size, state.st_mtime_ns]
        if before.get(name) != states[name]:
            wanting[name] = record

    def check(name: str) -> None:
        if sha256(root / name) != wanting[name].sha256:
            raise ValueError(f"{root / name} is not as it was written: {mend}")

    _all(check, wanting, "checking prepared shards")
    if wanting:
        write_json(stamps, before | states)


def _all(work: Callable[[str], None], files: Mapping[str, FileRecord], what: str) -> None:
    """Do ``work`` with every file, several at a time, and say so where it takes long."""
    with ThreadPoolExecutor(THREADS) as pool:
        done: Iterable[None] = pool.map(work, files)
        if sum(record.size for record in files.values()) >= SOME:
            done = track(done, what, total=len(files))
        for _ in done:
            pass
