"""Sources of documents in memory: what `open_source` gives, without files to read them from."""

import io
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from picture_files import blobs
from PIL import Image

from mot_lab.data.prepare import DataConfig
from mot_lab.data.shards.writing import write_shards
from mot_lab.data.sources.config import SourceConfig
from mot_lab.data.sources.raw import RawDocument, RawPicture, RawText, RawUnits, Skipped
from mot_lab.parsing import from_dict

Record = RawDocument | Skipped
WORDS = [
    "a",
    "the",
    "red",
    "blue",
    "green",
    "fish",
    "cat",
    "house",
    "tree",
    "small",
    "large",
    "on",
    "under",
    "beside",
    "of",
    "and",
    "with",
]


class FakeSource:
    """Records by part.

    Attributes:
        reads: parts that were read, in their order.
    """

    def __init__(self, records: Mapping[str, Sequence[Record]]) -> None:
        self.records, self.reads = dict(records), []

    def parts(self) -> list[str]:
        return list(self.records)

    def read(self, part: str) -> Iterator[Record]:
        self.reads.append(part)
        yield from self.records[part]

    def fingerprint(self) -> str:
        names = [[each.name for each in records] for records in self.records.values()]
        return f"{zlib.crc32(repr(names).encode()):016x}"


def open_fakes(
    monkeypatch: pytest.MonkeyPatch, sources: Mapping[str, Mapping[str, FakeSource]]
) -> None:
    """Give these sources, by path and split, in the place of files."""

    def open_source(config: SourceConfig, split: str) -> FakeSource:
        return sources[config.path].get(split) or FakeSource({})

    monkeypatch.setattr("mot_lab.data.shards.writing.open_source", open_source)


def sentence(rng: np.random.Generator, least: int = 3, most: int = 9) -> str:
    """Some words."""
    return " ".join(rng.choice(WORDS, int(rng.integers(least, most + 1))))


def png(picture_HWC: np.ndarray, format: str = "PNG") -> bytes:
    """A picture as the bytes of a file."""
    file = io.BytesIO()
    Image.fromarray(picture_HWC).save(file, format)
    return file.getvalue()


def pair(name: str, seed: int, captions: int = 2, size: int = 12) -> RawDocument:
    """A picture, as a file, with some captions."""
    rng = np.random.default_rng(seed)
    texts = tuple(RawText(sentence(rng)) for _ in range(captions))
    return RawDocument(name, "pairs", (RawPicture(png(blobs(1, seed, size)[0])), *texts))


def text(name: str, seed: int, least: int = 20, most: int = 60) -> RawDocument:
    """A text of so many words."""
    rng = np.random.default_rng(seed)
    return RawDocument(name, "text", (RawText(sentence(rng, least, most)),))


def speech(name: str, seed: int, units: int = 16) -> RawDocument:
    """Units with a transcript."""
    rng = np.random.default_rng(seed)
    said = RawUnits(rng.integers(0, units, int(rng.integers(4, 12))))
    return RawDocument(name, "speech", (said, RawText(sentence(rng, 2, 4))))


def interleaved(name: str, seed: int, texts: int = 3) -> RawDocument:
    """Texts with a picture behind each."""
    rng = np.random.default_rng(seed)
    segments: list[Any] = []
    for number in range(texts):
        segments.append(RawText(sentence(rng)))
        segments.append(RawPicture(blobs(1, seed + number, 12)[0]))
    return RawDocument(name, "interleaved", tuple(segments))


def split_in_parts(make: Any, counts: Mapping[str, Sequence[int]]) -> dict[str, FakeSource]:
    """A source by split: of each part its number of documents."""
    sources, seed = {}, 0
    for split, sizes in counts.items():
        parts = {}
        for part, size in enumerate(sizes):
            parts[f"part{part}"] = [make(f"{split} {seed + i}", seed + i) for i in range(size)]
            seed += size
        sources[split] = FakeSource(parts)
    return sources


# Settings of data that reads the sources called so.
OWN: dict[str, Any] = {
    "scenes": {"canvas": 8},
    "text": {"vocab_size": 300},
    "image": {"kind": "pixels"},
    "patch": 4,
    "row_length": 64,
    "rows": 4,
    "val_rows": 8,
    "latents": "float32",
}


SOURCES = [
    {"kind": "webdataset", "path": "pairs", "weight": 3},
    {"kind": "text", "path": "texts", "weight": 2},
    {"kind": "interleaved", "path": "pages", "weight": 1},
]


def fakes() -> dict[str, dict[str, FakeSource]]:
    """Sources by path and split; the pages have no test split."""
    return {
        "pairs": split_in_parts(pair, {"train": [7, 0, 9], "val": [6], "test": [9, 3]}),
        "texts": split_in_parts(text, {"train": [5, 6], "val": [4], "test": [4]}),
        "pages": split_in_parts(interleaved, {"train": [4], "val": [2]}),
    }


def config_of(folder: Path | None, **changes: Any) -> DataConfig:
    """The data of these sources, prepared in a folder."""
    prepared = None if folder is None else str(folder)
    return from_dict(DataConfig, {**OWN, "sources": SOURCES, "prepared": prepared, **changes})


def prepare_fakes(folder: Path) -> None:
    """Turn these sources into shards, their tokenizers in a cache beside the folder."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MOT_LAB_CACHE", str(folder.parent / "cache"))
        open_fakes(patch, fakes())
        write_shards(config_of(folder), str(folder), 1)
