"""One answer while it is written: which tokens may come next, and what has come.

Shapes: V vocabulary, C x H x W latents.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from mot_lab.data.documents import CodeSegment, ImageSegment, Segment, TextSegment
from mot_lab.data.interface import TEXT
from mot_lab.data.packing import TEXT_ID, Layout
from mot_lab.generation.prompts import (
    FREE,
    Piece,
    Prompt,
    document_piece,
    picture_piece,
    token_piece,
    without_text,
)
from mot_lab.generation.sampling import Sampling

State = tuple[str | None, bool]  # the block, and whether one may be opened or it may end


class Writer:
    """The answer to one prompt.

    Args:
        prompt: checked.
        layout: of documents.
        sampling: its limits and seed.
        index: of the prompt among all; the answer depends on the others in nothing.

    Attributes:
        rng: of everything random in the answer.
        answer: segments so far; empty texts are none.
        block: the modality of the block that is being written, None in text.
        done: nothing more is to come.
    """

    def __init__(self, prompt: Prompt, layout: Layout, sampling: Sampling, index: int) -> None:
        self.prompt = prompt
        self.layout = layout
        self.sampling = sampling
        self.rng = np.random.default_rng((sampling.seed, index))
        self.answer: list[Segment] = []
        self.block = prompt.first_block
        self.done = False
        self._open: list[int] = []  # ids of the text, or codes of the block, that is being written
        self._texts = 0
        self._blocks = 0
        self._modality = {block.begin: name for name, block in layout.blocks.items()}

    @property
    def draws(self) -> bool:
        """A picture must now be denoised."""
        return self.block is not None and self.block == self.layout.diffused

    @property
    def guided(self) -> bool:
        """The block is one that guidance applies to: a picture."""
        return self.block is not None and self.layout.blocks[self.block].length is not None

    @property
    def begins_block(self) -> bool:
        """A block was opened and has nothing in it yet."""
        return self.block is not None and not self._open

    def state(self) -> State:
        """What decides which tokens are `Vocabulary.barred`."""
        if self.block is None:
            free = self.prompt.want == FREE and self._blocks < self.sampling.max_blocks
            return None, free
        return self.block, self.layout.blocks[self.block].length is None and bool(self._open)

    def first_piece(self) -> Piece:
        """What is fed first."""
        return document_piece(self.prompt.segments, self.block, self.layout)

    def unconditional_piece(self) -> Piece:
        """The document up to the block just opened, without any text."""
        segments = without_text([*self.prompt.segments, *self.answer])
        return document_piece(segments, self.block, self.layout)

    def take(self, token: int) -> Piece:
        """Go on with a token that is allowed; returns what is to be fed."""
        if self.block is None:
            return self._take_text(token)
        block = self.layout.blocks[self.block]
        if token == block.end:
            self._close_block()
            return token_piece([token], [TEXT_ID])
        assert block.first_code is not None
        self._open.append(token - block.first_code)
        if len(self._open) < (block.length or self.sampling.max_codes):
            return token_piece([token], [block.modality_id])
        self._close_block()
        return token_piece([token, block.end], [block.modality_id, TEXT_ID])

    def take_picture(self, latents_CHW: np.ndarray) -> Piece:
        """Go on with the picture that was drawn."""
        picture = ImageSegment(latents_CHW)
        self.answer.append(picture)
        self._end_block()
        return picture_piece(picture, self.layout)

    def _take_text(self, token: int) -> Piece:
        name = self._modality.get(token)
        if token == self.layout.eos or name is not None:
            self._close_text()
            self.block, self.done = name, name is None
        else:
            self._open.append(token)
            self._texts += 1
            if self._texts == self.sampling.max_tokens:
                self._close_text()
                self.done = True
        return token_piece([token], [TEXT_ID])

    def _close_text(self) -> None:
        if self._open:
            self.answer.append(TextSegment(np.array(self._open)))
        self._open = []

    def _close_block(self) -> None:
        assert self.block is not None
        self.answer.append(CodeSegment(self.block, np.array(self._open)))
        self._open = []
        self._end_block()

    def _end_block(self) -> None:
        # A block that the prompt opened is no choice of the model's, but a limit is a limit.
        self._blocks += 1
        self.block = None
        self.done = self.prompt.want not in (TEXT, FREE)


class Vocabulary:
    """Which tokens of the joint vocabulary may come next.

    Args:
        layout: of documents.
        size: V.
        device: of the masks.
    """

    def __init__(self, layout: Layout, size: int, device: torch.device) -> None:
        self.layout = layout
        self.size = size
        self.device = device
        self._masks: dict[State, Tensor] = {}

    @property
    def text(self) -> int:
        """Token ids of text there are, special tokens included."""
        return self.size - sum(block.size for block in self.layout.blocks.values())

    def barred(self, states: Sequence[State]) -> Tensor:
        """bool [K, V], or [1, V] where all are alike: what may not follow, for K `Writer.state`.

        In text: text and ``<eos>`` may, and the begin tokens where blocks may be opened. In a
        block: its codes, and its end token where it has no fixed length and is not empty.
        """
        different = states[:1] if len(set(states)) == 1 else states
        for state in different:
            if state not in self._masks:
                self._masks[state] = ~self._mask(*state)[None].to(self.device)
        masks = [self._masks[state] for state in different]
        return masks[0] if len(masks) == 1 else torch.cat(masks)

    def _mask(self, name: str | None, open_or_end: bool) -> Tensor:
        mask_V = torch.zeros(self.size, dtype=torch.bool)
        if name is not None:
            block = self.layout.blocks[name]
            assert block.first_code is not None
            mask_V[block.first_code : block.first_code + block.size] = True
            mask_V[block.end] = open_or_end
            return mask_V
        mask_V[: self.text] = True
        mask_V[[self.layout.pad, self.layout.bos]] = False
        for block in self.layout.blocks.values():
            mask_V[block.begin], mask_V[block.end] = open_or_end, False
        return mask_V
