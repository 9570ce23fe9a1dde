"""Documents packed into rows, rows collated into batches.

Every token is laid out as ``<bos> text .. <boi> patches <eoi> .. <eos>``; begin and end tokens
belong to the text tower. A row is a function of (seed, index), noise included.

Shapes: B rows, S positions, P patches per image, N images, C x H x W latents.
"""

from dataclasses import dataclass, field

import numpy as np
import torch

from mot_lab.batch import PADDING, MultimodalBatch
from mot_lab.data.documents import Document, DocumentStream, TextSegment
from mot_lab.tokens.text import TextTokenizer

TEXT, IMAGE = 0, 1
MODALITIES = ("text", "image")
NO_TARGET = -100
TIME_LEVELS = 1000
SHORTEST_DOCUMENT = 4  # <bos>, two tokens, <eos>: a gap smaller than this stays padding


@dataclass(frozen=True)
class Layout:
    """How documents are laid out in a row.

    Attributes:
        length: S.
        patches: P, places per image.
        pad, bos, eos, boi, eoi: token ids.
    """

    length: int
    patches: int
    pad: int
    bos: int
    eos: int
    boi: int
    eoi: int

    @classmethod
    def of(cls, texts: TextTokenizer, length: int, patches: int) -> "Layout":
        """With a tokenizer's special tokens."""
        special = (texts.pad_id, texts.bos_id, texts.eos_id, texts.boi_id, texts.eoi_id)
        return cls(length, patches, *special)

    def size(self, document: Document) -> int:
        """Places a document takes."""
        inside = sum(
            len(each.ids) if isinstance(each, TextSegment) else self.patches + 2
            for each in document.segments
        )
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
        start, tokens, images = self.used, [layout.bos], []
        for segment in document.segments:
            if isinstance(segment, TextSegment):
                tokens += segment.ids.tolist()
            else:
                images.append((start + len(tokens) + 1, segment))
                tokens += [layout.boi, *[0] * layout.patches, layout.eoi]
        if not document.cut:
            tokens.append(layout.eos)
        end = start + len(tokens)
        place = slice(start, end)
        self.token_S[place] = tokens
        self.modality_S[place] = TEXT
        self.document_S[place] = self.documents
        self.position_S[place] = np.arange(len(tokens))
        self.target_S[start : end - 1] = tokens[1:]
        for first, segment in images:
            patches = slice(first, first + layout.patches)
            self.modality_S[patches] = IMAGE
            self.image_S[patches] = len(self.latents)
            # No text is predicted at <boi> (Transfusion, footnote 8) nor at any patch.
            self.target_S[first - 1 : first + layout.patches] = NO_TARGET
            self.latents.append(segment.latents_CHW)
        self.used = end
        self.documents += 1


def pack_row(stream: DocumentStream, layout: Layout, seed: tuple[int, ...]) -> Row:
    """A full row: documents as they are drawn; the gap that the next one does not fit into is
    filled with prose cut to it. Noise and noise levels are drawn after the documents.

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
            document = _cut(stream.passage(rng), layout, room)
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


def collate(rows: list[Row], step: int, latent_shape: tuple[int, int, int]) -> MultimodalBatch:
    """Rows -> batch.

    Args:
        rows: B rows of equal length.
        step: that the batch belongs to.
        latent_shape: (C, H, W), for batches without any image.
    """
    target_N = np.concatenate([row.target_S for row in rows])
    modality_BS = np.stack([row.modality_S for row in rows])
    (target_place_L,) = np.nonzero(target_N != NO_TARGET)
    (patch_place_M,) = np.nonzero(modality_BS.reshape(-1) == IMAGE)
    counts = {name: int((modality_BS == i).sum()) for i, name in enumerate(MODALITIES)}
    return MultimodalBatch(
        token_BS=torch.from_numpy(np.stack([row.token_S for row in rows])),
        modality_BS=torch.from_numpy(modality_BS),
        document_BS=torch.from_numpy(np.stack([row.document_S for row in rows])),
        position_BS=torch.from_numpy(np.stack([row.position_S for row in rows])),
        image_BS=torch.from_numpy(np.stack([row.image_S for row in rows])),
        target_place_L=torch.from_numpy(target_place_L),
        target_L=torch.from_numpy(target_N[target_place_L]),
        patch_place_M=torch.from_numpy(patch_place_M),
        latents_NCHW=_images([each for row in rows for each in row.latents], latent_shape),
        noise_NCHW=_images([each for row in rows for each in row.noise], latent_shape),
        time_N=torch.tensor([each for row in rows for each in row.time], dtype=torch.float32),
        counts=counts,
        step=step,
    )


def _images(arrays: list[np.ndarray], shape: tuple[int, int, int]) -> torch.Tensor:
    if not arrays:
        return torch.zeros(0, *shape)
    return torch.from_numpy(np.stack(arrays).astype(np.float32, copy=False))
