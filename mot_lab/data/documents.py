"""Documents in tokens, and the streams they are drawn from.

Shapes: C x H x W latents of one picture, n tokens or codes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from mot_lab.data.pool import ScenePool
from mot_lab.tokens.text import TextTokenizer


@dataclass(frozen=True)
class TextSegment:
    """Token ids, int [n]."""

    ids: np.ndarray


@dataclass(frozen=True)
class ImageSegment:
    """Latents of one picture that is denoised, float32 [C, H, W]."""

    latents_CHW: np.ndarray


@dataclass(frozen=True)
class CodeSegment:
    """A block of another discrete modality: its codes, int [n], counted from 0."""

    modality: str
    codes: np.ndarray


Segment = TextSegment | ImageSegment | CodeSegment


@dataclass(frozen=True)
class Document:
    """Segments in reading order. ``cut`` says that the text goes on beyond the document's end, so
    that the end must not be learnt as one.
    """

    segments: tuple[Segment, ...]
    cut: bool = False


def picture_segment(modality: str, encoded: np.ndarray) -> Segment:
    """A picture as its tokenizer gives it: latents [C, H, W], or codes [n] of a modality."""
    if np.issubdtype(encoded.dtype, np.floating):
        return ImageSegment(encoded)
    return CodeSegment(modality, encoded)


class Recordings(Protocol):
    """Recordings with their transcripts and, where there are any, encoded pictures."""

    def __len__(self) -> int: ...

    def units(self, record: int) -> np.ndarray: ...

    def text(self, record: int) -> np.ndarray: ...

    def picture(self, record: int) -> np.ndarray | None: ...


@dataclass(frozen=True)
class Mixture:
    """Which documents are drawn how often: speech, then each style, then prose, each as a share of
    what is left; the rest are pictures with captions.

    Attributes:
        prose: share of prose.
        caption_first: share of the pairs whose caption comes before the picture.
        caption_dropout: share of those pairs that are drawn without their caption, so that
            pictures can be drawn unconditionally (classifier-free guidance).
        speech: share of documents with speech, of these directions, equally likely.
        directions: ``text_speech``, ``speech_text``, ``image_speech`` (speech alone where a
            recording has no picture), ``speech``.
        styles: share of the documents that show a scene as a picture and in this style, in either
            order, by modality.
    """

    prose: float
    caption_first: float
    caption_dropout: float = 0.0
    speech: float = 0.0
    directions: tuple[str, ...] = ()
    styles: Mapping[str, float] | None = None


class Stream(Protocol):
    """What rows are packed from: whatever is random in it comes from the generator given."""

    def draw(self, rng: np.random.Generator) -> Document:
        """The next document, none longer than a row."""

    def filler(self, document: Document, rng: np.random.Generator) -> Document | None:
        """Text, which may be cut, for a gap that ``document`` did not fit into; None leaves it."""


def paired(
    picture: Segment, caption: TextSegment, mixture: Mixture, rng: np.random.Generator
) -> Document:
    """A picture and its caption, in either order."""
    if rng.random() >= mixture.caption_first:
        return Document((picture, caption))
    if mixture.caption_dropout and rng.random() < mixture.caption_dropout:
        return Document((picture,))
    return Document((caption, picture))


def spoken(
    direction: str, text: TextSegment | None, speech: CodeSegment, picture: Segment | None
) -> Document:
    """Speech beside its transcript, after its picture, or alone; alone, too, where a recording has
    not what the direction names.
    """
    parts: dict[str, Segment | None] = {"text": text, "speech": speech, "image": picture}
    named = [parts[name] for name in direction.split("_")]
    return Document(tuple(each for each in named if each is not None))


class DocumentStream:
    """Pictures with captions, prose and, where there are any, speech and styles, mixed at random.

    Args:
        pool: of scenes.
        prose: passages in tokens.
        mixture: of what is drawn.
        speech: what is spoken.
    """

    def __init__(
        self,
        pool: ScenePool,
        prose: Sequence[np.ndarray],
        mixture: Mixture,
        speech: Recordings | None = None,
    ) -> None:
        self.pool = pool
        self.prose = prose
        self.mixture = mixture
        self.speech = speech

    def draw(self, rng: np.random.Generator) -> Document:
        """The next document."""
        if self.speech is not None and rng.random() < self.mixture.speech:
            return self.spoken(self.speech, rng)
        for style, share in (self.mixture.styles or {}).items():
            if rng.random() < share:
                return self.restyled(style, rng)
        if rng.random() < self.mixture.prose:
            return self.passage(rng)
        return self.captioned(rng)

    def filler(self, document: Document, rng: np.random.Generator) -> Document:
        """Prose."""
        return self.passage(rng)

    def captioned(self, rng: np.random.Generator) -> Document:
        """A picture and its caption, in either order."""
        scene = int(rng.integers(len(self.pool)))
        caption = TextSegment(self.pool.caption(scene, rng.random()))
        picture = picture_segment("image", self.pool.images[scene])
        return paired(picture, caption, self.mixture, rng)

    def passage(self, rng: np.random.Generator) -> Document:
        """A passage of prose."""
        return Document((TextSegment(self.prose[int(rng.integers(len(self.prose)))]),))

    def spoken(self, recordings: Recordings, rng: np.random.Generator) -> Document:
        """A recording beside its transcript, after its picture, or alone."""
        directions = self.mixture.directions
        direction = directions[int(rng.integers(len(directions)))]
        record = int(rng.integers(len(recordings)))
        picture = recordings.picture(record)
        return spoken(
            direction,
            TextSegment(recordings.text(record)),
            CodeSegment("speech", recordings.units(record)),
            None if picture is None else picture_segment("image", picture),
        )

    def restyled(self, style: str, rng: np.random.Generator) -> Document:
        """A scene as a picture and in another style, in either order."""
        scene = int(rng.integers(len(self.pool)))
        picture = picture_segment("image", self.pool.images[scene])
        other = picture_segment(style, self.pool.styles[style][scene])
        return Document((picture, other) if rng.random() < 0.5 else (other, picture))


def tokenize_prose(passages: list[str], texts: TextTokenizer) -> list[np.ndarray]:
    """Passages in tokens."""
    return [np.array(ids, np.int32) for ids in texts.encode_batch(passages)]
