"""Documents in tokens, and the streams they are drawn from.

Shapes: C x H x W latents of one image.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mot_lab.data.pool import ScenePool
from mot_lab.tokens.text import TextTokenizer


@dataclass(frozen=True)
class TextSegment:
    """Token ids, int [n]."""

    ids: np.ndarray


@dataclass(frozen=True)
class ImageSegment:
    """Latents of one image, float32 [C, H, W]."""

    latents_CHW: np.ndarray


Segment = TextSegment | ImageSegment


@dataclass(frozen=True)
class Document:
    """Segments in reading order. ``cut`` says that the text goes on beyond the document's end, so
    that the end must not be learnt as one.
    """

    segments: tuple[Segment, ...]
    cut: bool = False


class DocumentStream:
    """Pictures with captions, and prose, mixed at random.

    Args:
        pool: of scenes.
        prose: passages in tokens.
        prose_share: share of the drawn documents that are prose.
        caption_first: share of the pairs whose caption comes before the picture.
    """

    def __init__(
        self,
        pool: ScenePool,
        prose: Sequence[np.ndarray],
        prose_share: float,
        caption_first: float,
    ) -> None:
        self.pool = pool
        self.prose = prose
        self.prose_share = prose_share
        self.caption_first = caption_first

    def draw(self, rng: np.random.Generator) -> Document:
        """The next document."""
        if rng.random() < self.prose_share:
            return self.passage(rng)
        scene = int(rng.integers(len(self.pool)))
        caption = TextSegment(self.pool.caption(scene, rng.random()))
        picture = ImageSegment(self.pool.latents_NCHW[scene])
        caption_first = rng.random() < self.caption_first
        return Document((caption, picture) if caption_first else (picture, caption))

    def passage(self, rng: np.random.Generator) -> Document:
        """A passage of prose."""
        return Document((TextSegment(self.prose[int(rng.integers(len(self.prose)))]),))


def tokenize_prose(passages: list[str], texts: TextTokenizer) -> list[np.ndarray]:
    """Passages in tokens."""
    return [np.array(ids, np.int32) for ids in texts.encode_batch(passages)]
