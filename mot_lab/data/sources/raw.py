"""What every source of documents yields: text, encoded pictures, sound and units, as read.

A source is cut into parts that processes read side by side. What cannot be read is yielded too, as
`Skipped`: who reads counts it, and says or limits it.

Shapes: n samples or units, H x W pixels.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, Protocol

import numpy as np

DocumentKind = Literal["pairs", "interleaved", "text", "speech"]


@dataclass(frozen=True)
class RawText:
    """Text: a caption, a paragraph, a document or a transcript."""

    text: str


@dataclass(frozen=True)
class RawPicture:
    """A picture: the bytes of its file, not decoded yet, or uint8 [H, W, 3]."""

    data: bytes | np.ndarray


@dataclass(frozen=True)
class RawSound:
    """A sound: float32 [n] of one channel, and its samples a second."""

    samples: np.ndarray
    rate: int


@dataclass(frozen=True)
class RawUnits:
    """Speech units that somebody else computed: int64 [n], from 0."""

    units: np.ndarray


RawSegment = RawText | RawPicture | RawSound | RawUnits


@dataclass(frozen=True)
class RawDocument:
    """One document of a source.

    Attributes:
        name: its file and its record there, for messages.
        kind: ``pairs`` (a picture, then one or more captions of it), ``interleaved`` (texts and
            pictures in reading order), ``text`` (one text) or ``speech`` (a sound or units, then
            the transcript and the picture where there are any).
        segments: at least one.
    """

    name: str
    kind: DocumentKind
    segments: tuple[RawSegment, ...]


@dataclass(frozen=True)
class Skipped:
    """A record that could not be read: its file and place, and why."""

    name: str
    reason: str


class Source(Protocol):
    """Documents of one split."""

    def parts(self) -> list[str]:
        """Names of what can be read side by side, in a fixed order: a tar, a row group, a range of
        lines. All parts together are the split; none of them twice."""

    def read(self, part: str) -> Iterator[RawDocument | Skipped]:
        """The documents of a part, always in the same order."""

    def fingerprint(self) -> str:
        """16 hex digits of what is read and how: paths, sizes, times of change, settings."""
