"""A source of documents as a line of YAML, and what opens it."""

import math
from dataclasses import dataclass, field
from typing import Literal

from mot_lab.data.recordings import Split
from mot_lab.data.sources.annotations import CaptionedPictures
from mot_lab.data.sources.hub import is_hub
from mot_lab.data.sources.interleaved import InterleavedDocuments
from mot_lab.data.sources.librispeech import LibriSpeech, has_transcripts
from mot_lab.data.sources.raw import Source
from mot_lab.data.sources.records import Reader
from mot_lab.data.sources.speech import SpeechRows
from mot_lab.data.sources.split_source import SplitSource
from mot_lab.data.sources.tars import CaptionedTars
from mot_lab.data.sources.text import Texts
from mot_lab.limits import MOST_THINGS, require_between
from mot_lab.parsing import shown

SourceKind = Literal["coco", "karpathy", "webdataset", "interleaved", "text", "speech", "units"]
OWN: tuple[Split, ...] = ("val", "test")  # splits that may have files of their own
MOST_HELD_OUT = 0.4  # a share this large for val and test each still leaves a fifth to train on
# What a kind reads by a name that `fields` may change, and the name.
FIELDS: dict[SourceKind, dict[str, str]] = {
    "coco": {},
    "karpathy": {},
    "webdataset": {"image": "jpg;jpeg;png;webp", "text": "txt;json.caption"},
    "interleaved": {"texts": "texts", "images": "images"},
    "text": {"text": "text"},
    "speech": {"audio": "audio", "text": "text", "image": "image"},
    "units": {"units": "units", "text": "text", "image": "image"},
}
NAME_FILES: tuple[SourceKind, ...] = ("coco", "karpathy", "interleaved", "speech", "units")
NEED_FILES: tuple[SourceKind, ...] = ("coco", "karpathy")


@dataclass
class SourceConfig:
    """Where documents come from, and how often they are drawn.

    Which documents are held out: a split with files of its own (``val``, ``test``) is read from
    them, all of it; Karpathy's files say the split of each picture themselves. A split without is
    the share ``held_out`` of the documents of ``path``, those whose hash is smallest, and these
    are not in train. The hash is of what a document says (its texts, case and spaces aside), so
    that no text is on both sides; of a picture with captions it is of the picture's name, and so
    it is of speech without a transcript.

    Attributes:
        kind: of the files, see docs/data.md.
        path: a file, a folder, a pattern with ``*`` or ``{000..099}``, any fsspec URL of these;
            ``hf:NAME:CONFIG@SPLIT`` is a data set of the Hugging Face hub, or a local folder laid
            out like one, read as it streams.
        weight: how often this source is drawn, beside the weights of the others.
        val, test: like ``path``, where these splits have files of their own.
        held_out: share of ``path`` that is val, and share that is test, where they have none.
        documents: at most so many records are taken of ``path``, and of ``val`` and ``test``: the
            first ones, unreadable ones and held-out ones counted. None takes all.
        files: folder of the pictures and sounds that annotations, documents or a manifest name, or
            several as ``{train,val}2017``; None is the folder of the file that names them.
        fields: other names for what a kind reads, like ``{text: content}``.
    """

    kind: SourceKind
    path: str
    weight: float = 1.0
    val: str | None = None
    test: str | None = None
    held_out: float = 0.01
    documents: int | None = None
    files: str | None = None
    fields: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not (self.weight > 0 and math.isfinite(self.weight)):
            raise ValueError(f"weight {shown(self.weight)} must be above 0 and finite")
        require_between(self, 0, MOST_HELD_OUT, "held_out")
        if self.documents is not None:
            require_between(self, 1, MOST_THINGS, "documents")
        for name in ("path", "val", "test", "files"):
            if getattr(self, name) == "":
                raise ValueError(f"{name} '' names nothing: give a path, or leave it out")
        known = FIELDS[self.kind]
        for role, name in self.fields.items():
            if role not in known:
                there = ", ".join(known) or "none"
                raise ValueError(f"fields: {shown(role)} is none of those of {self.kind}: {there}")
            if not name:
                raise ValueError(f"fields: {role} '' names nothing")
        if self.files is not None and self.kind not in NAME_FILES:
            raise ValueError(f"files {shown(self.files)}: {self.kind} names no other files")
        if self.files is None and self.kind in NEED_FILES:
            raise ValueError(f"files: {self.kind} needs the folder of its pictures")
        if self.kind == "karpathy" and (self.val is not None or self.test is not None):
            raise ValueError("val, test: karpathy's file says the split of each picture itself")


def open_source(config: SourceConfig, split: Split) -> Source:
    """The documents of one split.

    Raises:
        ValueError: nothing at a path, or files that are not laid out as the kind says.
    """
    own: list[Split] = [each for each in OWN if getattr(config, each) is not None]
    about = {"kind": config.kind, "files": config.files, "fields": config.fields}
    if split in own:
        reader = open_reader(config, getattr(config, split))
        return SplitSource(reader, None, 0, (), config.documents, about)
    reader = open_reader(config, config.path)
    held_out = None if config.kind == "karpathy" else config.held_out
    return SplitSource(reader, split, held_out, own, config.documents, about)


def open_reader(config: SourceConfig, path: str) -> Reader:
    """What reads the files at a path, all splits together; raises as `open_source` does."""
    fields = FIELDS[config.kind] | config.fields
    match config.kind:
        case "coco" | "karpathy":
            assert config.files is not None  # the configuration sees to it
            return CaptionedPictures(path, config.files, karpathy=config.kind == "karpathy")
        case "webdataset":
            return CaptionedTars(path, **fields)
        case "interleaved":
            return InterleavedDocuments(path, fields["texts"], fields["images"], config.files)
        case "text":
            return Texts(path, fields["text"])
        case "speech":
            if not is_hub(path) and has_transcripts(path):
                return LibriSpeech(path)
            heard = fields["audio"]
            return SpeechRows(path, "sound", heard, fields["text"], fields["image"], config.files)
        case "units":
            heard = fields["units"]
            return SpeechRows(path, "units", heard, fields["text"], fields["image"], config.files)
