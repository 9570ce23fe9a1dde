"""Prompts, and places of a document as the decoder is fed with them.

Shapes: S places, P patches of a picture, C x H x W latents.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from mot_lab.data.documents import CodeSegment, Document, ImageSegment, Segment, TextSegment
from mot_lab.data.interface import TEXT
from mot_lab.data.packing import TEXT_ID, Layout, Row

FREE = "free"


@dataclass(frozen=True)
class Prompt:
    """What an answer follows.

    Attributes:
        segments: text, pictures (clean, at noise level 0) and codes in reading order.
        want: ``text`` (text up to the end of the document), the name of another modality (one block
            of it and nothing more), or ``free`` (the model goes on as it likes).
        opened: the modality of a block that the answer starts with; what is wanted then follows it.
    """

    segments: tuple[Segment, ...] = ()
    want: str = FREE
    opened: str | None = None

    @property
    def first_block(self) -> str | None:
        """The modality of the block that the answer starts inside, if it does."""
        return self.want if self.opened is None and self.want not in (TEXT, FREE) else self.opened

    def check(self, layout: Layout, text_vocabulary: int) -> None:
        """Refuse what a model has no place for.

        Args:
            layout: of its documents.
            text_vocabulary: token ids of text there are.

        Raises:
            ValueError: an unknown modality, two that are to come first, or content that is not of
                the vocabulary or shape of its modality.
        """
        known = (*layout.modalities, FREE)
        if self.want not in known:
            raise ValueError(f"want {self.want!r} is none of {', '.join(known)}")
        if self.opened is not None and self.opened not in layout.blocks:
            raise ValueError(f"opened {self.opened!r} is none of {', '.join(layout.blocks)}")
        if self.opened is not None and self.want not in (TEXT, FREE):
            raise ValueError(
                f"opened {self.opened!r} and want {self.want!r} name two blocks: give want "
                f"{TEXT!r} or {FREE!r} for what follows the opened block"
            )
        for segment in self.segments:
            _check(segment, layout, text_vocabulary)


def _check(segment: Segment, layout: Layout, text_vocabulary: int) -> None:
    if isinstance(segment, TextSegment):
        values, limit, what = segment.ids, text_vocabulary, "text token"
    else:
        block = layout.block_of(segment)
        if isinstance(segment, ImageSegment):
            if segment.latents_CHW.shape != layout.latent_shape:
                raise ValueError(
                    f"latents of a picture are {list(segment.latents_CHW.shape)}; give (C, H, W) "
                    f"= {list(layout.latent_shape)}"
                )
            return
        values, limit, what = segment.codes, block.size, f"{segment.modality} code"
    if len(values) and not 0 <= values.min() <= values.max() < limit:
        raise ValueError(
            f"{what}s from {values.min()} to {values.max()} must lie in 0 .. {limit - 1}"
        )


@dataclass(frozen=True)
class Piece:
    """Consecutive places of one document.

    Attributes:
        token_S: int64 ids in the joint vocabulary, 0 at patches.
        modality_S: int64 modality ids.
        image_S: int64 number of the picture that a patch belongs to; -1 elsewhere.
        latents: of these pictures, clean, each [C, H, W].
    """

    token_S: np.ndarray
    modality_S: np.ndarray
    image_S: np.ndarray
    latents: tuple[np.ndarray, ...] = ()

    def last_seen(self) -> np.ndarray:
        """int64 [S], the last place of the piece that each place sees: a patch sees its picture."""
        last_S = np.arange(len(self.token_S))
        for number in range(len(self.latents)):
            (place_P,) = np.nonzero(self.image_S == number)
            last_S[place_P] = place_P[-1]
        return last_S


def document_piece(segments: Sequence[Segment], opened: str | None, layout: Layout) -> Piece:
    """A document from its ``<bos>`` on, with the begin token of a block where one is opened."""
    document = Document(tuple(segments), cut=True)
    row = Row.empty(layout.size(document) + (opened is not None))
    row.add(document, layout)
    if opened is not None:
        row.token_S[-1], row.modality_S[-1] = layout.blocks[opened].begin, TEXT_ID
    return Piece(row.token_S, row.modality_S, row.image_S, tuple(row.latents))


def token_piece(tokens: Sequence[int], modality_ids: Sequence[int]) -> Piece:
    """Tokens that follow what was fed."""
    return Piece(np.array(tokens), np.array(modality_ids), np.full(len(tokens), -1))


def picture_piece(picture: ImageSegment, layout: Layout) -> Piece:
    """A picture's patches and its end token; the begin token was fed before it was drawn."""
    block = layout.block_of(picture)
    patches = block.length or 0
    return Piece(
        np.array([0] * patches + [block.end]),
        np.array([block.modality_id] * patches + [TEXT_ID]),
        np.array([0] * patches + [-1]),
        (picture.latents_CHW,),
    )


def without_text(segments: Sequence[Segment]) -> list[Segment]:
    """What the unconditional branch of guidance reads."""
    return [each for each in segments if isinstance(each, ImageSegment | CodeSegment)]
