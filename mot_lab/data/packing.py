"""Documents packed into rows, rows collated into batches.

Every document is laid out as ``<bos> text .. <begin_X> block of X <end_X> .. <eos>``; begin and end
tokens belong to the text tower. A row is a function of (seed, index), noise included.

Shapes: B rows, S positions, L targets, N denoised pictures, M their patches.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import torch

from mot_lab.batch import PADDING, MultimodalBatch
from mot_lab.data.documents import (
    CodeSegment,
    Document,
    ImageSegment,
    Segment,
    Stream,
    TextSegment,
)
from mot_lab.data.interface import TEXT, Codes, DataInterface
from mot_lab.tokens.text import TextTokenizer

TEXT_ID = 0
NO_TARGET = -100
TIME_LEVELS = 1000
SHORTEST_DOCUMENT = 4  # <bos>, two tokens, <eos>: a gap smaller than this stays padding


@dataclass(frozen=True)
class Block:
    """How a modality beside text is laid out.

    Attributes:
        modality_id: of its places, begin and end tokens aside, which are text.
        begin, end: token ids.
        first_code: id of its code 0 in the joint vocabulary; None where it is denoised.
        size: codes there are; 0 where it is denoised.
        length: places of every block; None where a block ends with its end token.
    """

    modality_id: int
    begin: int
    end: int
    first_code: int | None
    size: int
    length: int | None


@dataclass(frozen=True)
class Layout:
    """How documents are laid out in a row.

    Attributes:
        length: S.
        pad, bos, eos: token ids.
        blocks: every modality beside text, in the order of their ids.
        diffused: the one that is denoised, if there is one, with latents of this shape (C, H, W).
    """

    length: int
    pad: int
    bos: int
    eos: int
    blocks: Mapping[str, Block]
    diffused: str | None = None
    latent_shape: tuple[int, int, int] = (0, 0, 0)

    @classmethod
    def of(cls, texts: TextTokenizer, length: int, interface: DataInterface) -> "Layout":
        """With a tokenizer's special tokens."""
        blocks = {}
        for number, (name, part) in enumerate(interface.others.items(), start=1):
            discrete = isinstance(part, Codes)
            blocks[name] = Block(
                number,
                texts.begin_id(name),
                texts.end_id(name),
                interface.first_code(name) if discrete else None,
                part.size if isinstance(part, Codes) else 0,
                part.length,
            )
        shape = interface.latents.shape if interface.latents else (0, 0, 0)
        special = (texts.pad_id, texts.bos_id, texts.eos_id)
        return cls(length, *special, blocks, interface.diffused, shape)

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names in the order of their ids."""
        return (TEXT, *self.blocks)

    def block_of(self, segment: ImageSegment | CodeSegment) -> Block:
        """The layout of a segment's modality.

        Raises:
            ValueError: the layout has no such modality, or its blocks are of another length.
        """
        name = segment.modality if isinstance(segment, CodeSegment) else self.diffused
        if name is None or name not in self.blocks:
            raise ValueError(
                f"a segment is of {name or 'denoised pictures'}, the layout has "
                f"{', '.join(self.modalities)}"
            )
        block = self.blocks[name]
        if isinstance(segment, CodeSegment) and block.length not in (None, len(segment.codes)):
            raise ValueError(f"{name} block of {len(segment.codes)} codes, not {block.length}")
        return block

    def places(self, segment: Segment) -> int:
        """Places a segment takes, begin and end tokens included."""
        if isinstance(segment, TextSegment):
            return len(segment.ids)
        length = self.block_of(segment).length
        return 2 + (length if isinstance(segment, ImageSegment) else len(segment.codes))  # type: ignore[operator]

    def size(self, document: Document) -> int:
        """Places a document takes."""
        inside = sum(self.places(each) for each in document.segments)
        return inside + (1 if document.cut else 2)


@dataclass
class Row:
    """One packed row; arrays of length S, images in reading order."""

    token_S: np.ndarray
    modality_S: np.ndarray
    document_S: np.ndarray
    position_S: np.ndarray
    image_S: np.ndarray
    target_S: np.ndarray
    latents: list[np.ndarray] = field(default_factory=list)
    noise: list[np.ndarray] = field(default_factory=list)
    time: list[float] = field(default_factory=list)
    used: int = 0
    documents: int = 0

    @classmethod
    def empty(cls, length: int) -> "Row":
        """All padding."""
        padding = np.full(length, PADDING, np.int64)
        return cls(
            np.zeros(length, np.int64),
            padding.copy(),
            padding.copy(),
            np.zeros(length, np.int64),
            padding.copy(),
            np.full(length, NO_TARGET, np.int64),
        )

    def add(self, document: Document, layout: Layout) -> None:
        """Append a document that fits (`Layout.size`)."""
        start = self.used
        end = start + layout.size(document)
        place = slice(start, end)
        self.modality_S[place] = TEXT_ID
        self.document_S[place] = self.documents
        self.position_S[place] = np.arange(end - start)
        self.token_S[start] = layout.bos
        if not document.cut:
            self.token_S[end - 1] = layout.eos
        at, silent = start + 1, []
        for segment in document.segments:
            places = slice(at, at + layout.places(segment))
            if isinstance(segment, TextSegment):
                self.token_S[places] = segment.ids
            else:
                silent.append(self._add_block(segment, layout.block_of(segment), places))
            at = places.stop
        self.target_S[start : end - 1] = self.token_S[start + 1 : end]
        for untargeted in silent:
            self.target_S[untargeted] = NO_TARGET
        self.used = end
        self.documents += 1

    def _add_block(self, segment: ImageSegment | CodeSegment, block: Block, places: slice) -> slice:
        """Write a block; returns the places where nothing is predicted."""
        inside = slice(places.start + 1, places.stop - 1)
        self.token_S[places.start], self.token_S[places.stop - 1] = block.begin, block.end
        self.modality_S[inside] = block.modality_id
        if isinstance(segment, CodeSegment):
            assert block.first_code is not None
            self.token_S[inside] = segment.codes + block.first_code
            # After a block of fixed length there is nothing to predict: it ends.
            return slice(inside.stop - (block.length is not None), inside.stop)
        self.image_S[inside] = len(self.latents)
        self.latents.append(segment.latents_CHW)
        # No text is predicted at the begin token (Transfusion, footnote 8) nor at any patch.
        return slice(places.start, inside.stop)


def pack_row(stream: Stream, layout: Layout, seed: tuple[int, ...]) -> Row:
    """A full row: documents as they are drawn; the gap that the next one does not fit into is
    filled with text cut to it, or stays padding where the stream has none. Noise and noise levels
    are drawn after the documents.

    Args:
        stream: of documents.
        layout: of the row.
        seed: of everything random in the row.
    """
    rng = np.random.default_rng(seed)
    row = Row.empty(layout.length)
    while (room := layout.length - row.used) >= SHORTEST_DOCUMENT:
        document = stream.draw(rng)
        if layout.size(document) > room:
            filler = stream.filler(document, rng)
            if filler is None:
                break
            document = _cut(filler, layout, room)
        row.add(document, layout)
    for latents_CHW in row.latents:
        row.noise.append(rng.standard_normal(latents_CHW.shape, np.float32))
        row.time.append(int(rng.integers(TIME_LEVELS)) / TIME_LEVELS)
    return row


def _cut(passage: Document, layout: Layout, room: int) -> Document:
    if layout.size(passage) <= room:
        return passage
    (text,) = passage.segments
    assert isinstance(text, TextSegment)
    return Document((TextSegment(text.ids[: room - 1]),), cut=True)


def collate(rows: list[Row], step: int, layout: Layout) -> MultimodalBatch:
    """Rows -> batch.

    Args:
        rows: B rows of equal length.
        step: that the batch belongs to.
        layout: of the rows.
    """
    target_N = np.concatenate([row.target_S for row in rows])
    modality_BS = np.stack([row.modality_S for row in rows])
    modality_N = modality_BS.reshape(-1)
    (target_place_L,) = np.nonzero(target_N != NO_TARGET)
    # What is predicted at a place is the next place's token, which says whose loss it is.
    target_modality_L = modality_N[target_place_L + 1]
    diffused = layout.blocks[layout.diffused].modality_id if layout.diffused else None
    patch_N = modality_N == diffused if diffused else np.zeros(0, bool)
    return MultimodalBatch(
        token_BS=torch.from_numpy(np.stack([row.token_S for row in rows])),
        modality_BS=torch.from_numpy(modality_BS),
        document_BS=torch.from_numpy(np.stack([row.document_S for row in rows])),
        position_BS=torch.from_numpy(np.stack([row.position_S for row in rows])),
        image_BS=torch.from_numpy(np.stack([row.image_S for row in rows])),
        target_place_L=torch.from_numpy(target_place_L),
        target_L=torch.from_numpy(target_N[target_place_L]),
        target_modality_L=torch.from_numpy(target_modality_L),
        patch_place_M=torch.from_numpy(np.nonzero(patch_N)[0]),
        latents_NCHW=_images([each for row in rows for each in row.latents], layout.latent_shape),
        noise_NCHW=_images([each for row in rows for each in row.noise], layout.latent_shape),
        time_N=torch.tensor([each for row in rows for each in row.time], dtype=torch.float32),
        counts=_counts(modality_N, layout),
        target_counts=_counts(target_modality_L, layout),
        step=step,
    )


def _images(arrays: list[np.ndarray], shape: tuple[int, int, int]) -> torch.Tensor:
    if not arrays:
        return torch.zeros(0, *shape)
    return torch.from_numpy(np.stack(arrays).astype(np.float32, copy=False))


def _counts(modality_K: np.ndarray, layout: Layout) -> dict[str, int]:
    return {name: int((modality_K == i).sum()) for i, name in enumerate(layout.modalities)}
