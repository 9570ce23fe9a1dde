"""Which combinations of known emojis belong to which split, decided by hashes alone.

Two emojis that meet in a scene are a pair, and every pair belongs to train, val or test; a scene
of one emoji is a pair of that emoji with its place and ground. So a held-out scene always shows a
combination that no training scene shows.

Levels: 0 train, 1 val, 2 test. Shapes: E emojis, K = E * cells * grounds scenes of one emoji.
"""

import hashlib
from collections.abc import Sequence

import numpy as np

VAL, TEST = 1, 2
# Share of all pairs that val and test hold each.
HELD_OUT = 0.1
# On the diagonal of the pairs: an emoji is never drawn twice in one scene.
NEVER = 255


class Holdout:
    """The levels of all pairs and of all scenes of one emoji.

    Attributes:
        pair_EE: uint8, level of each unordered pair; ``NEVER`` on the diagonal.
        single_K: uint8, level of (emoji, cell, ground), flattened in that order.
        pairs: for each level, its pairs, int [pairs, 2].
        singles: for each level, its flat indices into ``single_K``.
    """

    def __init__(self, keys: Sequence[str], cells: int, grounds: int) -> None:
        """Args: keys: a stable name of each emoji; cells, grounds: how many there are."""
        emoji_E = np.array([_hash(key) for key in keys], dtype=np.uint64)
        first, second = np.triu_indices(len(keys), k=1)
        low = np.minimum(emoji_E[first], emoji_E[second])
        high = np.maximum(emoji_E[first], emoji_E[second])
        level = _levels(_mix(low + _mix(high)))
        self.pair_EE = np.full((len(keys), len(keys)), NEVER, dtype=np.uint8)
        self.pair_EE[first, second] = self.pair_EE[second, first] = level
        self.pairs = [np.stack([first, second], 1)[level == each] for each in range(3)]

        place = np.arange(cells * grounds, dtype=np.uint64)
        self.single_K = _levels(_mix(emoji_E[:, None] + _mix(place + np.uint64(1))[None]).ravel())
        self.singles = [np.flatnonzero(self.single_K == each) for each in range(3)]


def _levels(hashes: np.ndarray) -> np.ndarray:
    """The smallest tenth of the hashes is test, the next val: exact shares, even of few pairs."""
    held = max(1, round(HELD_OUT * len(hashes)))
    order = np.argsort(hashes, kind="stable")
    levels = np.zeros(len(hashes), dtype=np.uint8)
    levels[order[:held]] = TEST
    levels[order[held : 2 * held]] = VAL
    return levels


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")


def _mix(x: np.ndarray) -> np.ndarray:
    """splitmix64: spreads uint64 values evenly (Steele, Lea, Flood 2014)."""
    with np.errstate(over="ignore"):
        x = x + np.uint64(0x9E3779B97F4A7C15)
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
