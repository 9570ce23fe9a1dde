"""What a folder of prepared shards says of itself: what it was made of, its parts, their checksums.

preparing.json                    what the shards depend on; stands there from the beginning
tokenizers/                       what the tokens are of
train/00-webdataset/00000/*.npy   a part of a source, with its record in part.json
manifest.json                     all of it; written last, so that with it the folder is whole
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mot_lab.data.recordings import Split
from mot_lab.parsing import from_dict, shown
from mot_lab.plain import plain
from mot_lab.runtime.plain_files import laid_out, parse_json

FORMAT = 1
PREPARING, MANIFEST, PART, TOKENIZERS = (
    "preparing.json",
    "manifest.json",
    "part.json",
    "tokenizers",
)
SPLITS: tuple[Split, ...] = ("train", "val", "test")
MOST_REASONS, MOST_EXAMPLES = 20, 3  # of a part
INSIDE = re.compile(r"(?!.*\.\.)\w[\w.-]*(/\w[\w.-]*)*")  # a path that stays below the root


@dataclass(frozen=True)
class FileRecord:
    """A file as it was written."""

    sha256: str
    size: int


@dataclass(frozen=True)
class PartRecord:
    """One part of a source's split.

    Attributes:
        folder: of its arrays, below the root.
        kinds: how many documents of each kind there are.
        pictures: how many there are.
        tokens, units: of all texts, and of all speech.
        skipped: how many records could not be used, by reason.
        left_out: how many were not meant to be used, by reason.
        examples: names and reasons of some that were skipped.
        files: its arrays, by their name in the folder.
    """

    folder: str
    kinds: dict[str, int]
    pictures: int
    tokens: int
    units: int
    skipped: dict[str, int]
    left_out: dict[str, int]
    examples: list[str]
    files: dict[str, FileRecord]

    @property
    def documents(self) -> int:
        """How many there are."""
        return sum(self.kinds.values())


@dataclass(frozen=True)
class Manifest:
    """What ``manifest.json`` holds.

    Attributes:
        settings: of a configuration, all that shards depend on.
        tokenizers: fingerprints by modality; None where there is none.
        fingerprints: of each source, by split.
        weights: of the sources, as the configuration had them.
        parts: by split and source.
        tokenizer_files: by their path below ``tokenizers``.
        format: of the folder.
    """

    settings: dict[str, Any]
    tokenizers: dict[str, str | None]
    fingerprints: list[dict[str, str]]
    weights: list[float]
    parts: dict[str, list[list[PartRecord]]]
    tokenizer_files: dict[str, FileRecord]
    format: int = FORMAT
    digest: str = field(default="", compare=False)

    @property
    def source_names(self) -> list[str]:
        """Each source in words: its kind and path."""
        return [f"{each['kind']} {each['path']}" for each in self.settings["sources"]]

    def of(self, split: str, source: int) -> Sequence[PartRecord]:
        """The parts of a source's split."""
        return self.parts[split][source]

    def files(self) -> Iterator[tuple[str, FileRecord]]:
        """Every file, by its path below the root."""
        for name, record in self.tokenizer_files.items():
            yield f"{TOKENIZERS}/{name}", record
        for sources in self.parts.values():
            for parts in sources:
                for part in parts:
                    for name, record in part.files.items():
                        yield f"{part.folder}/{name}", record

    def to_bytes(self) -> bytes:
        """As JSON."""
        values = {name: value for name, value in plain(self).items() if name != "digest"}
        return json.dumps(values, indent=1).encode() + b"\n"

    @classmethod
    def read(cls, content: bytes, where: str) -> "Manifest":
        """The manifest of a file's content.

        Raises:
            ValueError: another format, or no manifest; with ``where`` it stands.
        """
        values = parse_json(_text(content, where), where)
        with laid_out(where):
            if values["format"] != FORMAT:
                raise ValueError(
                    f"{where} is of format {values['format']}, this version reads {FORMAT}: "
                    "prepare the data again"
                )
            parts = {
                split: [[part_of(part) for part in parts] for parts in sources]
                for split, sources in values["parts"].items()
            }
            files = {
                name: from_dict(FileRecord, each)
                for name, each in values["tokenizer_files"].items()
            }
            manifest = cls(
                values["settings"],
                values["tokenizers"],
                values["fingerprints"],
                values["weights"],
                parts,
                files,
                digest=hashlib.sha256(content).hexdigest()[:16],
            )
            for name, _ in manifest.files():
                if not INSIDE.fullmatch(name):
                    raise ValueError(f"{where} names a file {shown(name)} outside its folder")
            return manifest


def part_of(values: Any) -> PartRecord:
    """A part's record from plain values.

    Raises:
        TypeError, LookupError: values of another layout.
    """
    counts = ("kinds", "skipped", "left_out")
    numbers = [values[name] for name in ("pictures", "tokens", "units")]
    for each in (*numbers, *(count for name in counts for count in values[name].values())):
        if not isinstance(each, int):
            raise TypeError(f"{shown(each)} is no count")
    files = {
        name: FileRecord(str(each["sha256"]), int(each["size"]))
        for name, each in values["files"].items()
    }
    return PartRecord(**{**values, "folder": str(values["folder"]), "files": files})


def summed(counts: Sequence[Mapping[str, int]]) -> dict[str, int]:
    """Counts by reason added up, the most frequent first."""
    total: Counter[str] = Counter()
    for each in counts:
        total.update(each)
    return dict(total.most_common())


def file_records(folder: Path) -> dict[str, FileRecord]:
    """Every file below a folder, by its relative path."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            name = path.relative_to(folder).as_posix()
            found[name] = FileRecord(sha256(path), path.stat().st_size)
    return found


def sha256(path: Path) -> str:
    """Of a file's bytes, in hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _text(content: bytes, where: str) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{where} is not in UTF-8: {error}") from None
