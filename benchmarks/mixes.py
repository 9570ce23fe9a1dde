"""Mixes of modalities that works are timed with, and the batches' places that they make.

Shapes: B rows, S positions.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise

import torch
from torch import Tensor

NAMES = ("text", "image", "speech")
# Runs of tokens in a row as shares of a document: (modality id, share).
MIXES: Mapping[str, tuple[tuple[int, float], ...]] = {
    "50/50": ((0, 0.5), (1, 0.5)),
    "90/10": ((0, 0.9), (1, 0.1)),
    "one absent": ((0, 1.0),),
    "three modalities": ((0, 0.34), (1, 0.33), (2, 0.33)),
    "short captions, long images": ((0, 0.05), (1, 0.95)),
}
# In a row, as shares of it: those of the demo are mostly 25 to 38 places of 128 long.
DOCUMENTS = (0.3, 0.26, 0.23, 0.21)


def modalities_of(mix: str) -> tuple[str, ...]:
    """Of an arm that the mix is for: at least two, one of which may be absent."""
    return NAMES[: max(2, *(identity + 1 for identity, _ in MIXES[mix]))]


@dataclass(frozen=True)
class Places:
    """Ids [B, S] of a batch without padding: rows of equal documents, images seen both ways."""

    modality_BS: Tensor
    document_BS: Tensor
    image_BS: Tensor
    position_BS: Tensor

    @classmethod
    def of_mix(cls, mix: str, rows: int, row_length: int) -> "Places":
        """Documents of one run per modality, as long as the mix says."""
        modality, document, image, position = torch.full((4, row_length), -1)
        for number, (begin, end) in enumerate(_runs(DOCUMENTS, row_length)):
            document[begin:end] = number
            position[begin:end] = torch.arange(end - begin)
            identities, shares = zip(*MIXES[mix], strict=True)
            runs = _runs(shares, end - begin)
            for identity, (first, last) in zip(identities, runs, strict=True):
                run = slice(begin + first, begin + last)
                modality[run] = identity
                image[run] = number if identity == 1 else -1
        ids = (each.expand(rows, -1) for each in (modality, document, image, position))
        return cls(*(each.contiguous() for each in ids))

    def to(self, device: torch.device) -> "Places":
        """On a device."""
        return Places(*(getattr(self, name).to(device) for name in self.__dataclass_fields__))


def _runs(shares: Sequence[float], length: int) -> list[tuple[int, int]]:
    """Begin and end of each share of a length."""
    ends = [round(seen * length) for seen in accumulate(shares)]
    return list(pairwise([0, *ends]))
