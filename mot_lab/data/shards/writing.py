"""Sources turned into shards: part by part, several at once, going on where it stopped."""

import json
import os
from collections import deque
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from multiprocessing import parent_process
from pathlib import Path
from shutil import copytree
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
from filelock import FileLock, Timeout
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from mot_lab.data.recordings import Split
from mot_lab.data.shards.checking import read_manifest
from mot_lab.data.shards.encoding import Counts, Tokenizers, encoded
from mot_lab.data.shards.manifest import (
    MANIFEST,
    PART,
    PREPARING,
    SPLITS,
    TOKENIZERS,
    FileRecord,
    Manifest,
    PartRecord,
    file_records,
    part_of,
)
from mot_lab.data.shards.part import PartWriter
from mot_lab.data.shards.place import LocalPlace, RemotePlace, place_of
from mot_lab.data.shards.settings import require_same, require_usable, shard_settings
from mot_lab.data.shards.tokenizers import fitted_tokenizers, kept_tokenizers, save_tokenizers
from mot_lab.data.sources.config import open_source
from mot_lab.data.sources.raw import Source
from mot_lab.runtime.cache import cache_root, content_key
from mot_lab.runtime.files import lacks_room, not_written
from mot_lab.runtime.plain_files import laid_out, parse_json
from mot_lab.runtime.workers import threads_each, worker_pool

if TYPE_CHECKING:
    from mot_lab.data.prepare import DataConfig


AHEAD = 2  # parts that another process is given at a time, so that it never waits for this one


@dataclass(frozen=True)
class _Job:
    """A part to be written, in whichever process.

    Attributes:
        config: of the data.
        source, split, part: what is read.
        url, folder: where it is written.
        tokenizers: folder of this machine that they are loaded from.
    """

    config: "DataConfig"
    source: int
    split: Split
    part: str
    url: str
    folder: str
    tokenizers: Path


def write_shards(config: "DataConfig", url: str, processes: int) -> Manifest:
    """Turn the sources of a configuration into shards; parts that are there already are kept.

    Args:
        config: with sources.
        url: folder or URL that they are written to.
        processes: that read parts side by side; 1 is this one.

    Raises:
        ValueError: nothing at a source's path, too many records that cannot be used, no documents
            in a split, or what is there already was made of something else.
        OSError: it cannot be written.
    """
    place = place_of(url)
    if isinstance(place, RemotePlace):
        return _write(config, url, place, processes)
    place.root.mkdir(parents=True, exist_ok=True)
    lock = FileLock(place.root / ".lock")
    try:
        with lock.acquire(timeout=0):
            place.remove_abandoned()
            return _write(config, url, place, processes)
    except Timeout:
        raise ValueError(f"{url} is being prepared by another process: wait for it") from None


def cached_shards(config: "DataConfig", processes: int) -> tuple[str, Manifest]:
    """The shards of a configuration in the cache, written by some processes where they are missing.

    Returns:
        Their folder, and what they are.
    """
    opened = _opened(config)
    key = _begun(config, opened, fitted_tokenizers(config, opened["train"]))
    folder = cache_root() / f"prepared-{content_key(key)}"
    if not (folder / MANIFEST).is_file():
        write_shards(config, str(folder), processes)
    return str(folder), read_manifest(str(folder))


def _write(
    config: "DataConfig", url: str, place: LocalPlace | RemotePlace, processes: int
) -> Manifest:
    opened = _opened(config)
    tokenizers = fitted_tokenizers(config, opened["train"])
    begun = _begun(config, opened, tokenizers)
    _begin(place, url, begun)
    with TemporaryDirectory(prefix="mot-lab-") as folder:
        save_tokenizers(tokenizers, Path(folder))
        jobs = list(_jobs(config, opened, url, Path(folder)))
        parts = _written(jobs, place, processes)
        files = _publish(place, Path(folder))
    by_split: dict[str, list[list[PartRecord]]] = {
        split: [
            [parts[job.folder] for job in jobs if (job.split, job.source) == (split, number)]
            for number in range(len(config.sources))
        ]
        for split in SPLITS
    }
    manifest = Manifest(
        **begun,
        weights=[each.weight for each in config.sources],
        parts=by_split,
        tokenizer_files=files,
    )
    require_usable(config, manifest)
    place.write(MANIFEST, manifest.to_bytes())
    return read_manifest(url)


def _opened(config: "DataConfig") -> dict[Split, list[Source]]:
    """Every source, by split."""
    opened = {split: [open_source(each, split) for each in config.sources] for split in SPLITS}
    for each, source in zip(config.sources, opened["train"], strict=True):
        if not source.parts():
            raise ValueError(f"source {each.kind} {each.path} has nothing to train on")
    return opened


def _begun(
    config: "DataConfig", opened: dict[Split, list[Source]], tokenizers: Tokenizers
) -> dict[str, Any]:
    """All that shards depend on, the content of sources and tokenizers included."""
    return {
        "settings": shard_settings(config),
        "tokenizers": tokenizers.fingerprints(),
        "fingerprints": [
            {split: opened[split][number].fingerprint() for split in SPLITS}
            for number in range(len(config.sources))
        ],
    }


def _begin(place: LocalPlace | RemotePlace, url: str, begun: dict[str, Any]) -> None:
    """Say what will be there, or see that what is there was made of the same."""
    before = place.read(PREPARING)
    if before is None:
        place.write(PREPARING, json.dumps(begun, indent=1).encode() + b"\n")
        return
    require_same(parse_json(before.decode(), f"{url}/{PREPARING}"), begun, url)


def _jobs(
    config: "DataConfig", opened: dict[Split, list[Source]], url: str, tokenizers: Path
) -> Iterator[_Job]:
    for split, sources in opened.items():
        for number, source in enumerate(sources):
            folder = f"{split}/{number:02}-{config.sources[number].kind}"
            for place, part in enumerate(source.parts()):
                yield _Job(config, number, split, part, url, f"{folder}/{place:05}", tokenizers)


def _written(
    jobs: list[_Job], place: LocalPlace | RemotePlace, processes: int
) -> dict[str, PartRecord]:
    """Every part's record, by its folder; those that are not there yet are written."""
    parts = {}
    for job in jobs:
        if (content := place.read(f"{job.folder}/{PART}")) is not None:
            where = f"{job.url}/{job.folder}/{PART}"
            with laid_out(where):
                parts[job.folder] = part_of(parse_json(content.decode(), where))
    wanting = [job for job in jobs if job.folder not in parts]
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeRemainingColumn()) as progress:
        task = progress.add_task("preparing parts", total=len(jobs), completed=len(parts))
        documents = sum(each.documents for each in parts.values())
        for record in _records(wanting, processes):
            parts[record.folder] = record
            documents += record.documents
            progress.update(task, advance=1, description=f"{documents:,} documents, parts")
    return parts


def _records(jobs: list[_Job], processes: int) -> Iterator[PartRecord]:
    """Parts as they are done. This process is one of them: it has imported everything already,
    while others take seconds for it.
    """
    waiting = deque(jobs)
    running: set[Future[PartRecord]] = set()
    others = max(0, min(processes, len(jobs)) - 1)
    before = torch.get_num_threads()
    torch.set_num_threads(threads_each(others + 1))
    pool = worker_pool(others) if others else None
    try:
        while waiting or running:
            while pool is not None and waiting and len(running) < AHEAD * others:
                running.add(pool.submit(_write_part, waiting.popleft()))
            if waiting:
                yield _write_part(waiting.popleft())
            done, running = wait(running, 0 if waiting else None, FIRST_COMPLETED)
            yield from (future.result() for future in done)
    finally:
        torch.set_num_threads(before)
        if pool is not None:
            pool.shutdown(cancel_futures=True)


def _write_part(job: _Job) -> PartRecord:
    tokenizers = _tokenizers(job)
    source = _source(job)
    try:
        with place_of(job.url).folder(job.folder) as folder:
            counts = Counts()
            writer = PartWriter(folder, tokenizers, job.config.latents, pixels=job.split == "test")
            for document in encoded(source.read(job.part), tokenizers, counts):
                writer.add(document)
            return writer.close(job.folder, counts)
    except OSError as error:
        if lacks_room(error):
            raise not_written(f"{job.url}/{job.folder}", error) from error
        raise


def _publish(place: LocalPlace | RemotePlace, tokenizers: Path) -> dict[str, FileRecord]:
    """Keep the tokenizers beside the shards."""
    with place.folder(TOKENIZERS) as folder:
        copytree(tokenizers, folder, dirs_exist_ok=True)
        return file_records(folder)


_loaded: dict[Path, Tokenizers] = {}  # of this process


def _tokenizers(job: _Job) -> Tokenizers:
    if job.tokenizers not in _loaded:
        if parent_process() is not None:  # the processes share out the cores among them already
            os.environ["TOKENIZERS_PARALLELISM"] = "false"
        _loaded.clear()
        _loaded[job.tokenizers] = kept_tokenizers(job.config, job.tokenizers)
    return _loaded[job.tokenizers]


_sources: dict[tuple[Path, int, str], Source] = {}  # of this process


def _source(job: _Job) -> Source:
    """The source of a part, opened once: annotations of a million pictures take their time."""
    key = job.tokenizers, job.source, job.split  # their folder is another one in every call
    if key not in _sources:
        _sources.clear()
        _sources[key] = open_source(job.config.sources[job.source], job.split)
    return _sources[key]
