"""Raw documents as tokens: text by the text tokenizer, pictures and sounds by theirs, in batches.

Shapes: n tokens or units, N pictures of H x W pixels.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

import numpy as np

from mot_lab.data.shards.manifest import MOST_EXAMPLES, MOST_REASONS
from mot_lab.data.shards.pictures import UnusablePicture, square
from mot_lab.data.sources.raw import (
    RawDocument,
    RawPicture,
    RawSegment,
    RawSound,
    RawText,
    RawUnits,
    Skipped,
)
from mot_lab.tokens.image import ImageTokenizer
from mot_lab.tokens.speech import SpeechTokenizer, deduplicated
from mot_lab.tokens.speech_features import Recording, UnusableRecording
from mot_lab.tokens.text import TextTokenizer
from mot_lab.tokens.vq import VQTokenizer

BATCH = 256  # documents, or pictures, encoded together
OTHER = "other reasons"


@dataclass(frozen=True)
class Tokenizers:
    """What makes tokens of raw documents.

    Attributes:
        texts, images: of every document.
        speech: of sounds; None where there are none.
        units: how many speech units there are; 0 without speech.
        deduplicate: write a run of equal units as one.
        max_seconds: sounds that last longer are left out; None keeps all.
    """

    texts: TextTokenizer
    images: ImageTokenizer | VQTokenizer
    speech: SpeechTokenizer | None = None
    units: int = 0
    deduplicate: bool = False
    max_seconds: float | None = None

    def fingerprints(self) -> dict[str, str | None]:
        """What tells these tokenizers from others, by modality."""
        speech = None if self.speech is None else self.speech.fingerprint
        return {"text": self.texts.key(), "image": self.images.fingerprint, "speech": speech}


@dataclass(frozen=True)
class EncodedPicture:
    """A picture as its tokenizer gives it, latents or codes, and uint8 [H, W, 3] before that."""

    encoded: np.ndarray
    pixels: np.ndarray


@dataclass(frozen=True)
class EncodedUnits:
    """Speech, int [n]."""

    units: np.ndarray


# Text is an array of token ids, int [n].
EncodedSegment = np.ndarray | EncodedPicture | EncodedUnits


@dataclass(frozen=True)
class EncodedDocument:
    """A document's kind and its segments in reading order."""

    kind: str
    segments: tuple[EncodedSegment, ...]


@dataclass
class Counts:
    """Records that did not become documents.

    Attributes:
        skipped: that could not be used, by reason.
        left_out: that were not meant to be used, by reason.
        examples: of the skipped, their names with the whole reason.
    """

    skipped: Counter[str] = field(default_factory=Counter)
    left_out: Counter[str] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)

    def skip(self, name: str, reason: str) -> None:
        """Count a record by its reason up to the first colon: what follows differs each time."""
        kind = reason.partition(":")[0]
        if kind not in self.skipped and len(self.skipped) >= MOST_REASONS:
            kind = OTHER
        self.skipped[kind] += 1
        if len(self.examples) < MOST_EXAMPLES:
            self.examples.append(f"{name}: {reason}")


class _Unusable(ValueError):
    """A record that cannot be used; the message is the reason."""


class _TooLong(ValueError):
    """A recording that lasts longer than the configuration has it."""


def encoded(
    records: Iterable[RawDocument | Skipped], tokenizers: Tokenizers, counts: Counts
) -> Iterator[EncodedDocument]:
    """Documents in tokens, in their order; what cannot be used is counted.

    Of a document none of whose segments may be missing all is left out with one: text around a
    picture speaks of it. Captions and paragraphs without a letter are no segments.
    """
    batch: list[RawDocument] = []
    pictures = 0
    for record in records:
        try:
            document = _readable(record, tokenizers)
        except _TooLong as error:
            counts.left_out[str(error)] += 1
            continue
        except _Unusable as error:
            counts.skip(record.name, str(error))
            continue
        batch.append(document)
        pictures += sum(isinstance(each, RawPicture) for each in document.segments)
        if len(batch) >= BATCH or pictures >= BATCH:
            yield from _encoded(batch, tokenizers)
            batch, pictures = [], 0
    if batch:
        yield from _encoded(batch, tokenizers)


def _readable(record: RawDocument | Skipped, tokenizers: Tokenizers) -> RawDocument:
    """A document whose pictures are decoded and whose sounds are units."""
    if isinstance(record, Skipped):
        raise _Unusable(record.reason)
    segments = [_segment(each, record.name, tokenizers) for each in record.segments]
    kept = tuple(each for each in segments if each is not None)
    wanted = {"pairs": (RawPicture, RawText), "text": (RawText,), "speech": (RawUnits,)}
    for kind in wanted.get(record.kind, ()):
        if not any(isinstance(each, kind) for each in kept):
            raise _Unusable(f"no {'text' if kind is RawText else 'picture or sound'}")
    if not kept:
        raise _Unusable("nothing in it")
    return RawDocument(record.name, record.kind, kept)


def _segment(segment: RawSegment, name: str, tokenizers: Tokenizers) -> RawSegment | None:
    if isinstance(segment, RawText):
        try:
            segment.text.encode()
        except UnicodeEncodeError:
            raise _Unusable("text with halves of surrogate pairs") from None
        return segment if segment.text.strip() else None
    if isinstance(segment, RawPicture):
        try:
            return RawPicture(square(segment.data, tokenizers.images.canvas))
        except UnusablePicture as error:
            raise _Unusable(f"unreadable picture: {error}") from None
    return RawUnits(_units(segment, name, tokenizers))


def _units(segment: RawSound | RawUnits, name: str, tokenizers: Tokenizers) -> np.ndarray:
    if isinstance(segment, RawUnits):
        units_n = segment.units
        if not len(units_n):
            raise _Unusable("no speech units")
        if units_n.min() < 0 or units_n.max() >= tokenizers.units:
            raise _Unusable(
                f"speech units that are not 0 to {tokenizers.units - 1}: {units_n.min()} to "
                f"{units_n.max()}"
            )
    else:
        longest = tokenizers.max_seconds
        if longest is not None and len(segment.samples) > longest * segment.rate:
            raise _TooLong(f"longer than {longest:g} s")
        assert tokenizers.speech is not None, "sources with sounds have a speech tokenizer"
        try:
            recording = Recording(name, segment.samples, segment.rate)
            units_n = tokenizers.speech.every_unit(recording)
        except UnusableRecording as error:
            raise _Unusable(f"unusable sound: {error}") from None
    return deduplicated(units_n) if tokenizers.deduplicate else units_n


def _encoded(batch: list[RawDocument], tokenizers: Tokenizers) -> Iterator[EncodedDocument]:
    """All texts of a batch at once, and all pictures."""
    segments = [each for document in batch for each in document.segments]
    texts = [each.text for each in segments if isinstance(each, RawText)]
    pixels = [np.asarray(each.data) for each in segments if isinstance(each, RawPicture)]
    ids = iter(tokenizers.texts.encode_batch(texts))
    codes = iter(np.asarray(tokenizers.images.encode(np.stack(pixels))) if pixels else ())

    def one(segment: RawSegment) -> EncodedSegment:
        if isinstance(segment, RawText):
            return np.array(next(ids), np.int32)
        if isinstance(segment, RawPicture):
            return EncodedPicture(next(codes), np.asarray(segment.data))
        assert isinstance(segment, RawUnits)
        return EncodedUnits(segment.units)

    for document in batch:
        yield EncodedDocument(document.kind, tuple(one(each) for each in document.segments))
