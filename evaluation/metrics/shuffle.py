"""Shuffles in which nothing keeps its place: what a floor is measured with."""

import numpy as np


def derangement(count: int, seed: int = 0) -> np.ndarray:
    """A random cycle through ``count`` items: position i gets another item's caption.

    A plain permutation leaves one item in place on average, and that item scores like a real one.

    Returns:
        int [count], a permutation without fixed points (Sattolo's algorithm).

    Raises:
        ValueError: fewer than two items.
    """
    if count < 2:
        raise ValueError(f"{count} items cannot be shuffled: a floor needs at least two")
    generator = np.random.default_rng(seed)
    order = np.arange(count)
    for last in range(count - 1, 0, -1):
        other = int(generator.integers(last))
        order[[last, other]] = order[[other, last]]
    return order
