"""Documents drawn from prepared shards: which source by its weight, which document at random.

A draw is a function of the generator it is given and of nothing else, so that a row of training is
one of (seed, row), whichever process packs it. Documents are drawn with replacement, as scenes are:
which comes next needs no memory of those before.
"""

from collections.abc import Sequence

import numpy as np

from mot_lab.data.documents import (
    CodeSegment,
    Document,
    Mixture,
    Segment,
    TextSegment,
    paired,
    spoken,
)
from mot_lab.data.packing import Layout
from mot_lab.data.shards.documents import SourceDocuments
from mot_lab.data.shards.part import StoredDocument


class MixtureStream:
    """Documents of several sources, mixed by weight.

    Args:
        sources: each with at least one document.
        weights: of each: how often it is drawn, beside the others.
        mixture: of captions and pictures, and of the directions of speech.
        layout: of the rows.
    """

    def __init__(
        self,
        sources: Sequence[SourceDocuments],
        weights: Sequence[float],
        mixture: Mixture,
        layout: Layout,
    ) -> None:
        self.sources, self.mixture, self.layout = sources, mixture, layout
        self._until = _until(weights)
        texts = [number for number, each in enumerate(sources) if "text" in each.kinds]
        self._texts = [sources[number] for number in texts]
        self._texts_until = _until([weights[number] for number in texts])

    def draw(self, rng: np.random.Generator) -> Document:
        """The next document."""
        source = self.sources[_chosen(self._until, rng)]
        return self._arranged(source.document(int(rng.integers(len(source)))), rng)

    def filler(self, document: Document, rng: np.random.Generator) -> Document | None:
        """The document itself where it is one text, else a text of a source that has some."""
        if len(document.segments) == 1 and isinstance(document.segments[0], TextSegment):
            return document
        if not self._texts:
            return None
        source = self._texts[_chosen(self._texts_until, rng)]
        number = int(rng.integers(len(source)))
        stored = source.document(number)
        return self._arranged(stored, rng) if stored.kind == "text" else None

    def _arranged(self, stored: StoredDocument, rng: np.random.Generator) -> Document:
        """A document as training reads it: a pair in one of its orders, speech in one of its
        directions, of what is longer than a row one of its pieces.
        """
        segments = stored.segments
        if stored.kind == "pairs":
            (picture,) = (each for each in segments if not isinstance(each, TextSegment))
            captions = [each for each in segments if isinstance(each, TextSegment)]
            return paired(picture, captions[int(rng.integers(len(captions)))], self.mixture, rng)
        if stored.kind == "speech":
            directions = self.mixture.directions
            return spoken(directions[int(rng.integers(len(directions)))], *_parts(segments))
        found = pieces(segments, self.layout)
        return found[int(rng.integers(len(found)))] if len(found) > 1 else found[0]


def pieces(segments: Sequence[Segment], layout: Layout) -> list[Document]:
    """A document, or the documents of at most a row that it is cut into, in their order.

    Text is cut between any two tokens, anything else stays whole. Each piece but the last is
    ``cut``; so is the last where it leaves no place for an end token.

    Args:
        segments: each block shorter than a row.
        layout: of the row.
    """
    room = layout.length - 1  # the begin token has the first place
    filled: list[tuple[list[Segment], int]] = [([], 0)]
    for segment in segments:
        rest: Segment | None = segment
        while rest is not None:
            inside, used = filled[-1]
            first, rest = _split(rest, room - used, layout)
            if first is not None:
                inside.append(first)
                filled[-1] = inside, used + layout.places(first)
            if rest is not None:
                filled.append(([], 0))
    last = len(filled) - 1
    return [
        Document(tuple(inside), cut=number < last or used == room)
        for number, (inside, used) in enumerate(filled)
        if inside
    ]


def _split(segment: Segment, room: int, layout: Layout) -> tuple[Segment | None, Segment | None]:
    """What of a segment has room, and what is left of it."""
    if layout.places(segment) <= room:
        return segment, None
    if not isinstance(segment, TextSegment) or room <= 0:
        return None, segment
    return TextSegment(segment.ids[:room]), TextSegment(segment.ids[room:])


def _parts(
    segments: Sequence[Segment],
) -> tuple[TextSegment | None, CodeSegment, Segment | None]:
    """Transcript, speech and picture of a document of speech."""
    text = next((s for s in segments if isinstance(s, TextSegment)), None)
    blocks = [each for each in segments if not isinstance(each, TextSegment)]
    (speech,) = (s for s in blocks if isinstance(s, CodeSegment) and s.modality == "speech")
    return text, speech, next((each for each in blocks if each is not speech), None)


def _until(weights: Sequence[float]) -> np.ndarray:
    """Cumulative shares."""
    return np.cumsum(np.array(weights, np.float64)) / sum(weights) if len(weights) else np.zeros(0)


def _chosen(until: np.ndarray, rng: np.random.Generator) -> int:
    if len(until) == 1:
        return 0
    # rounding may leave the last sum just below 1
    return min(int(np.searchsorted(until, rng.random(), side="right")), len(until) - 1)
