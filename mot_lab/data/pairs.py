"""Pictures with captions of a held-out split, whatever they are of: what metrics are measured on.

Shapes: N pictures of H x W pixels.
"""

from collections.abc import Sequence
from typing import Protocol

import numpy as np


class Pairs(Protocol):
    """Pairs 0, 1, .. in a fixed order."""

    def references(self, place: int) -> list[str]:
        """Every caption of a picture."""

    def prompt(self, place: int) -> str:
        """The caption that a picture is drawn for."""

    def pictures(self, start: int, count: int) -> np.ndarray:
        """The pictures before they were encoded, uint8 [count, H, W, 3]."""

    def encoded(self, count: int) -> np.ndarray:
        """The first pictures as the image tokenizer gives them, [count, ..]."""

    @property
    def longest_caption(self) -> int:
        """Tokens of the longest caption."""


def caption_of(captions: Sequence[str], place: int) -> str:
    """The caption that is used as the prompt of a picture: another one from picture to picture."""
    return captions[place % len(captions)]
